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

use std::{process::ExitCode, time::Duration};

use common::{Env, Netns};
use libtest_mimic::Trial;
use tapswitch::{attach::PlugRequest, names::IfName, wire::MacAddr};

const SECOND: Duration = Duration::from_secs(1);

/// Programs that it runs, its name, and itself.
type Test = (&'static [&'static str], &'static str, fn());

fn main() -> ExitCode {
    common::main(|env: &Env| -> Vec<Trial> {
        let tests: &[Test] = &[
            (&[], "a_port_looks_as_it_was_asked_for", plug::looks),
            (&["ethtool"], "a_port_reports_its_speed", plug::speed),
            (
                &["ping"],
                "a_namespace_reaches_its_own_addresses",
                plug::own_address,
            ),
            (
                &[],
                "a_namespace_is_found_by_name_pid_and_path",
                plug::references,
            ),
            (&[], "a_host_port_is_renamed_in_place", plug::host_port),
            (
                &[],
                "a_move_keeps_everything_but_the_name",
                plug::move_resets_nothing,
            ),
            (
                &[],
                "a_wrong_namespace_is_named_for_what_it_is",
                plug::wrong_namespaces,
            ),
            (&[], "a_taken_name_leaves_nothing_behind", plug::name_taken),
            (
                &[],
                "each_failing_step_undoes_all_others",
                plug::failing_steps,
            ),
            (&[], "configuring_twice_changes_nothing", change::idempotent),
            (
                &[],
                "a_failed_change_of_a_living_port_is_taken_back",
                change::taken_back,
            ),
            (
                &[],
                "a_pulled_cable_and_a_link_set_down_are_told_apart",
                change::carrier,
            ),
            (
                &["ping"],
                "statistics_follow_a_renamed_and_moved_port",
                change::follows,
            ),
            (&[], "a_deleted_link_is_gone_at_once", gone::link_deleted),
            (
                &[],
                "a_deleted_namespace_dies_with_its_port",
                gone::netns_deleted,
            ),
            (&[], "plugging_and_deleting_leaves_nothing", gone::cycles),
            (
                &["ping"],
                "the_simple_tap_passes_frames",
                frames::simple_frames,
            ),
            (&[], "the_fast_tap_passes_superframes", frames::fast_frames),
            (
                &[],
                "a_tap_opened_inside_would_keep_its_namespace_alive",
                gone::pinned,
            ),
            (
                &[],
                "no_thread_is_left_in_a_foreign_namespace",
                gone::threads,
            ),
            (
                &[],
                "ports_are_plugged_from_several_threads_and_from_tokio",
                plug::in_parallel,
            ),
            (&[], "an_anonymous_namespace_takes_a_port", gone::anonymous),
        ];
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
            "198.51.100.0/24 via 192.0.2.2".parse().unwrap(),
            "203.0.113.0/24".parse().unwrap(),
            "2001:db8:1::/48 via 2001:db8::2".parse().unwrap(),
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
