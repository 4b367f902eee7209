//! Who says which address is behind which VTEP: the seam between the data plane and a control plane.
//!
//! An [`Engine`] tells the data plane whom to flood to and where addresses are, and is told what
//! happens locally. [`StaticEngine`] has it from the settings. One that speaks BGP EVPN (RFC 7432,
//! for VXLAN RFC 8365) fits the same seam:
//!
//! | EVPN | here |
//! | --- | --- |
//! | type 3 route, ingress replication (RFC 7432 §7.3, §12.1) | [`Change::FloodAdd`] |
//! | type 2 route (§7.2, §9.2) | [`Change::MacAdd`] |
//! | MAC Mobility community: sequence and sticky flag (§7.7, §15) | its `sequence` and `sticky` |
//! | withdrawal | [`Change::FloodDel`], [`Change::MacDel`] |
//! | what a PE learns and advertises itself (§9.1) | [`Local`] |
//!
//! What every engine keeps to: choosing between two VTEPs that both claim an address is its own
//! business, so the data plane does as the last change says. It never lets changes pile up: those
//! that nobody has fetched are bounded, and if there are more, they are all given up for one
//! [`Change::Resync`].

use std::fmt;

use crate::{
    config::PeerAddr,
    wire::{MacAddr, Vni},
};

mod static_engine;

pub use self::static_engine::StaticEngine;

/// From an engine to the data plane. What is there already is replaced, and what is not there is
/// deleted without complaint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are explained at their variant")]
pub enum Change {
    /// Frames of `vni` that are flooded go to `remote` too.
    FloodAdd { vni: Vni, remote: PeerAddr },
    /// They do not any more. Addresses behind `remote` stay.
    FloodDel { vni: Vni, remote: PeerAddr },
    /// `mac` is behind `remote`, and does not age. `vlan` is 0 for untagged frames. If it is `sticky`,
    /// frames with this source from elsewhere do not move it (RFC 7432 §15.2). `sequence` counts
    /// its moves (§15) and is what a later [`Local::Moved`] has to outdo.
    MacAdd {
        vni: Vni,
        mac: MacAddr,
        vlan: u16,
        remote: PeerAddr,
        sticky: bool,
        sequence: u32,
    },
    /// Nobody claims `mac` any more.
    MacDel { vni: Vni, mac: MacAddr, vlan: u16 },
    /// Forget all that this engine has told. What holds now follows.
    Resync,
}

/// From the data plane to an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are explained at their variant")]
pub enum Local {
    /// A bridge carries `vni` from now on, and knows nothing of it: tell everything.
    VniUp { vni: Vni },
    /// No bridge carries `vni` any more; all that was told of it is forgotten.
    VniDown { vni: Vni },
    /// `mac` is behind a port of this host; `is_static` if a person said so.
    Learned {
        vni: Vni,
        mac: MacAddr,
        vlan: u16,
        is_static: bool,
    },
    /// It is not any more: aged, deleted, or its port is gone.
    Aged { vni: Vni, mac: MacAddr, vlan: u16 },
    /// `mac`, which the engine had said to be behind a VTEP, is behind a port of this host. From
    /// port to port is no move (RFC 7432 §15).
    Moved { vni: Vni, mac: MacAddr, vlan: u16 },
}

/// A control plane. Neither call may wait for anything: what talks to a network does so on a
/// thread of its own.
///
/// [`SwitchOptions::engine`](crate::daemon::SwitchOptions::engine) takes one; the example
/// `18_a_control_plane` reads a file. This one floods to a fixed list of VTEPs:
///
/// ```
/// use tapswitch::{config::PeerAddr, overlay::{Change, Engine, Local}, wire::Vni};
///
/// #[derive(Debug)]
/// struct Fixed { peers: Vec<PeerAddr>, to_say: Vec<Change> }
///
/// impl Engine for Fixed {
///     fn name(&self) -> &'static str { "fixed" }
///
///     fn local(&mut self, event: &Local) {
///         // A bridge that carries the VNI from now on knows nothing yet.
///         if let &Local::VniUp { vni } = event {
///             self.to_say.extend(self.peers.iter().map(|&remote| Change::FloodAdd { vni, remote }));
///         }
///     }
///
///     fn poll(&mut self) -> Vec<Change> { std::mem::take(&mut self.to_say) }
///
///     fn learns_from_peers(&self) -> bool { true }
/// }
///
/// let peer = PeerAddr::new("192.168.50.20".parse().unwrap());
/// let mut engine = Fixed { peers: vec![peer], to_say: Vec::new() };
/// let vni = Vni::new(42).unwrap();
/// engine.local(&Local::VniUp { vni });
/// assert_eq!(engine.poll(), [Change::FloodAdd { vni, remote: peer }]);
/// assert_eq!(engine.poll(), []);
/// ```
pub trait Engine: fmt::Debug + Send {
    /// Its name in logs and `show`.
    fn name(&self) -> &'static str;

    /// Takes notice of what happened here.
    fn local(&mut self, event: &Local);

    /// The changes since the last call, in the order in which they take effect.
    fn poll(&mut self) -> Vec<Change>;

    /// Whether addresses are also learned from frames of peers. With EVPN they are not: two sources
    /// of the same knowledge would contradict each other.
    fn learns_from_peers(&self) -> bool;
}

#[cfg(test)]
mod tests;
