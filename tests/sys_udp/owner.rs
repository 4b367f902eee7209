//! Who has a port.

use std::{fs, process};

use tapswitch::sys::udp::{PortOwner, owner_of};

use super::{FAMILIES, Test, bind, ip, options};
use crate::common::Netns;

pub(crate) const TESTS: &[Test] = &[
    (&[], "the_process_that_has_a_port_is_named", process_has_it),
    (&[], "a_vxlan_device_that_has_a_port_is_told", kernel_has_it),
];

fn namespace() -> Netns {
    let netns = Netns::new("owner");
    netns.ip("link set lo up");
    netns.ip("address add 192.0.2.1/32 dev lo");
    netns.ip("address add 2001:db8::1/128 dev lo nodad");
    netns
}

fn process_has_it() {
    let netns = namespace();
    for (ours, _) in FAMILIES {
        let socket = bind(&netns, options(ours, 4789));
        let owner = netns.run(|| owner_of(4789, ip(ours))).unwrap();
        let command = fs::read_to_string("/proc/self/comm").unwrap();
        let (pid, command) = (process::id(), command.trim_end().to_owned());
        assert_eq!(owner.to_string(), format!("process {pid} ({command})"));
        assert_eq!(owner, PortOwner::Process { pid, command });

        assert_eq!(netns.run(|| owner_of(4790, ip(ours))), None);
        assert_eq!(owner_of(4789, ip(ours)), None, "in another namespace");
        drop(socket);
        assert_eq!(netns.run(|| owner_of(4789, ip(ours))), None);
    }
}

fn kernel_has_it() {
    let netns = namespace();
    netns.ip("link add vx0 type vxlan id 1 dstport 4789 dev lo");
    assert_eq!(netns.run(|| owner_of(4789, ip("192.0.2.1"))), None);
    netns.ip("link set vx0 up");
    let owner = netns.run(|| owner_of(4789, ip("192.0.2.1")));
    assert_eq!(owner, Some(PortOwner::Kernel));
    let bound = netns.run(|| tapswitch::sys::udp::UdpSocket::bind(&options("192.0.2.1", 4789)));
    assert_eq!(bound.unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
}
