//! Open vSwitch with its userspace datapath: a database and a daemon for each node, never those of
//! the machine.

use std::{path::Path, slice};

use super::{
    Plain, Shape, Unavailable,
    daemon::{Daemon, Directory},
    netns::{command, require, run},
    site::Site,
};
use crate::sys::netns::NetnsFile;

pub(super) fn build(shape: Shape, tso: bool) -> Result<Plain, Unavailable> {
    let programs = [
        "ip",
        "ovs-vswitchd",
        "ovsdb-server",
        "ovsdb-tool",
        "ovs-vsctl",
    ];
    for program in programs {
        require(program)?;
    }
    if !Path::new(SCHEMA).exists() {
        let message = format!("{SCHEMA} is not there; install openvswitch-switch");
        return Err(Unavailable::NotInstalled(message));
    }
    if !tso && shape.mtu.is_some_and(|mtu| mtu > MAX_MTU) {
        return Err(Unavailable::Failed(format!(
            "build Open vSwitch: without TSO it reads {MAX_MTU} bytes from a TAP that was moved; \
             leave the MTU, or turn its TSO on"
        )));
    }
    let mut plain = Plain::new(Site::new(shape)?);
    plain.site.packet_sockets = shape.overlay;
    for number in 0..plain.site.nodes.len() {
        let directory = Directory::new("ovs")?;
        let node = &plain.site.nodes[number];
        let database = start(node, &directory, tso, &mut plain.daemons)?;
        plain.directories.push(directory);
        configure(&plain.site, number, &database)?;
        for (pod, _) in plain.site.pods_of(number) {
            plain.site.plug_device(number, pod, &format!("p{pod}"))?;
        }
    }
    if shape.overlay {
        plain.site.address_underlay("phy")?;
    }
    plain.site.address_pods()?;
    plain
        .site
        .introduce()
        .map_err(|error| match tso && shape.overlay {
            true => Unavailable::Failed(format!(
                "{error}; this version's TSO does not work over tunnels: measure it without"
            )),
            false => error,
        })?;
    Ok(plain)
}

/// Starts the two daemons of a node and returns the database's address.
fn start(
    node: &NetnsFile,
    directory: &Directory,
    tso: bool,
    daemons: &mut Vec<Daemon>,
) -> Result<String, Unavailable> {
    let file = directory.text("conf.db");
    run(node, &["ovsdb-tool", "create", &file, SCHEMA], "")?;
    let socket = directory.file("db.sock");
    let start = |program: &str, words: &[String]| {
        let mut command = command(program);
        command.args(words).env("OVS_RUNDIR", directory.text(""));
        let pid = directory.text(&format!("{program}.pid"));
        let control = directory.text(&format!("{program}.ctl"));
        command
            .arg(format!("--pidfile={pid}"))
            .arg(format!("--unixctl={control}"));
        command.arg("-vconsole:warn");
        Daemon::start(node, directory, program, &mut command)
    };
    let remote = format!("--remote=punix:{}", socket.display());
    let mut server = start("ovsdb-server", &[file, remote])?;
    server.wait_for("listen", || socket.exists())?;
    daemons.push(server);
    let database = format!("unix:{}", socket.display());
    // It looks at this once, when it starts.
    let tso = format!("other_config:userspace-tso-enable={tso}");
    let db = format!("--db={database}");
    run(
        node,
        &[
            "ovs-vsctl",
            &db,
            "--no-wait",
            "init",
            "--",
            "set",
            "Open_vSwitch",
            ".",
            &tso,
        ],
        "",
    )?;
    daemons.push(start("ovs-vswitchd", slice::from_ref(&database))?);
    Ok(database)
}

/// Makes the bridges. The pods have TAPs, which Open vSwitch makes and which are moved into the pods
/// then: at veth pairs, which it reads through packet sockets, it was a third slower and lost so much
/// that TCP sent again all the time. And without TSO a TAP gets finished checksums from the kernel,
/// where Open vSwitch would pass unfinished ones of a veth pair on.
fn configure(site: &Site, number: usize, database: &str) -> Result<(), Unavailable> {
    let addresses = site.shape.addresses.saturating_add(1024);
    let mut line = format!(
        "ovs-vsctl --db={database} --timeout=10 -- add-br int -- set bridge int \
         datapath_type=netdev other_config:mac-table-size={addresses}"
    );
    for (pod, _) in site.pods_of(number) {
        line += &format!(" -- add-port int p{pod} -- set interface p{pod} type=tap");
    }
    if site.shape.overlay
        && let Some((_, _, other)) = site.vteps().nth(number)
    {
        line += &format!(
            " -- add-br phy -- set bridge phy datapath_type=netdev -- add-port phy u0 \
             -- add-port int vx -- set interface vx type=vxlan options:remote_ip={other} \
             options:key={} options:csum=true",
            Site::VNI
        );
    }
    let words: Vec<_> = line.split_whitespace().collect();
    run(&site.nodes[number], &words, "").map(drop)
}

/// What it takes for the MTU of a device that it does not see any more.
const MAX_MTU: u32 = 1500;
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
