//! What control planes say, and what they hear: the settings first of all, and one more if there
//! is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use super::state::State;
use crate::{
    bridge::{Egress, EntryKind, FdbEntry, FdbKey},
    config::{PeerAddr, SwitchSpec},
    overlay::{Change, Engine, Local, StaticEngine},
    wire::{MacAddr, Vni},
};

/// The engines of a switch, and all that they have told.
#[derive(Debug)]
pub(super) struct Engines {
    settings: StaticEngine,
    pub(super) of_settings: Told,
    control: Option<Box<dyn Engine>>,
    pub(super) of_control: Told,
    /// VNIs that the engines know to be carried here.
    vnis: BTreeSet<Vni>,
    locals: Receiver<Local>,
    ear: Ear,
}

/// What one engine has told and not taken back.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) flood: BTreeSet<(Vni, PeerAddr)>,
    pub(super) macs: BTreeMap<(Vni, MacAddr, u16), Claim>,
}

/// Where an address is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) remote: PeerAddr,
    pub(super) kind: EntryKind,
    /// Not in the FDB yet: it outweighs even what was learned at a port since.
    pub(super) is_new: bool,
}

/// Where the data plane tells what happens. Nobody waits: what does not fit is lost, which the
/// other end notices.
#[derive(Clone, Debug)]
pub(super) struct Ear {
    sink: SyncSender<Local>,
    is_deaf: Arc<AtomicBool>,
}

impl Ear {
    pub(super) fn tell(&self, event: Local) {
        if self.sink.try_send(event).is_err() {
            self.is_deaf.store(true, Ordering::Release);
        }
    }
}

impl Default for Engines {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Engines {
    /// The settings, and `control` if that is given.
    pub(super) fn new(control: Option<Box<dyn Engine>>) -> Self {
        let (sink, locals) = sync_channel(LOCALS);
        Self {
            settings: StaticEngine::new(),
            of_settings: Told::default(),
            control,
            of_control: Told::default(),
            vnis: BTreeSet::new(),
            locals,
            ear: Ear {
                sink,
                is_deaf: Arc::default(),
            },
        }
    }

    /// Where to tell what happens here; `None` if nobody would listen.
    pub(super) fn ear(&self) -> Option<Ear> {
        self.control.is_some().then(|| self.ear.clone())
    }

    /// Whether addresses are also learned from frames of peers.
    pub(super) fn learn_from_peers(&self) -> bool {
        self.control
            .as_ref()
            .is_none_or(|engine| engine.learns_from_peers())
    }

    /// From now on these settings hold.
    pub(super) fn set(&mut self, spec: &SwitchSpec) {
        self.settings.set(spec);
        let vnis: BTreeSet<Vni> = spec
            .bridges
            .iter()
            .filter_map(|bridge| bridge.vni)
            .collect();
        let mut tell = |event| {
            self.settings.local(&event);
            if let Some(engine) = &mut self.control {
                engine.local(&event);
            }
        };
        for &vni in self.vnis.difference(&vnis) {
            tell(Local::VniDown { vni });
            self.of_settings.forget(vni);
            self.of_control.forget(vni);
        }
        for &vni in vnis.difference(&self.vnis) {
            tell(Local::VniUp { vni });
            // The bridge may know addresses already.
            self.ear.is_deaf.store(true, Ordering::Release);
        }
        self.vnis = vnis;
        for change in self.settings.poll() {
            self.of_settings.take(change, EntryKind::Static);
        }
    }

    /// All that was told is in the FDB.
    pub(super) fn in_force(&mut self) {
        for claim in self.of_control.macs.values_mut() {
            claim.is_new = false;
        }
    }

    /// Lets the control plane hear and speak; true if it has said anything.
    fn poll(&mut self, replay: impl FnOnce(&mut dyn FnMut(Local))) -> bool {
        let Some(engine) = &mut self.control else {
            return false;
        };
        if self.ear.is_deaf.swap(false, Ordering::AcqRel) {
            // Too much happened: from the start again.
            while self.locals.try_recv().is_ok() {}
            for &vni in &self.vnis {
                engine.local(&Local::VniDown { vni });
                self.of_control.forget(vni);
                engine.local(&Local::VniUp { vni });
            }
            replay(&mut |event| engine.local(&event));
        }
        while let Ok(event) = self.locals.try_recv() {
            engine.local(&event);
        }
        let changes = engine.poll();
        let is_news = !changes.is_empty();
        for change in changes {
            self.of_control.take(change, EntryKind::Control);
        }
        is_news
    }
}

impl Told {
    fn forget(&mut self, vni: Vni) {
        self.flood.retain(|(told, _)| *told != vni);
        self.macs.retain(|(told, ..), _| *told != vni);
    }

    fn take(&mut self, change: Change, kind: EntryKind) {
        match change {
            Change::FloodAdd { vni, remote } => drop(self.flood.insert((vni, remote))),
            Change::FloodDel { vni, remote } => drop(self.flood.remove(&(vni, remote))),
            Change::MacAdd {
                vni,
                mac,
                vlan,
                remote,
                sticky,
                ..
            } => {
                let kind = if sticky { EntryKind::Static } else { kind };
                let claim = Claim {
                    remote,
                    kind,
                    is_new: true,
                };
                self.macs.insert((vni, mac, vlan), claim);
            }
            Change::MacDel { vni, mac, vlan } => drop(self.macs.remove(&(vni, mac, vlan))),
            Change::Resync => *self = Self::default(),
        }
    }
}

impl State {
    /// Lets the control plane hear what has happened, and takes note of what it says; true if that
    /// is anything.
    pub(super) fn poll_engines(&mut self) -> bool {
        let Self {
            engines, bridges, ..
        } = self;
        engines.poll(|tell| {
            for bridge in bridges.iter() {
                let Some(vni) = bridge.spec.vni else { continue };
                for (key, entry) in bridge.fdb.entries() {
                    if let Some(event) = learned(vni, key, &entry) {
                        tell(event);
                    }
                }
            }
        })
    }
}

/// What an entry of the FDB is to a control plane; `None` if it is not behind a port of this host.
pub(super) fn learned(vni: Vni, key: FdbKey, entry: &FdbEntry) -> Option<Local> {
    matches!(entry.egress, Egress::Port(_)).then(|| Local::Learned {
        vni,
        mac: key.mac(),
        vlan: key.vlan(),
        is_static: entry.kind != EntryKind::Learned,
    })
}

/// Events that wait for the control plane.
const LOCALS: usize = 65_536;
