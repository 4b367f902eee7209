//! What the tutorials do with veth pairs and the kernel's bridge, done with the real program.
//!
//! Five well-known walks, row by row: A, namespaces by hand; B, docker0; C, the pod network;
//! D, from veth to other nodes; E, containerd by hand. Tests that are not in the table show the
//! daemon itself, or what the README says.
//!
//! | rows | test |
//! | --- | --- |
//! | A06 A07 | a_new_namespace_has_nothing_but_a_sleeping_loopback_and_a_port_wakes_it |
//! | A08 A09 | a_wire_is_the_cable_between_two_namespaces |
//! | A10 | four_namespaces_need_four_ports_and_no_six_cables |
//! | A11 A12 A13 | three_namespaces_on_a_bridge_with_a_gateway_reach_each_other |
//! | A14 | the_first_ping_floods_once_and_the_rest_goes_to_its_port |
//! | A15 A16 | a_pod_behind_cni0_looks_as_on_a_node_with_an_mtu_of_1450 |
//! | A17 | one_table_tells_which_port_is_whose |
//! | A18 A19 | from_pod_to_pod_on_another_node_it_is_the_ten_steps_of_the_tutorial |
//! | A22 | a_frame_on_the_wire_has_the_headers_and_sums_of_the_tutorial |
//! | A23-A26 | the_mtu_of_the_path_less_50_is_the_pods_and_longer_frames_are_told_so |
//! | A27 | nsenter_shows_addresses_routes_and_sockets_behind_a_port |
//! | A27 | tcpdump_inside_a_namespace_sees_question_and_answer |
//! | A29 | a_web_server_in_one_container_answers_curl_in_another |
//! | A30 | the_complete_script_runs_with_two_pods_and_the_host_as_gateway |
//! | A31 | pods_reach_the_internet_with_the_two_unchanged_lines_of_the_tutorial |
//! | A32 | the_teardown_of_the_tutorial_works_and_is_told |
//! | A32 | whoever_ends_the_daemon_needs_no_teardown_of_devices |
//! | A33 | the_eth0_of_a_pod_is_not_the_eth0_of_the_host |
//! | A34 | a_deleted_interface_takes_its_port_along_and_the_monitor_tells |
//! | A35 | a_namespace_without_a_name_is_plugged_in_by_process_id_or_path |
//! | A36 | a_symbolic_link_to_a_namespace_works_and_its_removal_harms_nothing |
//! | A43 | peer_show_and_peer_ping_tell_whether_the_other_node_is_there |
//! | B03 B04 B08 B09 | a_container_has_the_address_mac_routes_and_counters_of_the_tutorial |
//! | B05 B12 | the_host_sees_docker0_and_no_device_for_each_container |
//! | B06 B07 | a_second_container_is_a_second_port_of_the_running_bridge |
//! | B10 | curl_fetches_the_page_of_the_other_container |
//! | B11 | a_direct_route_asks_for_the_target_and_not_for_the_gateway |
//! | B13 | an_arp_request_goes_to_all_other_ports_and_its_answer_to_one |
//! | B16 | docker0_of_one_host_has_nothing_to_do_with_docker0_of_the_other |
//! | B17 | one_vni_makes_both_docker0_one_bridge |
//! | B17 | a_docker_overlay_has_an_entry_for_each_container_and_floods_nothing |
//! | C11 | a_pod_has_the_three_routes_that_the_tutorial_prints |
//! | C12 | a_second_interface_joins_a_pod_to_another_bridge_and_nothing_leaks |
//! | C13 | a_dual_stack_pod_is_reached_with_both_versions_of_ip |
//! | D06 | the_route_to_the_other_node_is_no_overlay_and_the_route_to_flannel_is |
//! | D07 | flannel_at_port_8472_is_the_kernels_device_and_no_daemon_takes_packets |
//! | E02 E04 E05 | a_port_that_is_set_down_shows_no_carrier_until_it_is_up_again |
//! | E06 | a_second_port_of_the_same_name_is_refused_and_the_owner_named |
//! | E01 E03 E07 E08 E10-E13 | two_containers_known_by_process_id_are_on_the_network_with_one_command_each |
//! | E14 E15 | a_number_is_no_name_of_a_namespace_and_the_error_says_what_to_write |
//! | E16 E17 | a_default_route_by_device_reaches_every_address_of_the_host |
//! | E18 | the_second_container_reaches_the_first_although_the_host_forwards_nothing |
//! | E18 | bridge_nf_call_iptables_stops_the_kernels_bridge_and_not_this_one |
//! | E22 | two_containers_in_one_namespace_are_one_port_and_one_entry |

#[path = "tutorials/cables.rs"]
mod cables;
mod common;
#[path = "tutorials/containerd.rs"]
mod containerd;
#[path = "tutorials/demo.rs"]
mod demo;
#[path = "tutorials/docker.rs"]
mod docker;
#[path = "tutorials/inside.rs"]
mod inside;
#[path = "tutorials/lab.rs"]
mod lab;
#[path = "tutorials/overlay.rs"]
mod overlay;
#[path = "tutorials/pods.rs"]
mod pods;
#[path = "tutorials/readme.rs"]
mod readme;
#[path = "tutorials/service.rs"]
mod service;
#[path = "tutorials/site.rs"]
mod site;

use std::process::ExitCode;

use common::Env;
use libtest_mimic::Trial;

/// Programs that it runs, its name, and itself.
type Test = (&'static [&'static str], &'static str, fn());

/// Why a test cannot run here, if so.
type Lacks = fn() -> Option<String>;

fn main() -> ExitCode {
    common::main(|env: &Env| -> Vec<Trial> {
        let tests = [
            cables::TESTS,
            demo::TESTS,
            inside::TESTS,
            docker::TESTS,
            pods::TESTS,
            containerd::TESTS,
            overlay::TESTS,
            readme::TESTS,
            service::TESTS,
        ];
        let special: [(&[Test], Lacks); 4] = [
            (inside::NEEDS_GROUPS, inside::lacks_groups),
            (
                containerd::NEEDS_BRIDGE_FILTER,
                containerd::lacks_bridge_filter,
            ),
            (overlay::NEEDS_VXLAN, overlay::lacks_vxlan),
            (readme::NEEDS_VXLAN, overlay::lacks_vxlan),
        ];
        let mut trials: Vec<Trial> = tests
            .into_iter()
            .flatten()
            .map(|test| trial(env, test))
            .collect();
        for (tests, lacks) in special {
            let reason = env.reason_not_to_run.clone();
            let env = Env {
                reason_not_to_run: reason.or_else(lacks),
            };
            trials.extend(tests.iter().map(|test| trial(&env, test)));
        }
        trials
    })
}

fn trial(env: &Env, &(programs, name, body): &Test) -> Trial {
    env.trial_with(programs, name, body)
}
