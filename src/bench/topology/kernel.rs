//! The kernel's own: veth pairs, a bridge on each node, and vxlan devices between the nodes.

use super::{
    Plain, Shape, Unavailable,
    netns::{ip, require, run},
    site::Site,
};

pub(super) fn build(shape: Shape) -> Result<Plain, Unavailable> {
    require("ip")?;
    let site = Site::new(shape)?;
    if shape.overlay {
        require("bridge")?;
        site.address_underlay("u0")?;
    }
    for (number, (node, own, other)) in site.vteps().enumerate() {
        // Without a limit of its FDB, and ageing after 300 s: the defaults.
        ip(node, "link add br0 type bridge mcast_snooping 0")?;
        let mut lines = String::new();
        if shape.overlay {
            // Tied to the underlay's device it has no MTU above the underlay's. Otherwise the outer
            // packets are fragmented.
            let fits = site.mtu <= Site::DEFAULT_OVERLAY_MTU;
            let device = if fits { "dev u0" } else { "" };
            ip(
                node,
                &format!(
                    "link add vx0 mtu {} type vxlan id {} local {own} dstport 4789 udpcsum {device}",
                    site.mtu,
                    Site::VNI
                ),
            )?;
            let all = "00:00:00:00:00:00";
            let other = other.to_string();
            run(
                node,
                &["bridge", "fdb", "append", all, "dev", "vx0", "dst", &other],
                "",
            )?;
            lines += "link set vx0 master br0 up\n";
        }
        for (pod, _) in site.pods_of(number) {
            site.plug_veth(number, pod)?;
            lines += &format!("link set p{pod} master br0 up\n");
        }
        lines += "link set br0 up\n";
        ip(node, &lines)?;
    }
    site.address_pods()?;
    site.introduce()?;
    Ok(Plain::new(site))
}
