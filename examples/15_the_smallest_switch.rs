//! A whole switch in one loop: two namespaces are plugged in, frames are read, decided about, and
//! written. The daemon does the same, with batches, superframes and many workers.
//!
//! Run: `cargo run --example 15_the_smallest_switch` (namespaces: as root, or as anybody who may
//! make user namespaces; needs `ip`, `sysctl` and `ping`)
//!
//! ```text
//! red: arp who-has 192.0.2.2 tell 192.0.2.1
//!     Flood(Broadcast), learn: New
//! blue: arp 192.0.2.2 is-at 02:00:00:00:00:02
//!     Forward(Port(PortId(0))), learn: New
//! red: icmp 192.0.2.1 > 192.0.2.2 echo request 1
//!     Forward(Port(PortId(1))), learn: Known
//! blue: icmp 192.0.2.2 > 192.0.2.1 echo reply 1
//!     Forward(Port(PortId(0))), learn: Known
//! red: icmp 192.0.2.1 > 192.0.2.2 echo request 2
//!     Forward(Port(PortId(1))), learn: Known
//! blue: icmp 192.0.2.2 > 192.0.2.1 echo reply 2
//!     Forward(Port(PortId(0))), learn: Known
//! ping is content: true
//! 02:00:00:00:00:01 is behind red
//! 02:00:00:00:00:02 is behind blue
//! ```

use std::{
    error::Error,
    process::{Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use tapswitch::{
    attach::{Engine, PlugRequest, PortDevice, plug},
    bridge::{Bridge, Decision, Egress, Fdb, FdbCache, Ingress, PortFlags, PortId},
    names::IfName,
    sim::{Lab, frames},
    sys::{clock, userns::enter_private_namespaces},
    wire::describe,
};

fn main() -> Result<(), Box<dyn Error>> {
    enter_private_namespaces()?;
    let (mut ports, mut members) = (Vec::new(), Vec::new());
    for (index, name) in ["red", "blue"].into_iter().enumerate() {
        let number = u8::try_from(index + 1)?;
        run(&format!("ip netns add {name}"))?;
        run(&format!(
            "ip netns exec {name} sysctl -qw net.ipv6.conf.default.disable_ipv6=1"
        ))?;
        // A TAP, moved into the namespace as eth0, with an address, and up: or nothing at all.
        let mac = frames::mac(number.into());
        let mut request = PlugRequest::new(Some(name.parse()?), IfName::new("eth0")?, mac);
        request.addresses = vec![format!("192.0.2.{number}/24").parse()?];
        request.engine = Engine::Simple;
        let PortDevice::Simple(tap) = plug(&request)?.device else {
            return Err("it was to be a simple one".into());
        };
        ports.push((name, tap));
        members.push((
            PortId::new(index).ok_or("too many ports")?,
            PortFlags::DEFAULT,
        ));
    }
    let bridge = Bridge::new(&Lab::spec("br0"), &members, Arc::new(Fdb::new()));

    let mut ping = Command::new("ip")
        .args("netns exec red ping -q -c 2 -i 0.2 -W 2 192.0.2.2".split(' '))
        .stdout(Stdio::null())
        .spawn()?;
    let (mut cache, mut buffer) = (FdbCache::new(), [0; 2048]);
    let status = loop {
        let mut is_idle = true;
        for &(here, _) in &members {
            let (name, tap) = &ports[here.index()];
            let Ok(len) = tap.recv(&mut buffer) else {
                continue;
            };
            is_idle = false;
            let frame = &buffer[..len];
            let ingress = Ingress::Port(here);
            let verdict = bridge.process(clock::now(), ingress, frame, &mut cache);
            let targets: Vec<Egress> = match verdict.decision {
                Decision::Forward(to) => vec![to],
                Decision::Flood(class) => bridge.flood_targets(ingress, class).collect(),
                Decision::Drop(_) => vec![],
            };
            println!("{name}: {}", describe(frame));
            println!("    {:?}, learn: {:?}", verdict.decision, verdict.learn);
            for port in targets.iter().filter_map(|target| target.port()) {
                ports[port.index()].1.send(frame)?;
            }
        }
        if is_idle {
            match ping.try_wait()? {
                Some(status) => break status,
                None => sleep(Duration::from_millis(1)),
            }
        }
    };
    println!("ping is content: {}", status.success());
    let mut entries = bridge.fdb().entries();
    entries.sort_by_key(|&(key, _)| key);
    for (key, entry) in entries {
        let port = entry.egress.port().ok_or("there are ports only")?;
        println!("{} is behind {}", key.mac(), ports[port.index()].0);
    }
    Ok(())
}

fn run(line: &str) -> Result<(), Box<dyn Error>> {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {status}").into())
    }
}
