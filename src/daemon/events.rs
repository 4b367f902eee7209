//! What happens, told to whoever listens.

use std::{
    io,
    sync::{Arc, mpsc::Receiver},
    thread,
};

use arc_swap::ArcSwap;
use tokio::sync::broadcast;

use super::{
    clock::Clock,
    directory::{Directory, Whereabouts},
    engine::Ear,
    history::{Change, History},
    overlay::PeerState,
    state::{PortState, State},
};
use crate::{
    bridge::{Egress, FdbEntry, FdbKey, Ingress, Learn},
    control::api::{Event, PortState as Condition},
    datapath::Learned,
    names::Name,
    overlay::Local,
    sys::clock,
    wire::Vni,
};

/// Events on their way to subscribers. A slow subscriber loses the oldest; nobody waits for it.
#[derive(Debug)]
pub(super) struct EventBus {
    sender: broadcast::Sender<Event>,
    directory: ArcSwap<Directory>,
    clock: Clock,
    /// What happened to FDB entries.
    pub(super) history: History,
    /// Where a control plane listens, if there is one.
    ear: Option<Ear>,
}

/// Where frames were lost; neither port nor remote: at the endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losing<'a> {
    pub(super) bridge: Option<&'a Name>,
    pub(super) port: Option<&'a Name>,
    pub(super) remote: Option<&'a str>,
}

impl EventBus {
    pub(super) fn new(ear: Option<Ear>, clock: Clock, history: History) -> Self {
        Self {
            sender: broadcast::Sender::new(QUEUE),
            directory: ArcSwap::default(),
            clock,
            history,
            ear,
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    pub(super) fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    pub(super) fn know(&self, directory: Directory) {
        self.directory.store(Arc::new(directory));
    }

    /// Tells the news of the workers, on a thread that ends when they do.
    pub(super) fn follow(self: &Arc<Self>, news: Receiver<Learned>) -> io::Result<()> {
        let bus = Arc::clone(self);
        let tell = move || {
            for learned in news {
                bus.learned(&learned);
            }
        };
        thread::Builder::new()
            .name("events".to_owned())
            .spawn(tell)
            .map(drop)
    }

    pub(super) fn bridge(&self, bridge: &Name, change: &str) {
        tracing::info!(%bridge, "bridge {change}");
        self.send(Event::Bridge {
            time: clock::unix_time(),
            bridge: bridge.clone(),
            change: change.to_owned(),
        });
    }

    pub(super) fn port(&self, port: &PortState, change: &str, reason: Option<&str>) {
        let (name, bridge) = (&port.spec.name, &port.spec.bridge);
        tracing::info!(port = %name, %bridge, reason, "port {change}");
        self.send(Event::Port {
            time: clock::unix_time(),
            port: name.clone(),
            bridge: bridge.clone(),
            change: change.to_owned(),
            state: Some(port.condition()),
            reason: reason.map(str::to_owned),
        });
    }

    pub(super) fn port_deleted(&self, name: &Name, bridge: &Name) {
        tracing::info!(port = %name, %bridge, "port deleted");
        self.send(Event::Port {
            time: clock::unix_time(),
            port: name.clone(),
            bridge: bridge.clone(),
            change: "deleted".to_owned(),
            state: None::<Condition>,
            reason: None,
        });
    }

    pub(super) fn mtu(&self, port: &Name, mtu: u32) {
        tracing::info!(%port, mtu, "port mtu");
        self.send(Event::Mtu {
            time: clock::unix_time(),
            port: port.clone(),
            mtu,
        });
    }

    pub(super) fn peer(&self, peer: &PeerState, change: &str, reason: Option<&str>) {
        let (remote, bridge) = (peer.to, &peer.bridge);
        tracing::info!(%remote, %bridge, reason, "peer {change}");
        self.send(Event::Peer {
            time: clock::unix_time(),
            bridge: bridge.clone(),
            remote: remote.ip().to_string(),
            change: change.to_owned(),
            mtu: (change == "mtu").then(|| peer.path.get()),
            reason: reason.map(str::to_owned),
        });
    }

    pub(super) fn vtep(&self, change: &str, reason: Option<&str>) {
        tracing::info!(reason, "vtep {change}");
        self.send(Event::Vtep {
            time: clock::unix_time(),
            change: change.to_owned(),
            reason: reason.map(str::to_owned),
        });
    }

    pub(super) fn drops(&self, place: Losing<'_>, direction: &str, reason: &str, count: u64) {
        self.send(Event::Drops {
            time: clock::unix_time(),
            bridge: place.bridge.cloned(),
            port: place.port.cloned(),
            remote: place.remote.map(str::to_owned),
            direction: direction.to_owned(),
            reason: reason.to_owned(),
            count,
        });
    }

    /// So many events never came to be.
    pub(super) fn lost(&self, count: u64) {
        self.send(Event::Lost { count });
    }

    pub(super) fn fdb_gone(
        &self,
        state: &State,
        bridge: &Name,
        change: &str,
        cause: &'static str,
        gone: &[(FdbKey, FdbEntry)],
    ) {
        let vni = state.bridge(bridge).and_then(|bridge| bridge.spec.vni);
        self.unlearned(vni, gone);
        for (key, entry) in gone {
            let place = state.whereabouts(entry.egress);
            self.fdb(change, bridge, *key, place, cause);
        }
    }

    /// Tells a control plane that these are not here any more.
    pub(super) fn unlearned(&self, vni: Option<Vni>, gone: &[(FdbKey, FdbEntry)]) {
        let Some((vni, ear)) = vni.zip(self.ear.as_ref()) else {
            return;
        };
        for (key, _) in gone
            .iter()
            .filter(|(_, entry)| entry.egress.port().is_some())
        {
            let (mac, vlan) = (key.mac(), key.vlan());
            ear.tell(Local::Aged { vni, mac, vlan });
        }
    }

    /// Tells a control plane that a person has put this address behind a port.
    pub(super) fn pinned(&self, vni: Option<Vni>, key: FdbKey) {
        if let Some((vni, ear)) = vni.zip(self.ear.as_ref()) {
            ear.tell(Local::Learned {
                vni,
                mac: key.mac(),
                vlan: key.vlan(),
                is_static: true,
            });
        }
    }

    /// Tells of something that `cause` did to an entry of the FDB.
    pub(super) fn fdb(
        &self,
        what: &str,
        bridge: &Name,
        key: FdbKey,
        place: Whereabouts,
        cause: &'static str,
    ) {
        let change = Change {
            time: self.clock.now(),
            count: 1,
            what: what.to_owned(),
            place,
            old: Whereabouts::default(),
            frame: None,
            cause: Some(cause),
        };
        self.changed(bridge, key, change);
    }

    fn changed(&self, bridge: &Name, key: FdbKey, change: Change) {
        let Change {
            what, place, old, ..
        } = change.clone();
        self.history.note(bridge, key, change);
        let (mac, vlan) = (key.mac(), key.vlan());
        self.send(Event::Fdb {
            time: clock::unix_time(),
            change: what,
            bridge: bridge.clone(),
            mac,
            vlan,
            port: place.port,
            remote: place.remote,
            old_port: old.port,
            old_remote: old.remote,
        });
    }

    fn learned(&self, news: &Learned) {
        let directory = self.directory.load();
        let here = news.ingress.back();
        let Some(bridge) = directory.bridge_of(here) else {
            return;
        };
        let (change, from) = match news.learn {
            Learn::New => ("learned", None),
            Learn::Moved { from } => ("moved", Some(from)),
            Learn::Flapping { from } => ("flapping", Some(from)),
            Learn::Frozen => ("frozen", None),
            Learn::Pinned => ("static-violation", None),
            Learn::Full => ("limit", None),
            Learn::Known | Learn::Off => return,
        };
        self.tell_control(&directory, bridge, news, from);
        let old = from.map(|from| directory.whereabouts(from));
        let change = Change {
            time: news.now,
            count: 1,
            what: change.to_owned(),
            place: directory.whereabouts(here),
            old: old.unwrap_or_default(),
            frame: Some((news.head().into(), news.len)),
            cause: None,
        };
        self.changed(bridge, news.key, change);
    }

    /// What a control plane wants to know of what was learned at a port.
    fn tell_control(
        &self,
        directory: &Directory,
        bridge: &Name,
        news: &Learned,
        from: Option<Egress>,
    ) {
        let is_here = matches!(news.ingress, Ingress::Port(_));
        let Some((ear, &vni)) = self.ear.as_ref().zip(directory.vnis.get(bridge)) else {
            return;
        };
        let (mac, vlan) = (news.key.mac(), news.key.vlan());
        let is_static = false;
        match (news.learn, from) {
            (Learn::New, _) if is_here => ear.tell(Local::Learned {
                vni,
                mac,
                vlan,
                is_static,
            }),
            (_, Some(Egress::Peer(_))) if is_here => ear.tell(Local::Moved { vni, mac, vlan }),
            (_, Some(Egress::Port(_))) if !is_here => ear.tell(Local::Aged { vni, mac, vlan }),
            _ => {}
        }
    }

    fn send(&self, event: Event) {
        // No subscriber is no error.
        drop(self.sender.send(event));
    }
}

/// Events that wait for a slow subscriber.
const QUEUE: usize = 4096;
