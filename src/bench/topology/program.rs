//! Any other program, called as [`super::System::Program`] says.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    Plain, Shape, Unavailable,
    daemon::{Daemon, Directory},
    netns::{command, path, require},
    site::Site,
};
use crate::{
    names::NetnsRef,
    sys::{cause_text, netns::NetnsFile},
};

pub(super) fn build(shape: Shape, line: &str) -> Result<Plain, Unavailable> {
    require("ip")?;
    let refused = |why: String| Err(Unavailable::Failed(format!("build {line:?}: {why}")));
    let mut words = line.split_whitespace();
    let Some(program) = words.next() else {
        return refused("there is no program in it; give a command line".to_owned());
    };
    if shape.pods != 2 {
        let pods = shape.pods;
        return refused(format!("a program joins 2 pods, not {pods}; ask for 2"));
    }
    let mut plain = Plain::new(Site::new(shape)?);
    let directory = Directory::new("program")?;
    let site = &plain.site;
    let mut daemons = Vec::new();
    let start = |node: usize, more: &[String]| {
        let mut command = command(program);
        command.args(words.clone()).args(more);
        let name = format!("program{node}");
        let mut daemon = Daemon::start(&site.nodes[node], &directory, &name, &mut command)?;
        daemon.wait_ready()?;
        Ok(daemon)
    };
    if shape.overlay {
        site.address_underlay("u0")?;
        for (number, (node, own, other)) in site.vteps().enumerate() {
            let unique = unique();
            let pod = NetnsName::new(&format!("{unique}-pod"), &site.pods[number].netns)?;
            let node = NetnsName::new(&format!("{unique}-node"), node)?;
            let names = [&pod, &node].map(|name| name.name.clone());
            let addresses = [own, other].map(|address| address.to_string());
            daemons.push(start(number, &[names, addresses].concat())?);
        }
    } else {
        let _first = NetnsName::new("nsA", &site.pods[0].netns)?;
        let _second = NetnsName::new("nsB", &site.pods[1].netns)?;
        daemons.push(start(0, &[])?);
    }
    plain.daemons = daemons;
    plain.directories.push(directory);
    plain.site.address_pods()?;
    plain.site.introduce()?;
    Ok(plain)
}

fn unique() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("bench-{}-{count}", process::id())
}

/// The name of a namespace; gone with the value, and the namespace stays.
#[derive(Debug)]
struct NetnsName {
    name: String,
    path: PathBuf,
}

impl NetnsName {
    fn new(name: &str, netns: &NetnsFile) -> Result<Self, Unavailable> {
        let path_of_name = Path::new(NetnsRef::DIRECTORY).join(name);
        let failed = |cause: String| {
            let target = path_of_name.display();
            Unavailable::Failed(format!(
                "name namespace {target}: {cause}; is /run private?"
            ))
        };
        fs::create_dir_all(NetnsRef::DIRECTORY).map_err(|cause| failed(cause_text(&cause)))?;
        File::create_new(&path_of_name).map_err(|cause| failed(cause_text(&cause)))?;
        // From here on it cleans up.
        let named = Self {
            name: name.to_owned(),
            path: path_of_name.clone(),
        };
        let none: Option<&str> = None;
        let source = path(netns);
        mount(Some(&*source), &named.path, none, MsFlags::MS_BIND, none)
            .map_err(|errno| failed(errno.to_string()))?;
        Ok(named)
    }
}

impl Drop for NetnsName {
    fn drop(&mut self) {
        // Fails only if it was not mounted, or somebody has deleted the name already.
        let _not_mounted = umount2(&self.path, MntFlags::MNT_DETACH);
        drop(fs::remove_file(&self.path));
        // The last name takes the directory along; `ip netns` makes it as it needs it.
        drop(fs::remove_dir(NetnsRef::DIRECTORY));
    }
}
