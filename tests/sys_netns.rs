//! Ports in real network namespaces: made, configured, undone, and gone with their namespace.

#[path = "sys_netns/change.rs"]
mod change;
mod common;
#[path = "sys_netns/frames.rs"]
mod frames;
#[path = "sys_netns/gone.rs"]
mod gone;
#[path = "sys_netns/plug.rs"]
mod plug;
#[path = "sys_netns/refuse.rs"]
mod refuse;

use std::{process::ExitCode, time::Duration};

use common::{Env, Netns};
use libtest_mimic::Trial;
use tapswitch::{attach::PlugRequest, names::IfName, wire::MacAddr};

const SECOND: Duration = Duration::from_secs(1);

/// Programs that it runs, its name, and itself.
type Test = (&'static [&'static str], &'static str, fn());

fn main() -> ExitCode {
    common::main(|env: &Env| -> Vec<Trial> {
        let tests = [
            plug::TESTS,
            refuse::TESTS,
            change::TESTS,
            gone::TESTS,
            frames::TESTS,
        ]
        .concat();
        let trial = |&(programs, name, body): &_| env.trial_with(programs, name, body);
        tests.iter().map(trial).collect()
    })
}

fn request(netns: &Netns) -> PlugRequest {
    let name = IfName::new("eth0").unwrap();
    let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
    PlugRequest::new(Some(netns.reference()), name, mac)
}

/// Everything that a port can be given.
fn full(netns: &Netns) -> PlugRequest {
    PlugRequest {
        mtu: 1400,
        addresses: vec![
            "192.0.2.10/24".parse().unwrap(),
            "2001:db8::10/64".parse().unwrap(),
        ],
        gateways: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        routes: vec![
            tapswitch::netlink::Route::new(
                "198.51.100.0/24".parse().unwrap(),
                "192.0.2.2".parse().ok(),
            ),
            tapswitch::netlink::Route::new("203.0.113.0/24".parse().unwrap(), None),
            tapswitch::netlink::Route::new(
                "2001:db8:1::/48".parse().unwrap(),
                "2001:db8::2".parse().ok(),
            ),
        ],
        tx_queue_len: 2345,
        ..request(netns)
    }
}

#[track_caller]
fn has(output: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(output.contains(wanted), "{wanted:?} is not in:\n{output}");
    }
}
