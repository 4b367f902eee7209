//! A control plane of one's own: who is behind which VTEP is in a file, and nobody floods or learns.
//! flannel has such a list from its API server, BGP EVPN from its neighbours; the seam is the same.
//!
//! Two switches of this program stand for two machines; their VTEPs are 127.0.0.1 and 127.0.0.2.
//!
//! Run: `cargo run --example 18_a_control_plane` (namespaces: as root, or as anybody who may make
//! user namespaces; needs `ip` and `ping`)
//!
//! ```text
//! The file has both. pod1 pings pod2: answered
//! pod2 is off the list. pod1 pings pod2: no answer
//! It is back. pod1 pings pod2: answered
//! What the control planes have heard of their own machines:
//!   02:00:00:00:00:01 is here, at 127.0.0.1
//!   02:00:00:00:00:02 is here, at 127.0.0.2
//! ```

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread::sleep,
    time::Duration,
};

use tapswitch::{
    config::{BridgeSpec, PeerAddr, PortSpec, VtepSpec},
    control::api::{FdbSelector, Request, Response},
    daemon::{Switch, SwitchOptions},
    names::Name,
    overlay::{Change, Engine, Local},
    sim::frames,
    sys::userns::enter_private_namespaces,
    wire::{MacAddr, Vni},
};

/// Where each address is, as the file has it: a line for each, `MAC VTEP`.
type Places = BTreeMap<MacAddr, IpAddr>;

/// Tells one machine what the file says about the others.
#[derive(Debug)]
struct FromFile {
    file: PathBuf,
    local: IpAddr,
    vni: Option<Vni>,
    told: Places,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Engine for FromFile {
    fn name(&self) -> &'static str {
        "file"
    }

    fn local(&mut self, event: &Local) {
        match *event {
            // The bridge knows nothing yet, so tell everything again.
            Local::VniUp { vni } => (self.vni, self.told) = (Some(vni), Places::new()),
            Local::VniDown { .. } => self.vni = None,
            // A real control plane advertises this to the others.
            Local::Learned { mac, .. } => {
                let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push(format!("{mac} is here, at {}", self.local));
            }
            Local::Aged { .. } | Local::Moved { .. } => {}
        }
    }

    fn poll(&mut self) -> Vec<Change> {
        let (Some(vni), Ok(text)) = (self.vni, fs::read_to_string(&self.file)) else {
            return Vec::new();
        };
        let line = |line: &str| {
            let (mac, remote) = line.split_once(' ')?;
            Some((mac.parse().ok()?, remote.trim().parse().ok()?))
        };
        let wanted: Places = text
            .lines()
            .filter_map(line)
            .filter(|(_, remote)| *remote != self.local)
            .collect();
        let gone = self.told.keys().filter(|mac| !wanted.contains_key(mac));
        let gone = gone.map(|&mac| Change::MacDel { vni, mac, vlan: 0 });
        let new = wanted
            .iter()
            .filter(|&(mac, remote)| self.told.get(mac) != Some(remote));
        let new = new.map(|(&mac, &remote)| Change::MacAdd {
            vni,
            mac,
            vlan: 0,
            remote: PeerAddr::new(remote),
            sticky: false,
            sequence: 0,
        });
        let changes = gone.chain(new).collect();
        self.told = wanted;
        changes
    }

    fn learns_from_peers(&self) -> bool {
        false
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    enter_private_namespaces()?;
    run("ip link set lo up")?;
    let file = PathBuf::from("/run/places");
    let (one, two) = (frames::mac(1), frames::mac(2));
    fs::write(&file, format!("{one} 127.0.0.1\n{two} 127.0.0.2\n"))?;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut switches = Vec::new();
    for number in [1, 2] {
        switches.push(machine(number, &file, &heard)?);
    }
    // Nobody floods, so nobody hears questions: the pods have to know each other's address.
    run(&format!(
        "ip -n pod1 neigh replace 192.0.2.2 lladdr {two} dev eth0"
    ))?;
    run(&format!(
        "ip -n pod2 neigh replace 192.0.2.1 lladdr {one} dev eth0"
    ))?;

    wait_for(&switches[0], two, true)?;
    println!("The file has both. pod1 pings pod2: {}", ping()?);
    fs::write(&file, format!("{one} 127.0.0.1\n"))?;
    wait_for(&switches[0], two, false)?;
    println!("pod2 is off the list. pod1 pings pod2: {}", ping()?);
    fs::write(&file, format!("{one} 127.0.0.1\n{two} 127.0.0.2\n"))?;
    wait_for(&switches[0], two, true)?;
    println!("It is back. pod1 pings pod2: {}", ping()?);

    println!("What the control planes have heard of their own machines:");
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
    heard.sort();
    heard.dedup();
    heard.iter().for_each(|line| println!("  {line}"));
    Ok(())
}

/// A switch with a VTEP, a bridge on VNI 42 and one pod.
fn machine(
    number: u8,
    file: &Path,
    heard: &Arc<Mutex<Vec<String>>>,
) -> Result<Switch, Box<dyn Error>> {
    let local: IpAddr = [127, 0, 0, number].into();
    let engine = FromFile {
        file: file.to_owned(),
        local,
        vni: None,
        told: Places::new(),
        heard: Arc::clone(heard),
    };
    let switch = Switch::start(SwitchOptions {
        engine: Some(Box::new(engine)),
        ..SwitchOptions::default()
    })?;
    switch.execute(Request::VtepSet(VtepSpec::new(local)))?;
    let mut bridge = BridgeSpec::new(Name::new("br0")?);
    (bridge.vni, bridge.mtu) = (Vni::new(42), Some(1450));
    switch.execute(Request::BridgeAdd(bridge))?;
    run(&format!("ip netns add pod{number}"))?;
    let mut port = PortSpec::new(Name::new("pod")?, Name::new("br0")?);
    port.netns = Some(format!("pod{number}").parse()?);
    port.mac = Some(frames::mac(number.into()));
    port.addresses = vec![format!("192.0.2.{number}/24").parse()?];
    switch.execute(Request::PortAdd(port))?;
    Ok(switch)
}

/// Waits until the FDB has `mac`, or has it no more.
fn wait_for(switch: &Switch, mac: MacAddr, is_there: bool) -> Result<(), Box<dyn Error>> {
    for _ in 0..1000 {
        let Response::Fdb(entries) = switch.execute(Request::FdbShow(FdbSelector::default()))?
        else {
            break;
        };
        if entries.iter().any(|entry| entry.mac == mac) == is_there {
            return Ok(());
        }
        sleep(Duration::from_millis(10));
    }
    Err("the control plane was not heard within ten seconds".into())
}

fn ping() -> Result<&'static str, Box<dyn Error>> {
    let line = "ip netns exec pod1 ping -q -c 1 -W 1 192.0.2.2";
    let output = Command::new("sh").args(["-c", line]).output()?;
    Ok(if output.status.success() {
        "answered"
    } else {
        "no answer"
    })
}

fn run(line: &str) -> Result<(), Box<dyn Error>> {
    let status = Command::new("sh").args(["-c", line]).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {status}").into())
    }
}
