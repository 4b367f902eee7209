//! Plugging ports in, changing them, and noticing that they went away.

use std::{fmt::Display, sync::Arc};

use super::{
    directory::Whereabouts,
    overlay::{ANY_SEGMENTS, fit_superframes},
    report::SET_DOWN,
    rules::{check_port, check_together, check_wire},
    state::{Gone, Link, Plugged, PortState, State},
    switch::Inner,
    tap_port::TapPort,
};
use crate::{
    attach::{self, Engine, PlugRequest},
    bridge::{EntryKind, PortId},
    config::{OffloadMode, PortSpec, RouteSpec},
    control::api::{ApiError, PortChange, PortState as Condition},
    datapath::Counters,
    names::{Name, NetnsRef},
    netlink::{self, LinkError, LinkRef, LinkSetup, Route},
    sys::netns::NetnsFile,
    wire::MacAddr,
};

impl Inner {
    /// Adds a port and plugs it in, unless its device is `ready`; any error leaves nothing behind.
    pub(super) fn add_port(
        &self,
        state: &mut State,
        spec: PortSpec,
        ready: Option<Plugged>,
    ) -> Result<(), ApiError> {
        let name = spec.name.clone();
        let operation = format!("add port {name}");
        let bridge = state.known_bridge(&operation, &spec.bridge)?.spec.clone();
        check_port(state, &spec, None)?;
        check_wire(state, &bridge, 1)?;
        check_together(state, &spec, None)?;
        let id = state.free_id().ok_or_else(|| {
            ApiError::failed(format!(
                "{operation}: the switch has {} ports, its limit; run another switch",
                PortId::LIMIT
            ))
        })?;
        let mtu = state.mtu_of(&spec);
        let is_ready = ready.is_some();
        let plugged = match ready {
            Some(plugged) => plugged,
            None => self.plug(&operation, &spec, mtu)?,
        };
        let counters = Arc::new(Counters::new(self.workers.len()));
        let mut port = PortState {
            id,
            mac: self.mac_of(&spec),
            spec,
            mtu,
            counters,
            added: self.clock.now(),
            queue_drops: 0,
            link: Link::Plugged(plugged),
        };
        if is_ready {
            // The bridge may have got another since.
            set_mtu(&mut port, mtu)
                .map_err(|error| ApiError::failed(format!("{operation}: {error}")))?;
        }
        state.ports.push(port);
        self.go_live(&operation, state, &name, "added")
            .or_else(|error| {
                self.delete_port(state, &name)?;
                Err(error)
            })?;
        fit_superframes(state);
        Ok(())
    }

    /// Puts a freshly plugged port to work.
    fn go_live(
        &self,
        operation: &str,
        state: &State,
        name: &Name,
        change: &str,
    ) -> Result<(), ApiError> {
        let Some((port, plugged)) = state
            .port(name)
            .and_then(|port| Some((port, port.plugged()?)))
        else {
            return Ok(());
        };
        state.pin_entries(port, self.clock.now());
        // First known to the workers, then watched: a frame must not come before its port.
        self.publish(state);
        self.workers.watch(port.id, &*plugged.io).map_err(|error| {
            ApiError::failed(format!("{operation}: poll its tap: {error}; check `dmesg`"))
        })?;
        self.events.port(port, change, None);
        Ok(())
    }

    /// Deletes a port with everything that points to it, and returns its settings.
    pub(super) fn delete_port(&self, state: &mut State, name: &Name) -> Result<PortSpec, ApiError> {
        state.known_port("delete port", name)?;
        state
            .statics
            .retain(|entry| entry.place.port() != Some(name));
        let index = state
            .ports
            .iter()
            .position(|port| port.spec.name == *name)
            .unwrap_or_default();
        let port = state.ports.remove(index);
        state.part_with(&port);
        if let Some(plugged) = port.plugged() {
            self.workers.unwatch(port.id, &*plugged.io);
        }
        // When this returns no worker knows the port, so its device closes with `port`.
        self.publish(state);
        self.forget(
            state,
            &port.spec.bridge,
            &port,
            "its port was deleted",
            |_| true,
        );
        self.events.port_deleted(name, &port.spec.bridge);
        Ok(port.spec)
    }

    pub(super) fn change_port(
        &self,
        state: &mut State,
        change: &PortChange,
    ) -> Result<(), ApiError> {
        let mut spec = state.known_port("set port", &change.name)?.spec.clone();
        let flags = &mut spec.flags;
        let set = |flag: &mut bool, value: Option<bool>| *flag = value.unwrap_or(*flag);
        set(&mut flags.learning, change.learning);
        set(&mut flags.flood, change.flood);
        set(&mut flags.mcast_flood, change.mcast_flood);
        set(&mut flags.bcast_flood, change.bcast_flood);
        set(&mut flags.isolated, change.isolated);
        set(&mut flags.hairpin, change.hairpin);
        set(&mut flags.locked, change.locked);
        set(&mut flags.up, change.up);
        spec.mtu = change.mtu.or(spec.mtu);
        spec.mac = change.mac.or(spec.mac);
        spec.addresses = change.addresses.clone().unwrap_or(spec.addresses);
        spec.gateways = change.gateways.clone().unwrap_or(spec.gateways);
        spec.routes = change.routes.clone().unwrap_or(spec.routes);
        let old = self.set_port(state, spec)?;
        if change.up != Some(true) {
            return Ok(());
        }
        let operation = format!("set port {}", change.name);
        self.replug(&operation, state, &change.name)
            .or_else(|error| {
                // It is still gone, so nothing but settings goes back.
                self.set_port(state, old)?;
                Err(error)
            })
    }

    /// Gives the port of that name these settings without unplugging it; returns those it had.
    /// Namespace, interface name and engine cannot change like this.
    pub(super) fn set_port(&self, state: &mut State, spec: PortSpec) -> Result<PortSpec, ApiError> {
        let name = spec.name.clone();
        let operation = format!("set port {name}");
        let port = state.known_port("set port", &name)?;
        let old = port.spec.clone();
        let was = port.condition();
        let bridge = state.known_bridge(&operation, &spec.bridge)?.spec.clone();
        check_port(state, &spec, Some(&name))?;
        if spec.bridge != old.bridge {
            check_wire(state, &bridge, 1)?;
        }
        check_together(state, &spec, Some(&name))?;
        let mac = self.mac_of(&spec);
        let mtu = state.mtu_of(&spec);
        if let Some(plugged) = port.plugged() {
            let before = Inside {
                mac: port.mac,
                mtu: port.mtu,
                spec: &old,
            };
            let after = Inside {
                mac,
                mtu,
                spec: &spec,
            };
            reconfigure(plugged, &before, &after)
                .map_err(|error| ApiError::failed(format!("{operation}: {error}")))?;
        }
        let mtu_changed = mtu != port.mtu;
        let moved = spec.bridge != old.bridge;
        // What was learned through it is not reachable through it any more.
        let forgets = moved || mac != port.mac || (old.flags.up && !spec.flags.up);
        if moved {
            state
                .statics
                .retain(|entry| entry.place.port() != Some(&name));
        }
        if let Some(port) = state.port_mut(&name) {
            (port.spec, port.mac, port.mtu) = (spec, mac, mtu);
        }
        // First in force, then forgotten: a worker with the old topology could learn it again.
        self.publish(state);
        let Some(port) = state.port(&name) else {
            return Ok(old);
        };
        if forgets {
            let cause = if moved {
                "its port went to another bridge"
            } else if !port.spec.flags.up {
                "its port was set down"
            } else {
                "the address of its port was changed"
            };
            self.forget(state, &old.bridge, port, cause, |kind| {
                moved || kind != EntryKind::Static
            });
        }
        state.pin_entries(port, self.clock.now());
        if mtu_changed {
            self.events.mtu(&name, mtu);
        }
        match (was, port.condition()) {
            (Condition::Up, Condition::Down) => self.events.port(port, "down", Some(SET_DOWN)),
            (Condition::Down, Condition::Up) => self.events.port(port, "up", None),
            _ => self.events.port(port, "changed", None),
        }
        Ok(old)
    }

    /// Brings all ports of a bridge that name no MTU of their own to `mtu`.
    pub(super) fn push_mtu(
        &self,
        state: &mut State,
        bridge: &Name,
        mtu: u32,
    ) -> Result<(), ApiError> {
        let follows =
            |port: &&mut PortState| port.spec.bridge == *bridge && port.spec.mtu.is_none();
        let mut done: Vec<(Name, u32)> = Vec::new();
        for port in state.ports.iter_mut().filter(follows) {
            let old = port.mtu;
            if let Err(error) = set_mtu(port, mtu) {
                let error = ApiError::failed(format!(
                    "set mtu {mtu} of bridge {bridge}: port {}: {error}",
                    port.spec.name
                ));
                for (name, old) in done {
                    // It was possible a moment ago.
                    drop(state.port_mut(&name).map(|port| set_mtu(port, old)));
                }
                return Err(error);
            }
            done.push((port.spec.name.clone(), old));
        }
        for (name, _) in &done {
            self.events.mtu(name, mtu);
        }
        Ok(())
    }

    /// Likewise, as far as it goes: a namespace that is just dying keeps no other port from it, and
    /// a port that returns gets it then.
    pub(super) fn offer_mtu(&self, state: &mut State, bridge: &Name, mtu: u32) {
        let follows =
            |port: &&mut PortState| port.spec.bridge == *bridge && port.spec.mtu.is_none();
        for port in state.ports.iter_mut().filter(follows) {
            match set_mtu(port, mtu) {
                Ok(()) => self.events.mtu(&port.spec.name, mtu),
                Err(error) => tracing::warn!(
                    port = %port.spec.name,
                    "set mtu {mtu} of bridge {bridge}: {error}; frames that do not fit are dropped"
                ),
            }
        }
    }

    /// The device of port `id` is gone, with or without its namespace.
    pub(super) fn port_gone(&self, state: &mut State, id: PortId) {
        let Some(port) = state.ports.iter_mut().find(|port| port.id == id) else {
            return;
        };
        let Link::Plugged(plugged) = &port.link else {
            return;
        };
        // A notice may be told twice, or be of another device that had this number.
        if !plugged.io.is_gone() {
            return;
        }
        // Still the same namespace under that name: then it was the interface that was deleted.
        let alive = port
            .spec
            .netns
            .as_ref()
            .and_then(|netns| NetnsFile::open(netns).ok())
            .filter(|now| now.id() == plugged.netns);
        let reason = match (&port.spec.netns, &alive) {
            (None, _) => "its interface was deleted".to_owned(),
            (Some(netns), Some(_)) => format!("its interface was deleted in netns {netns}"),
            (Some(netns), None) => format!("netns {netns} is gone"),
        };
        self.workers.unwatch(id, &*plugged.io);
        let not_into = alive.map(|netns| netns.id());
        let gone = Link::Gone(Gone {
            reason: reason.clone(),
            not_into,
        });
        let device = std::mem::replace(&mut port.link, gone);
        self.publish(state);
        // Closing waits for the kernel, so no worker may be the last to hold it.
        drop(device);
        let Some(port) = state.port_by_id(id) else {
            return;
        };
        let cause = "the device of its port is gone";
        self.forget(state, &port.spec.bridge, port, cause, |kind| {
            kind != EntryKind::Static
        });
        self.events.port(port, "gone", Some(&reason));
    }

    /// The hardware address of a port with these settings.
    fn mac_of(&self, spec: &PortSpec) -> MacAddr {
        let derived = || MacAddr::derived(&[&self.name, spec.name.as_str()]);
        spec.mac.unwrap_or_else(derived)
    }

    /// Makes the device of a port in its place, for `operation`.
    pub(super) fn plug(
        &self,
        operation: &str,
        spec: &PortSpec,
        mtu: u32,
    ) -> Result<Plugged, ApiError> {
        let request = PlugRequest {
            mtu,
            addresses: spec.addresses.clone(),
            gateways: spec.gateways.clone(),
            routes: spec.routes.iter().map(route).collect(),
            engine: match spec.offload {
                OffloadMode::On => Engine::Fast,
                OffloadMode::Off => Engine::Simple,
            },
            tx_queue_len: spec.txqueuelen,
            no_qdisc: self.tuning.noqueue,
            ..PlugRequest::new(
                spec.netns.clone(),
                spec.effective_ifname(),
                self.mac_of(spec),
            )
        };
        let failed = |error: &dyn Display| ApiError::failed(format!("{operation}: {error}"));
        let plugged = attach::plug(&request).map_err(|error| failed(&error))?;
        // A port that is down has its cable pulled; the interface itself belongs to the namespace.
        plugged
            .device
            .set_carrier(spec.flags.up)
            .map_err(|error| failed(&error))?;
        Ok(Plugged {
            io: Arc::new(TapPort::new(spec.name.clone(), plugged.device)),
            netns: plugged.netns_id,
            ifindex: plugged.ifindex_in_netns,
            gso_max_segs: ANY_SEGMENTS,
            down_inside: false,
        })
    }

    /// Plugs a port that is gone in again, whatever the reason was.
    pub(super) fn replug(
        &self,
        operation: &str,
        state: &mut State,
        name: &Name,
    ) -> Result<(), ApiError> {
        let Some(port) = state.port(name) else {
            return Ok(());
        };
        if port.plugged().is_some() {
            return Ok(());
        }
        let mtu = state.mtu_of(&port.spec);
        let plugged = self.plug(operation, &port.spec, mtu)?;
        if let Some(port) = state.port_mut(name) {
            port.mtu = mtu;
            port.link = Link::Plugged(plugged);
        }
        let live = self.go_live(operation, state, name, "returned");
        live.inspect_err(|error| {
            let reason = error.message.clone();
            let gone = Link::Gone(Gone {
                reason,
                not_into: None,
            });
            let device = state
                .port_mut(name)
                .map(|port| std::mem::replace(&mut port.link, gone));
            self.publish(state);
            drop(device);
        })?;
        fit_superframes(state);
        Ok(())
    }

    /// Plugs in again what went with its namespace, where a namespace of that name is back.
    /// Whether any port still waits for one that may come at any moment.
    pub(super) fn replug_returned(&self, state: &mut State) -> bool {
        let mut back = Vec::new();
        for port in &mut state.ports {
            let (Link::Gone(gone), Some(netns)) = (&mut port.link, &port.spec.netns) else {
                continue;
            };
            // Another process may have taken the number.
            if matches!(netns, NetnsRef::Pid(_)) {
                continue;
            }
            match NetnsFile::open(netns) {
                Ok(file) if gone.not_into != Some(file.id()) => back.push(port.spec.name.clone()),
                Ok(_) => {}
                // The one in which somebody deleted the interface is gone too: the next is new.
                Err(_) => gone.not_into = None,
            }
        }
        for name in &back {
            if let Err(error) = self.replug("plug in again", state, name) {
                tracing::warn!(port = %name, "{error}");
            }
        }
        state
            .ports
            .iter()
            .any(|port| matches!(&port.link, Link::Gone(gone) if gone.not_into.is_none()))
    }

    /// Deletes the entries in the FDB of `bridge` that point to `port` and are of a kind that
    /// `goes`.
    fn forget(
        &self,
        state: &State,
        bridge: &Name,
        port: &PortState,
        cause: &'static str,
        goes: impl Fn(EntryKind) -> bool,
    ) {
        let Some(bridge) = state.bridge(bridge) else {
            return;
        };
        let gone = bridge
            .fdb
            .flush(|_, entry| entry.egress.port() == Some(port.id) && goes(entry.kind));
        self.events.unlearned(bridge.spec.vni, &gone);
        for (key, _) in gone {
            let place = Whereabouts {
                port: Some(port.spec.name.clone()),
                remote: None,
            };
            self.events
                .fdb("flushed", &bridge.spec.name, key, place, cause);
        }
    }
}

fn route(route: &RouteSpec) -> Route {
    Route::new(route.to, route.via)
}

/// The settings of a port that live inside its namespace.
struct Inside<'a> {
    mac: MacAddr,
    mtu: u32,
    spec: &'a PortSpec,
}

/// Changes what differs; on an error what was changed is changed back.
fn reconfigure(plugged: &Plugged, before: &Inside<'_>, after: &Inside<'_>) -> Result<(), String> {
    change_inside(plugged, before, after).inspect_err(|_| {
        drop(change_inside(plugged, after, before));
    })
}

fn change_inside(plugged: &Plugged, before: &Inside<'_>, after: &Inside<'_>) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let (old, new) = (before.spec, after.spec);
    if old.flags.up != new.flags.up {
        plugged
            .io
            .device()
            .set_carrier(new.flags.up)
            .map_err(|error| format!("set carrier: {error}; check `dmesg`"))?;
    }
    let same_inside = (before.mac, before.mtu) == (after.mac, after.mtu)
        && (&old.addresses, &old.gateways, &old.routes)
            == (&new.addresses, &new.gateways, &new.routes)
        && old.txqueuelen == new.txqueuelen;
    if same_inside {
        return Ok(());
    }
    let netns = plugged.io.device().netns().map_err(|error| text(&error))?;
    let (netns, index) = (Some(&netns), plugged.ifindex);
    if before.mac != after.mac {
        netlink::set_mac(netns, index, after.mac).map_err(|error| text(&error))?;
    }
    let all_routes = |spec: &PortSpec| -> Vec<Route> {
        spec.gateways
            .iter()
            .map(|&via| Route::default_via(via))
            .chain(spec.routes.iter().map(route))
            .collect()
    };
    let kept = all_routes(new);
    for gone in all_routes(old)
        .into_iter()
        .filter(|route| !kept.contains(route))
    {
        unless_missing(netlink::remove_route(netns, index, gone))?;
    }
    for &gone in old
        .addresses
        .iter()
        .filter(|address| !new.addresses.contains(address))
    {
        unless_missing(netlink::remove_address(netns, index, gone))?;
    }
    let setup = LinkSetup {
        mtu: Some(after.mtu),
        tx_queue_len: Some(new.txqueuelen),
        addresses: new.addresses.clone(),
        gateways: new.gateways.clone(),
        routes: new.routes.iter().map(route).collect(),
        ..LinkSetup::new(LinkRef::Index(index))
    };
    netlink::configure(netns, &setup)
        .map(drop)
        .map_err(|error| text(&error))
}

/// Removes what may have gone already: with another address of its subnet, or by somebody inside.
fn unless_missing(removed: Result<(), LinkError>) -> Result<(), String> {
    match removed {
        Err(error) if matches!(error.errno(), Some(libc::ESRCH | libc::EADDRNOTAVAIL)) => Ok(()),
        result => result.map_err(|error| error.to_string()),
    }
}

fn set_mtu(port: &mut PortState, mtu: u32) -> Result<(), String> {
    if let Link::Plugged(plugged) = &port.link {
        let netns = plugged
            .io
            .device()
            .netns()
            .map_err(|error| error.to_string())?;
        netlink::set_mtu(Some(&netns), plugged.ifindex, mtu).map_err(|error| error.to_string())?;
    }
    port.mtu = mtu;
    Ok(())
}
