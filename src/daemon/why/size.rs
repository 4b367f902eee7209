//! What to do about packets that are too large.

use crate::{
    daemon::state::{BridgeState, PortState, State},
    doctor,
    names::Name,
};

/// A packet that was too large for its egress.
pub(in crate::daemon) struct TooBig<'a> {
    pub(in crate::daemon) state: &'a State,
    pub(in crate::daemon) bridge: Option<&'a Name>,
    /// The port that it came from.
    pub(in crate::daemon) from: Option<&'a PortState>,
    /// The port that it was for; `None`: a remote VTEP, or nobody knows.
    pub(in crate::daemon) to: Option<&'a PortState>,
    /// Bytes behind its Ethernet header.
    pub(in crate::daemon) has: u32,
    /// The MTU that fits.
    pub(in crate::daemon) fits: u32,
}

impl TooBig<'_> {
    /// What to do, with the same command that the doctor has for it.
    pub(in crate::daemon) fn remedy(&self) -> String {
        let &Self { from, to, fits, .. } = self;
        let bridge = self.bridge.and_then(|name| self.state.bridge(name));
        let is_changed = |port: &&PortState| port.mtu != self.state.mtu_of(&port.spec);
        if let Some(port) = to.into_iter().chain(from).find(is_changed) {
            let name = &port.spec.name;
            return format!(
                "somebody inside has given {name} another MTU; see how to undo that: tapswitch \
                 doctor {name}"
            );
        }
        let auto = bridge.map(BridgeState::auto_mtu);
        let auto = auto.filter(|auto| match to {
            Some(_) => *auto == fits,
            None => *auto <= fits,
        });
        match (from, bridge, to) {
            (Some(from), ..) if from.mtu <= fits => {
                let (name, mtu) = (&from.spec.name, from.mtu);
                format!("nothing: {name} has MTU {mtu}, so its kernel sends no such packet by now")
            }
            (Some(from), Some(bridge), _) => {
                let command = doctor::lower_mtu(&bridge.spec, &from.spec, fits, auto);
                format!("set MTU {fits}: {command}")
            }
            (None, _, Some(to)) => {
                let (name, mtu) = (&to.spec.name, self.has);
                format!("let larger packets in: tapswitch port set {name} mtu {mtu}")
            }
            (_, bridge, _) => {
                let bridge = bridge.map_or("BRIDGE", |bridge| bridge.spec.name.as_str());
                format!("let the MTU follow the path: tapswitch bridge set {bridge} --mtu auto")
            }
        }
    }
}
