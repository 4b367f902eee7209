//! Throughput against the kernel's veth and bridge, both set up in one run and measured in turn.
//!
//! ```text
//! cargo bench --bench speed              # 7 rounds; as root, or in a user namespace
//! cargo bench --bench speed -- --quick   # 3 short rounds
//! TAPSWITCH_PUMP='CMD' cargo bench --bench speed   # and a program that joins eth0 of nsA and nsB
//! ```
//!
//! TCP by iperf3, one stream; UDP with 18 bytes of payload by a sender and a receiver of its own
//! (64 datagrams a system call), of which only what is delivered counts. Quiet the machine first.

#[path = "../tests/common/mod.rs"]
mod common;
mod throughput;

use std::{
    io,
    process::{Child, Stdio},
};

use common::{Netns, command, ip};
use tapswitch::{
    config::{BridgeSpec, PortSpec},
    control::api::Request,
    daemon::{Switch, SwitchOptions},
    names::Name,
};
use throughput::{Side, measure, plan};

fn main() {
    let Some((_env, plan)) = plan("speed") else {
        return;
    };
    let mut sides = vec![kernel(), tapswitch()];
    sides.extend(pump());
    measure(&sides, plan);
}

/// A child that does not outlive its side.
struct Pump(Child);

impl Drop for Pump {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn kernel() -> Side {
    let (from, to) = (Netns::new("ka"), Netns::new("kb"));
    ip("link add kbr type bridge mcast_snooping 0");
    // The kernel at its best: no netfilter in the way.
    for table in ["iptables", "ip6tables", "arptables"] {
        drop(std::fs::write(
            format!("/proc/sys/net/bridge/bridge-nf-call-{table}"),
            "0",
        ));
    }
    ip("link set kbr up");
    for (number, netns) in [(1, &from), (2, &to)] {
        ip(&format!(
            "link add kv{number} type veth peer name eth0 netns {}",
            netns.name()
        ));
        ip(&format!("link set kv{number} master kbr up"));
        netns.ip(&format!("addr add 10.1.0.{number}/24 dev eth0"));
        netns.ip("link set eth0 up");
    }
    Side {
        name: "kernel veth + bridge",
        from,
        to,
        target: "10.1.0.2".to_owned(),
        keep: Box::new(()),
    }
}

fn tapswitch() -> Side {
    let (from, to) = (Netns::new("ta"), Netns::new("tb"));
    let switch = Switch::start(SwitchOptions::default()).unwrap();
    let bridge = Name::new("br0").unwrap();
    switch
        .execute(Request::BridgeAdd(BridgeSpec::new(bridge.clone())))
        .unwrap();
    for (number, netns) in [(1, &from), (2, &to)] {
        let mut port = PortSpec::new(Name::new(&format!("pod{number}")).unwrap(), bridge.clone());
        port.netns = Some(netns.reference());
        port.addresses = vec![format!("10.2.0.{number}/24").parse().unwrap()];
        switch.execute(Request::PortAdd(port)).unwrap();
    }
    Side {
        name: "tapswitch",
        from,
        to,
        target: "10.2.0.2".to_owned(),
        keep: Box::new(switch),
    }
}

/// A program that joins the `eth0` that it makes in the namespaces nsA and nsB, and says `ready`.
fn pump() -> Option<Side> {
    let line = std::env::var("TAPSWITCH_PUMP").ok()?;
    let (from, to) = (Netns::named("nsA"), Netns::named("nsB"));
    let mut words = line.split_whitespace();
    let mut child = command(words.next()?)
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut first = [0; 5];
    io::Read::read_exact(child.stdout.as_mut()?, &mut first).ok()?;
    for (number, netns) in [(1, &from), (2, &to)] {
        netns.ip(&format!("addr add 10.3.0.{number}/24 dev eth0"));
        netns.ip("link set eth0 up");
    }
    Some(Side {
        name: "pump",
        from,
        to,
        target: "10.3.0.2".to_owned(),
        keep: Box::new(Pump(child)),
    })
}
