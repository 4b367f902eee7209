//! What a lesson is typed into: its nodes, the cable between them, a daemon and a shell on each.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, poll};

use super::{
    format::{Lesson, NodeSpec, System},
    job::Output,
    lang::Lang,
    needs::ROOTS_OWN,
    shell::{End, Failure, Shell},
    watch,
};
use crate::{
    names::NetnsRef,
    netlink::{LinkRef, link_state, set_up},
    sys::{
        cause_text,
        child::spawn_in,
        clock,
        netns::{NetnsFile, create_anonymous},
        packet::keep_stamping,
    },
};

/// A machine of a lesson.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub netns: NetnsFile,
    /// The control socket of its daemon, if there is one.
    pub socket: PathBuf,
    shell: Option<Shell>,
    daemon: Option<Child>,
}

/// Everything that is there while a lesson runs. All of it goes with the value.
#[derive(Debug)]
pub struct World {
    system: System,
    nodes: Vec<Node>,
    /// The namespace of the cable, which has to be held.
    _cable: Option<NetnsFile>,
    /// So that the frames of several nodes are in their true order from the first one on.
    _stamping: OwnedFd,
    jobs: Vec<Job>,
}

/// A command in the background.
#[derive(Debug)]
struct Job {
    command: String,
    output: Output,
    /// Whether it has been said that it printed too much.
    is_over: bool,
}

impl World {
    /// Builds the nodes of `lesson`, with daemons if it runs on this program. Must be called inside of
    /// a world of its own: see [`enter`](super::enter::enter).
    ///
    /// # Errors
    /// What could not be built.
    pub fn build(lesson: &Lesson, system: System) -> Result<Self, String> {
        furnish().map_err(|cause| {
            let cause = cause_text(&cause);
            format!("make the lesson's files below /run: {cause}; is /run a tmpfs of its own?")
        })?;
        let nodes = match &lesson.nodes[..] {
            [only] if only.underlay.is_none() => {
                vec![Node::new(only, NetnsFile::current().map_err(text)?)?]
            }
            several => several
                .iter()
                .map(|spec| Node::new(spec, namespace(&spec.name)?))
                .collect::<Result<_, String>>()?,
        };
        let stamping = keep_stamping().map_err(|cause| {
            let cause = cause_text(&cause);
            format!("have frames stamped by the kernel: {cause}; see ulimit -n")
        })?;
        let mut world = Self {
            system,
            _stamping: stamping,
            _cable: cable(&lesson.nodes, &nodes)?,
            nodes,
            jobs: Vec::new(),
        };
        if world.nodes.len() > 1 {
            for node in &world.nodes {
                node.word().map_err(|cause| {
                    let name = &node.name;
                    format!("make the command {name}: {}; see /run", cause_text(&cause))
                })?;
            }
        }
        if system == System::Tapswitch {
            for node in &mut world.nodes {
                node.start_daemon()?;
            }
        }
        Ok(world)
    }

    /// What the lesson runs on.
    pub fn system(&self) -> System {
        self.system
    }

    /// The machines, in the order of the file.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The machines as they are watched.
    pub(super) fn watched(&self) -> Vec<watch::Node> {
        let nodes = self.nodes.iter().map(|node| watch::Node {
            name: node.name.clone(),
            switch: match self.system {
                System::Tapswitch => watch::Switch::Tapswitch(node.socket.clone()),
                System::Kernel => watch::Switch::Kernel(NetnsRef::Path(path(&node.netns).into())),
            },
        });
        nodes.collect()
    }

    pub(super) fn node(&self, name: &str) -> Result<&Node, String> {
        let node = self.nodes.iter().find(|node| node.name == name);
        node.ok_or_else(|| format!("find node {name}: there is none; check the lesson"))
    }

    /// Types `command` on a node.
    pub(super) fn run(
        &mut self,
        node: &str,
        command: &str,
        failure: Failure,
        print: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<End, String> {
        let index = self.nodes.iter().position(|known| known.name == node);
        let node = index.and_then(|index| self.nodes.get_mut(index));
        let node = node.ok_or("find the node: there is none; check the lesson")?;
        let failed = |name: &str, cause: io::Error| {
            let cause = cause_text(&cause);
            format!("type into the shell of {name}: {cause}; is there an sh?")
        };
        let shell = match &mut node.shell {
            Some(shell) => shell,
            none => {
                let (system, socket) = (self.system, node.socket.clone());
                let shell = Shell::start(&node.netns, |command| {
                    environment(command, system, &socket);
                });
                none.insert(shell.map_err(|cause| failed(&node.name, cause))?)
            }
        };
        let end = shell.run(command, failure, print);
        let end = end.map_err(|cause| failed(&node.name, cause))?;
        if !matches!(end, End::Code(_)) {
            node.shell = None;
        }
        Ok(end)
    }

    /// Starts `command` in the background of a node's shell, and returns what it prints.
    pub(super) fn start(&mut self, node: &str, command: &str) -> Result<Output, String> {
        let failed = |cause: &str| format!("start {command} in the background: {cause}");
        let path = Path::new(DIRECTORY).join(format!(".job-{}", self.jobs.len()));
        let made = Output::new(&path).map_err(|cause| {
            let (path, cause) = (path.display(), cause_text(&cause));
            failed(&format!("make {path}: {cause}; see /run and ulimit -n"))
        });
        let output = made?;
        // Without a shell between, so that $! is the program.
        let is_simple = !command.contains(['\n', '|', ';', '&', '#']);
        let shown = path.display();
        let line = match is_simple {
            true => format!("{{ {command} & }} >{shown} 2>&1"),
            false => format!("{{ {{ {command}\n}} & }} >{shown} 2>&1"),
        };
        let end = self.run(node, &line, Failure::IsTheEnd, &mut |_| Ok(()))?;
        if end != End::Code(0) {
            let code = || format!("exit code {}", end.code());
            let because = end.because(Lang::En).map_or_else(code, ToOwned::to_owned);
            return Err(failed(&because));
        }
        output.keep().map_err(|cause| {
            let cause = cause_text(&cause);
            failed(&format!("read what it prints: {cause}; see ulimit -u"))
        })?;
        self.jobs.push(Job {
            command: command.to_owned(),
            output: output.clone(),
            is_over: false,
        });
        Ok(output)
    }

    /// What commands in the background have printed since the last call, with the command of each.
    pub(super) fn news(&self) -> Vec<(String, String)> {
        let news = self.jobs.iter().filter_map(|job| {
            let text = job.output.news()?;
            Some((job.command.clone(), text))
        });
        news.collect()
    }

    /// The commands in the background that were ended since the last call, as they printed too much.
    pub(super) fn floods(&mut self) -> Vec<String> {
        let jobs = self.jobs.iter_mut();
        let new = jobs.filter(|job| !job.is_over && job.output.is_flood());
        new.map(|job| {
            job.is_over = true;
            job.command.clone()
        })
        .collect()
    }
}

/// For a shell that somebody sits at.
impl World {
    /// Starts a program in a node's namespace, with what its scripts have in their environment. It
    /// has the terminal, and is not bound to the calling thread.
    pub(super) fn spawn_here(&self, node: &str, command: &mut Command) -> Result<Child, String> {
        let node = self.node(node)?;
        environment(command, self.system, &node.socket);
        let started = node.netns.run_in(|| command.spawn()).map_err(text)?;
        started.map_err(|cause| {
            let program = command.get_program().display().to_string();
            format!("start {program}: {}; set SHELL", cause_text(&cause))
        })
    }
}

impl Node {
    fn new(spec: &NodeSpec, netns: NetnsFile) -> Result<Self, String> {
        // The first device of every namespace is lo.
        set_up(Some(&netns), 1).map_err(text)?;
        Ok(Self {
            name: spec.name.clone(),
            netns,
            socket: Path::new(SOCKETS).join(format!("{}.sock", spec.name)),
            shell: None,
            daemon: None,
        })
    }

    /// A command of the node's name, which types its arguments there.
    fn word(&self) -> io::Result<()> {
        let (netns, socket) = (path(&self.netns), self.socket.display());
        let script = format!(
            "#!/bin/sh\nexport TAPSWITCH_SOCKET={socket}\n\
             exec nsenter --net={netns} \"${{@:-${{SHELL:-sh}}}}\"\n"
        );
        executable(&Path::new(WORDS).join(&self.name), &script)
    }

    fn start_daemon(&mut self) -> Result<(), String> {
        let name = &self.name;
        let failed = |cause: &dyn std::fmt::Display| format!("start tapswitch on {name}: {cause}");
        let log = Path::new(SOCKETS).join(format!("{name}.log"));
        let stderr = fs::File::create(&log).map_err(|cause| failed(&cause_text(&cause)))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["run", "--workers", "1", "--name", name, "--socket"])
            .arg(&self.socket)
            .env_remove("TAPSWITCH_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let daemon = spawn_in(&self.netns, &mut command);
        let mut daemon = daemon.map_err(|cause| failed(&cause_text(&cause)))?;
        let mut line = String::new();
        let mut is_late = false;
        if let Some(stdout) = daemon.stdout.take() {
            // It says ready, or ends.
            let mut said = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
            is_late = poll(&mut said, READY) == Ok(0);
            if !is_late {
                drop(BufReader::new(stdout).read_line(&mut line));
            }
        }
        self.daemon = Some(daemon);
        match line.trim() {
            "ready" => Ok(()),
            _ if is_late => Err(failed(&"it is not ready after 20 seconds; try again")),
            _ => Err(failed(&fs::read_to_string(log).unwrap_or_default().trim())),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // It has nothing that outlives it: its devices go with its descriptors.
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}

/// What every program of the lesson has in its environment.
fn environment(command: &mut Command, system: System, socket: &Path) {
    let own = [PathBuf::from(PROGRAMS)].into_iter();
    let path = env::var_os("PATH").unwrap_or_default();
    let theirs = env::split_paths(&path).chain(ROOTS_OWN.map(PathBuf::from));
    let all = own.chain(theirs).chain([PathBuf::from(WORDS)]);
    let path = env::join_paths(all).unwrap_or_else(|_| OsString::from(PROGRAMS));
    command
        .env("PATH", path)
        .env("LAB", DIRECTORY)
        .env("LC_ALL", "C.UTF-8")
        .env("TAPSWITCH_SOCKET", socket)
        .env("TAPSWITCH_LAB_ON", system.name())
        .env_remove("TAPSWITCH_LOG")
        .current_dir(DIRECTORY);
}

/// Makes the directories below `/run`, and this program a command.
fn furnish() -> io::Result<()> {
    for directory in [DIRECTORY, PROGRAMS, WORDS, SOCKETS] {
        fs::create_dir_all(directory)?;
    }
    // The number that /proc has for this process, which may be an outer one.
    let own = fs::read_link("/proc/self")?;
    let program = Path::new("/proc").join(own).join("exe");
    symlink(program, Path::new(PROGRAMS).join("tapswitch"))
}

pub(super) fn executable(path: &Path, script: &str) -> io::Result<()> {
    fs::write(path, script)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn namespace(name: &str) -> Result<NetnsFile, String> {
    let fd = create_anonymous().map_err(text)?;
    NetnsFile::from_file(fd.into(), name.to_owned()).map_err(text)
}

/// Joins the nodes that have an underlay: a bridge in a namespace of its own.
fn cable(specs: &[NodeSpec], nodes: &[Node]) -> Result<Option<NetnsFile>, String> {
    if specs.iter().all(|spec| spec.underlay.is_none()) {
        return Ok(None);
    }
    let cable = NetnsFile::from_file(create_anonymous().map_err(text)?.into(), "cable".to_owned());
    let cable = cable.map_err(text)?;
    let quieten = || {
        for file in ["all", "default"] {
            let file = format!("/proc/sys/net/ipv6/conf/{file}/disable_ipv6");
            drop(fs::write(file, "1"));
        }
        for table in ["iptables", "ip6tables", "arptables"] {
            let file = format!("/proc/sys/net/bridge/bridge-nf-call-{table}");
            drop(fs::write(file, "0"));
        }
    };
    cable.run_in(quieten).map_err(text)?;
    ip(
        &cable,
        "link add cable type bridge mcast_snooping 0\nlink set cable up",
    )?;
    for (number, (spec, node)) in specs.iter().zip(nodes).enumerate() {
        let Some(net) = spec.underlay else {
            continue;
        };
        let (mtu, netns) = (spec.mtu, path(&node.netns));
        ip(
            &cable,
            &format!(
                "link add n{number} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {netns}\n\
                 link set n{number} master cable up"
            ),
        )?;
        // Otherwise an IPv6 address is not to be used for its first second.
        let flags = if net.addr().is_ipv6() { " nodad" } else { "" };
        ip(
            &node.netns,
            &format!("link set eth0 up\naddr add {net} dev eth0{flags}"),
        )?;
    }
    for (spec, node) in specs.iter().zip(nodes) {
        if spec.underlay.is_some() {
            wait_for_carrier(node)?;
        }
    }
    Ok(Some(cable))
}

/// Both ends are up, but the kernel may tell the first one a moment later.
fn wait_for_carrier(node: &Node) -> Result<(), String> {
    let link = LinkRef::Name("eth0".to_owned());
    let start = clock::now();
    loop {
        let state = link_state(Some(&node.netns), &link).map_err(text)?;
        if state.carrier || clock::now().since(start) > Duration::from_secs(2) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs `ip` once inside `netns` with each of `lines` as arguments.
fn ip(netns: &NetnsFile, lines: &str) -> Result<(), String> {
    batch("ip", netns, lines)
}

/// The same for a `program` that takes batches as `ip` does.
pub(super) fn batch(program: &str, netns: &NetnsFile, lines: &str) -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = env::split_paths(&path).chain(ROOTS_OWN.map(PathBuf::from));
    let mut command = Command::new(program);
    if let Ok(path) = env::join_paths(all) {
        command.env("PATH", path);
    }
    command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let output = spawn_in(netns, &mut command).and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // It may end at the first line, and then says why.
            drop(stdin.write_all(lines.as_bytes()));
        }
        child.wait_with_output()
    });
    let failed = |cause: &str| {
        let next = format!("; {program} ");
        let (lines, place) = (lines.replace('\n', &next), netns.label());
        format!("run {program} {lines} in {place}: {cause}; see the kernel's log")
    };
    let output = output.map_err(|cause| failed(&cause_text(&cause)))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// How other processes name `netns`, as long as this process has it open.
fn path(netns: &NetnsFile) -> String {
    format!("/proc/{}/fd/{}", process::id(), netns.as_fd().as_raw_fd())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// How long a daemon may take to be ready, in milliseconds.
const READY: u16 = 20_000;
/// Where scripts run.
pub(super) const DIRECTORY: &str = "/run/lab";
/// Commands that come before all others.
pub(super) const PROGRAMS: &str = "/run/lab-programs";
/// Commands that come after all others.
const WORDS: &str = "/run/lab-words";
/// The daemons' sockets.
const SOCKETS: &str = "/run/tapswitch";
