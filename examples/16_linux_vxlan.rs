//! One network over two machines, of which only one knows us: the other has the kernel's bridge and
//! vxlan device. The machines are namespaces with a cable between them.
//!
//!     podA --- switch, VTEP 192.168.50.10 === cable === 192.168.50.20 vxlan42, br0 --- podB
//!
//! Run: `cargo run --example 16_linux_vxlan` (namespaces: as root, or as anybody who may make user
//! namespaces; needs `ip`, `bridge` and `ping`, and the kernel's vxlan and bridge)
//!
//! ```text
//! podA pings podB with a packet of 84 bytes: answered
//! podA pings podB with a packet of 1450 bytes: answered
//! podA pings podB with a packet of 1451 bytes: not sent
//! Our switch has learned:
//!   02:00:00:00:00:01 is behind port podA
//!   02:00:00:00:00:02 is behind VTEP 192.168.50.20
//! The kernel has learned:
//!   02:00:00:00:00:01 dst 192.168.50.10 self
//! ```

use std::{error::Error, process::Command};

use tapswitch::{
    config::{BridgeSpec, PeerAddr, PortSpec, VtepSpec},
    control::api::{FdbSelector, Request, Response},
    daemon::{Switch, SwitchOptions},
    names::Name,
    sim::frames,
    sys::userns::enter_private_namespaces,
    wire::Vni,
};

/// The other machine, as anybody would set it up.
const LINUX: &str = "
    ip -n linux link add vxlan42 type vxlan id 42 local 192.168.50.20 dstport 4789 udpcsum
    bridge -n linux fdb append 00:00:00:00:00:00 dev vxlan42 dst 192.168.50.10
    ip -n linux link add br0 type bridge
    ip -n linux link set vxlan42 master br0 up
    ip -n linux link set br0 up
    ip -n linux link add podB type veth peer name eth0 netns podB
    ip -n linux link set podB master br0 up
    ip -n podB link set eth0 address 02:00:00:00:00:02 mtu 1450 up
    ip -n podB address add 192.0.2.2/24 dev eth0";

/// Machines and pods, and the cable.
const CABLE: &str = "
    ip netns add machine
    ip netns add linux
    ip netns add podA
    ip netns add podB
    ip -n machine link add eth0 type veth peer name eth0 netns linux
    ip -n machine address add 192.168.50.10/24 dev eth0
    ip -n machine link set eth0 up
    ip -n linux address add 192.168.50.20/24 dev eth0
    ip -n linux link set eth0 up";

fn main() -> Result<(), Box<dyn Error>> {
    enter_private_namespaces()?;
    script(CABLE)?;
    script(LINUX)?;

    // Our machine: a switch in this program, whose socket is in the namespace of its machine.
    let switch = Switch::start(SwitchOptions::default())?;
    let mut vtep = VtepSpec::new("192.168.50.10".parse()?);
    vtep.netns = Some("machine".parse()?);
    switch.execute(Request::VtepSet(vtep))?;
    let mut bridge = BridgeSpec::new(Name::new("br0")?);
    bridge.vni = Vni::new(42);
    bridge.peers = vec![PeerAddr::new("192.168.50.20".parse()?)];
    switch.execute(Request::BridgeAdd(bridge))?;
    let mut port = PortSpec::new(Name::new("podA")?, Name::new("br0")?);
    port.netns = Some("podA".parse()?);
    port.mac = Some(frames::mac(1));
    port.addresses = vec!["192.0.2.1/24".parse()?];
    switch.execute(Request::PortAdd(port))?;

    for len in [56, 1422, 1423] {
        let line = format!("ip netns exec podA ping -q -c 1 -W 2 -M do -s {len} 192.0.2.2");
        let outcome = if succeeds(&line)? {
            "answered"
        } else {
            "not sent"
        };
        println!(
            "podA pings podB with a packet of {} bytes: {outcome}",
            len + 28
        );
    }

    println!("Our switch has learned:");
    let Response::Fdb(mut entries) = switch.execute(Request::FdbShow(FdbSelector::default()))?
    else {
        return Err("it tells no FDB".into());
    };
    entries.sort_by_key(|entry| entry.mac);
    let pods = [frames::mac(1), frames::mac(2)];
    for entry in entries.iter().filter(|entry| pods.contains(&entry.mac)) {
        let port = entry.port.as_ref().map(|port| format!("port {port}"));
        let remote = entry.remote.as_ref().map(|remote| format!("VTEP {remote}"));
        println!(
            "  {} is behind {}",
            entry.mac,
            port.or(remote).unwrap_or_default()
        );
    }
    println!("The kernel has learned:");
    let table = Command::new("bridge")
        .args(["-n", "linux", "fdb", "show", "dev", "vxlan42"])
        .output()?;
    let table = String::from_utf8(table.stdout)?;
    for line in table
        .lines()
        .filter(|line| line.contains("02:00:00:00:00:01") && line.contains("dst"))
    {
        println!("  {}", line.trim_end());
    }
    Ok(())
}

fn script(lines: &str) -> Result<(), Box<dyn Error>> {
    for line in lines.lines().filter(|line| !line.is_empty()) {
        if !succeeds(line)? {
            return Err(format!("failed: {}", line.trim()).into());
        }
    }
    Ok(())
}

fn succeeds(line: &str) -> Result<bool, Box<dyn Error>> {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .output()?;
    Ok(output.status.success())
}
