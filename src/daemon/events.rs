//! What happens, told to whoever listens.

use std::{
    io,
    sync::{Arc, mpsc::Receiver},
    thread,
};

use arc_swap::ArcSwap;
use tokio::sync::broadcast;

use super::state::{PortState, State};
use crate::{
    bridge::{Egress, FdbEntry, FdbKey, Learn, PortId},
    control::api::{Event, PortState as Condition},
    datapath::Learned,
    names::Name,
    sys::clock,
};

/// Events on their way to subscribers. A slow subscriber loses the oldest; nobody waits for it.
#[derive(Debug)]
pub(super) struct EventBus {
    sender: broadcast::Sender<Event>,
    directory: ArcSwap<Directory>,
}

/// Port numbers to names, for news that come from workers.
#[derive(Debug, Default)]
pub(super) struct Directory(Vec<Option<(Name, Name)>>);

impl Directory {
    pub(super) fn of(state: &State) -> Self {
        let mut names = Vec::new();
        for port in &state.ports {
            let index = port.id.index();
            if names.len() <= index {
                names.resize(index + 1, None);
            }
            names[index] = Some((port.spec.name.clone(), port.spec.bridge.clone()));
        }
        Self(names)
    }

    fn port(&self, id: PortId) -> Option<&(Name, Name)> {
        self.0.get(id.index())?.as_ref()
    }

    fn name(&self, egress: Egress) -> Option<Name> {
        self.port(egress.port()?).map(|(name, _)| name.clone())
    }
}

impl EventBus {
    pub(super) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(QUEUE),
            directory: ArcSwap::default(),
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
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
        self.send(Event::Mtu {
            time: clock::unix_time(),
            port: port.clone(),
            mtu,
        });
    }

    pub(super) fn fdb_gone(
        &self,
        state: &State,
        bridge: &Name,
        change: &str,
        gone: &[(FdbKey, FdbEntry)],
    ) {
        for (key, entry) in gone {
            let port = entry.egress.port().and_then(|id| state.port_by_id(id));
            self.fdb(
                change,
                bridge,
                *key,
                port.map(|port| port.spec.name.clone()),
                None,
            );
        }
    }

    pub(super) fn fdb(
        &self,
        change: &str,
        bridge: &Name,
        key: FdbKey,
        port: Option<Name>,
        old_port: Option<Name>,
    ) {
        let (mac, vlan) = (key.mac(), key.vlan());
        let change = change.to_owned();
        self.send(Event::Fdb {
            time: clock::unix_time(),
            change,
            bridge: bridge.clone(),
            mac,
            vlan,
            port,
            remote: None,
            old_port,
            old_remote: None,
        });
    }

    fn learned(&self, news: &Learned) {
        let directory = self.directory.load();
        let Some((port, bridge)) = directory.port(news.ingress) else {
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
        let old_port = from.and_then(|from| directory.name(from));
        self.fdb(change, bridge, news.key, Some(port.clone()), old_port);
    }

    fn send(&self, event: Event) {
        // No subscriber is no error.
        drop(self.sender.send(event));
    }
}

/// Events that wait for a slow subscriber.
const QUEUE: usize = 4096;
