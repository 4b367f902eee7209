//! The switches that `tapswitch bench` measures: each is built, forwards everything as it is, tells
//! its counters, and leaves nothing behind.

#[path = "bench_topologies/checks.rs"]
mod checks;
mod common;

use std::{
    env, fs,
    process::{self, ExitCode},
};

use checks::{Before, check_datagrams, check_datagrams_of, check_forwarding, check_stream};
use common::Env;
use libtest_mimic::Trial;
use tapswitch::{
    bench::topology::{Shape, System, Topology, build, introduce},
    control::{api::Request, client::Client},
};

fn main() -> ExitCode {
    // A switch of our own is a child of this program: then it is `tapswitch` itself.
    let first = env::args().nth(1);
    if first.is_some_and(|word| ["run", "--socket"].contains(&&*word)) {
        return tapswitch::cli::run(env::args_os());
    }
    common::main(|env: &Env| {
        // tokio opens two descriptors once and for all.
        drop(Client::new("/run/nobody").request(&Request::Show));
        let mut trials: Vec<_> = sides()
            .into_iter()
            .flat_map(|side| side.trials(env))
            .collect();
        trials.push(env.trial_with(&["ip", "sh"], "a_program_joins_what_it_is_told", program));
        trials.push(env.trial(
            "what_cannot_be_built_is_refused_and_leaves_nothing",
            refusals,
        ));
        trials.push(env.trial_with(&["ip"], "sixteen_pods_know_each_other", sixteen));
        trials.push(env.trial_with(&["ip"], "larger_packets_pass_where_asked_for", jumbo));
        trials
    })
}

/// A system, and what its tests need.
#[derive(Clone)]
struct Side {
    name: &'static str,
    programs: &'static [&'static str],
    system: System,
    overlay: bool,
}

fn sides() -> Vec<Side> {
    vec![
        Side {
            name: "kernel",
            programs: &["ip", "bridge"],
            system: System::Kernel,
            overlay: true,
        },
        Side {
            name: "tapswitch",
            programs: &["ip"],
            system: System::Tapswitch {
                options: Vec::new(),
            },
            overlay: true,
        },
        Side {
            name: "open_vswitch",
            programs: &["ip", "ovs-vswitchd", "ovsdb-server", "ovs-vsctl"],
            system: System::OpenVswitch { tso: false },
            overlay: true,
        },
        Side {
            name: "open_vswitch_with_tso",
            programs: &["ip", "ovs-vswitchd", "ovsdb-server", "ovs-vsctl"],
            system: System::OpenVswitch { tso: true },
            overlay: false,
        },
        Side {
            name: "vde",
            programs: &["ip", "vde_switch"],
            system: System::Vde,
            overlay: false,
        },
    ]
}

impl Side {
    fn trials(self, env: &Env) -> Vec<Trial> {
        let trial = |what: &str, body: fn(&Self)| {
            let side = self.clone();
            let name = format!("{}_{what}", self.name);
            env.trial_with(self.programs, &name, move || body(&side))
        };
        let mut trials = vec![
            trial("on_one_node", |side| {
                side.check(shape(false, 2));
                side.check(shape(false, 3));
            }),
            trial("next_to_another_of_its_kind", Self::check_two),
        ];
        if self.overlay {
            trials.push(trial("on_an_overlay", |side| {
                side.check(shape(true, 2));
                side.check(shape(true, 3));
            }));
        }
        trials
    }

    fn build(&self, shape: Shape) -> Box<dyn Topology> {
        build(&self.system, shape).unwrap_or_else(|error| panic!("{shape:?}: {error}"))
    }

    /// Builds it, uses it, and looks whether anything stays.
    fn check(&self, shape: Shape) {
        let before = Before::look();
        let topology = self.build(shape);
        assert_eq!(topology.pods().len(), shape.pods);
        check_counts(self, &*topology);
        check_forwarding(topology.pods());
        drop(topology);
        before.check();
    }

    fn check_two(&self) {
        let before = Before::look();
        let first = self.build(shape(false, 2));
        let second = self.build(shape(false, 2));
        check_forwarding(first.pods());
        check_forwarding(second.pods());
        drop(first);
        check_forwarding(second.pods());
        drop(second);
        before.check();
    }
}

fn shape(overlay: bool, pods: usize) -> Shape {
    Shape {
        overlay,
        pods,
        mtu: None,
        addresses: 10_000,
    }
}

fn check_counts(side: &Side, topology: &dyn Topology) {
    let before = topology.counts();
    check_datagrams(&topology.pods()[0], &topology.pods()[1]);
    let counts = topology.counts();
    // Before TCP finds out how fast it may be.
    assert!(counts.lost.is_empty(), "{counts:?}");
    let has_processes = side.system != System::Kernel;
    assert_eq!(counts.cpu_ns.is_some(), has_processes);
    assert!(!has_processes || counts.cpu_ns > before.cpu_ns);
    let tells = matches!(side.system, System::Tapswitch { .. });
    assert_eq!(counts.syscalls.is_some(), tells);
    assert!(!tells || counts.syscalls > before.syscalls);
    assert!(!tells || counts.frames >= before.frames.map(|frames| frames + 6));
}

/// A program: a switch of our own, plugged by a shell that its first argument names this program to.
const SCRIPT: &str = r#"
own=$1 socket=/run/program.$$
shift
tap() { "$own" --socket $socket "$@" > /dev/null || exit 1; }
tap run --name $$ &
until [ -S $socket ]; do sleep 0.01; done
if [ $# = 4 ]; then
    tap vtep set --local $3 --netns $2
    tap bridge add br0 --vni 42 --peer $4
    tap port add a --bridge br0 --netns $1
else
    tap bridge add br0
    tap port add a --bridge br0 --netns nsA
    tap port add b --bridge br0 --netns nsB
fi
rm $socket*
echo ready
wait
"#;

fn program() {
    let path = "/run/program.sh";
    fs::write(path, SCRIPT).unwrap();
    let side = Side {
        name: "program",
        programs: &[],
        system: System::Program {
            line: format!("sh {path} /proc/{}/exe", process::id()),
        },
        overlay: true,
    };
    side.check(shape(false, 2));
    side.check_two();
    side.check(shape(true, 2));
    fs::remove_file(path).unwrap();
}

fn refusals() {
    let program = |line: &str| System::Program {
        line: line.to_owned(),
    };
    let jumbo = Shape {
        mtu: Some(9000),
        ..shape(false, 2)
    };
    let option = System::Tapswitch {
        options: vec!["--no-such-option".to_owned()],
    };
    for (system, shape, why) in [
        (System::Kernel, shape(false, 0), "0 pods"),
        (option, shape(false, 2), "--no-such-option"),
        (program(""), shape(false, 2), "give a command line"),
        (program("x"), shape(false, 3), "joins 2 pods, not 3"),
        (program("/no/such/file"), shape(true, 2), "no such file"),
        (
            program("ls /no/such/file"),
            shape(false, 2),
            "/no/such/file",
        ),
        (
            System::Vde,
            shape(true, 2),
            "VXLAN|vde_switch is not installed",
        ),
        (System::Vde, jumbo, "MTU|vde_switch is not installed"),
        (
            System::OpenVswitch { tso: false },
            jumbo,
            "TSO|is not installed|is not there",
        ),
    ] {
        let before = Before::look();
        let error = build(&system, shape).unwrap_err().to_string();
        assert!(why.split('|').any(|part| error.contains(part)), "{error}");
        before.check();
    }
}

fn sixteen() {
    for system in [
        System::Kernel,
        System::Tapswitch {
            options: vec!["--workers".to_owned(), "1".to_owned()],
        },
    ] {
        for overlay in [false, true] {
            let topology = build(&system, shape(overlay, 16)).unwrap();
            let pods = topology.pods();
            assert_eq!(pods.len(), 16);
            introduce(pods).unwrap();
            check_stream(&pods[0], &pods[15]);
        }
    }
}

fn jumbo() {
    for system in [
        System::Kernel,
        System::Tapswitch {
            options: Vec::new(),
        },
    ] {
        let shape = Shape {
            mtu: Some(9000),
            ..shape(false, 2)
        };
        let topology = build(&system, shape).unwrap();
        let pods = topology.pods();
        check_datagrams_of(&[8972], &pods[0], &pods[1]);
        // As much as the underlay itself takes: each system has its own way, TCP gets through.
        let shape = Shape {
            mtu: Some(1500),
            overlay: true,
            ..shape
        };
        let topology = build(&system, shape).unwrap();
        let pods = topology.pods();
        check_datagrams(&pods[0], &pods[1]);
        check_stream(&pods[0], &pods[1]);
    }
}
