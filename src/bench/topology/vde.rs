//! VDE: one `vde_switch` with a TAP for each pod.

use super::{
    Plain, Shape, Unavailable,
    daemon::{Daemon, Directory},
    netns::{command, require},
    site::Site,
};

pub(super) fn build(shape: Shape) -> Result<Plain, Unavailable> {
    for program in ["ip", "vde_switch"] {
        require(program)?;
    }
    let refused = |why: &str| Err(Unavailable::Failed(format!("build VDE: {why}")));
    if shape.overlay {
        return refused("it has no VXLAN; measure it on one node");
    }
    if shape.mtu.is_some_and(|mtu| mtu > MAX_MTU) {
        return refused("it cuts what is longer than an Ethernet frame; leave the MTU at 1500");
    }
    let mut plain = Plain::new(Site::new(shape)?);
    let directory = Directory::new("vde")?;
    let mut command = command("vde_switch");
    command.arg("--sock").arg(directory.file("ctl"));
    // Its own number of ports is 32. The hash table has chains, and a power of two as its size.
    let ports = shape.pods.max(32);
    let addresses = shape.addresses.max(1024).checked_next_power_of_two();
    command.args(["--numports", &ports.to_string()]);
    command.args(["--hashsize", &addresses.unwrap_or(1 << 31).to_string()]);
    for pod in 0..shape.pods {
        command.args(["--tap", &device(pod)]);
    }
    let node = &plain.site.nodes[0];
    let mut daemon = Daemon::start(node, &directory, "vde_switch", &mut command)?;
    // The last one is there when all are.
    daemon.wait_for("make its TAPs", || {
        plain.site.has_device(0, &device(shape.pods - 1))
    })?;
    plain.daemons.push(daemon);
    plain.directories.push(directory);
    for pod in 0..shape.pods {
        plain.site.plug_device(0, pod, &device(pod))?;
    }
    plain.site.address_pods()?;
    plain.site.introduce()?;
    Ok(plain)
}

fn device(pod: usize) -> String {
    format!("p{pod}")
}

/// The payload of an Ethernet frame.
const MAX_MTU: u32 = 1500;
