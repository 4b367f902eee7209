//! Making the running switch equal to a file: all of it, or nothing.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use super::{
    state::{Plugged, PortState, State},
    switch::Inner,
};
use crate::{
    config::{
        BridgeSpec, PeerAddr, PortSpec, StaticSpec, SwitchSpec, VtepSpec,
        check::check,
        plan::{Step, plan},
    },
    control::api::ApiError,
    names::Name,
    sys::netns::{NetnsFile, NetnsId},
};

/// How to take a step back.
enum Undo {
    SetVtep(Option<VtepSpec>),
    DeletePeer(Name, PeerAddr),
    AddPeer(Name, PeerAddr),
    DeleteBridge(Name),
    AddBridge(BridgeSpec),
    SetBridge(BridgeSpec),
    DeletePort(Name),
    AddPort(PortSpec),
    SetPort(PortSpec),
    DeleteStatic(StaticSpec),
    AddStatic(StaticSpec),
}

/// Devices of ports that are in their places, but known to no worker yet.
type Ready = HashMap<Name, Plugged>;

impl Inner {
    /// Makes the switch equal to `spec`, touching only what differs, and returns the steps. On an
    /// error everything is as it was, but for ports that had to be unplugged, which are named: what
    /// was learned and counted there is lost, and what others had set up at their interfaces. `lo` of
    /// a namespace into which a port was plugged meanwhile stays up.
    pub(super) fn apply(
        &self,
        state: &mut State,
        spec: &SwitchSpec,
        dry_run: bool,
    ) -> Result<Vec<String>, ApiError> {
        let problems = check(spec);
        if !problems.is_empty() {
            let messages: Vec<_> = problems
                .into_iter()
                .map(|problem| problem.message)
                .collect();
            return Err(ApiError::invalid(format!("apply: {}", messages.join("; "))));
        }
        let before = state.spec();
        let plan = plan(&before, spec);
        let mut told: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
        if dry_run {
            return Ok(told);
        }
        let mut ready = self.plug_ahead(state, spec, &plan.steps)?;
        let mut undo = Vec::new();
        let statics = state.statics.clone();
        state.is_applying = true;
        let taken = self.take_steps(state, plan.steps, &mut ready, &mut undo);
        if let Err(error) = taken {
            let (failed, anew) = self.go_back(state, undo);
            state.is_applying = false;
            state.statics = statics;
            state.sort_like(&before);
            let now = self.clock.now();
            state
                .ports
                .iter()
                .for_each(|port| state.pin_entries(port, now));
            self.reconcile(state);
            let mut became = match (anew.is_empty(), failed.is_empty()) {
                (true, true) => "nothing has changed".to_owned(),
                (_, true) => "undone".to_owned(),
                (_, false) => format!("undone, except: {}", failed.join("; ")),
            };
            if !anew.is_empty() {
                became += "; plugged in anew, and counted from 0: ";
                became += &anew.join(", ");
            }
            return Err(ApiError {
                message: format!("apply: {} ({became})", error.message),
                ..error
            });
        }
        state.is_applying = false;
        // In the order of the file, for whoever reads the switch back.
        state.sort_like(spec);
        self.reconcile(state);
        told.extend(self.replug_gone(state));
        Ok(told)
    }

    /// Makes the devices of all new ports whose places are free already, before anything that works
    /// is touched: namespaces, interfaces, addresses and routes are what goes wrong.
    fn plug_ahead(
        &self,
        state: &State,
        spec: &SwitchSpec,
        steps: &[Step],
    ) -> Result<Ready, ApiError> {
        // Where a port goes or changes, it may be in the way until then.
        let changing: HashSet<NetnsId> = steps
            .iter()
            .filter_map(|step| match step {
                Step::PortDel(name) => Some(name),
                Step::PortReplace { old, .. } | Step::PortSet { old, .. } => Some(&old.name),
                _ => None,
            })
            .filter_map(|name| Some(state.port(name)?.plugged()?.netns))
            .collect();
        let mut ready = Ready::new();
        for step in steps {
            let (Step::PortAdd(port) | Step::PortReplace { new: port, .. }) = step else {
                continue;
            };
            let nothing_yet = |error: &dyn fmt::Display| {
                ApiError::failed(format!("apply: {error} (nothing has changed)"))
            };
            let netns = match &port.netns {
                Some(netns) => NetnsFile::open(netns),
                None => NetnsFile::current(),
            };
            let netns = netns
                .map_err(|error| nothing_yet(&format_args!("add port {}: {error}", port.name)))?;
            if changing.contains(&netns.id()) {
                continue;
            }
            let bridge = spec.bridges.iter().find(|new| new.name == port.bridge);
            let of_bridge = bridge.and_then(|bridge| bridge.mtu);
            let mtu = port.mtu.or(of_bridge);
            let mtu = mtu.unwrap_or_else(|| state.mtu_of(port));
            let plugged = self
                .plug(&format!("add port {}", port.name), port, mtu)
                .map_err(|error| nothing_yet(&error))?;
            ready.insert(port.name.clone(), plugged);
        }
        Ok(ready)
    }

    fn take_steps(
        &self,
        state: &mut State,
        steps: Vec<Step>,
        ready: &mut Ready,
        undo: &mut Vec<Undo>,
    ) -> Result<(), ApiError> {
        // While the ports are there to which they belong.
        let (first, steps): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .partition(|step| matches!(step, Step::FdbDel(_)));
        for step in first {
            undo.push(self.take_step(state, step, ready)?);
        }
        // Ports may take each other's interface, so all are out before the first goes in.
        for step in &steps {
            if let Step::PortReplace { old, .. } = step {
                let statics = state.statics.clone();
                undo.push(Undo::AddPort(self.delete_port(state, &old.name)?));
                state.statics = statics;
            }
        }
        for step in steps {
            undo.push(self.take_step(state, step, ready)?);
        }
        Ok(())
    }

    fn take_step(
        &self,
        state: &mut State,
        step: Step,
        ready: &mut Ready,
    ) -> Result<Undo, ApiError> {
        Ok(match step {
            Step::VtepSet { new, .. } => Undo::SetVtep(self.set_vtep(state, new)?),
            Step::PeerAdd { bridge, peer } => {
                state.list_peer(&bridge, peer);
                Undo::DeletePeer(bridge, peer)
            }
            Step::PeerDel { bridge, peer } => {
                state.unlist_peer(&bridge, peer);
                Undo::AddPeer(bridge, peer)
            }
            Step::BridgeAdd(spec) => {
                let name = spec.name.clone();
                self.add_bridge(state, spec)?;
                Undo::DeleteBridge(name)
            }
            Step::BridgeSet { new, .. } => Undo::SetBridge(self.set_bridge(state, new)?),
            Step::BridgeDel(name) => Undo::AddBridge(self.delete_bridge(state, &name)?),
            Step::PortAdd(spec) | Step::PortReplace { new: spec, .. } => {
                let name = spec.name.clone();
                self.add_port(state, spec, ready.remove(&name))?;
                Undo::DeletePort(name)
            }
            Step::PortSet { new, .. } => Undo::SetPort(self.set_port(state, new)?),
            Step::PortDel(name) => Undo::AddPort(self.delete_port(state, &name)?),
            Step::FdbAdd(entry) => {
                self.add_static(state, entry.clone())?;
                Undo::DeleteStatic(entry)
            }
            Step::FdbDel(entry) => {
                self.delete_fdb(state, &(&entry).into())?;
                Undo::AddStatic(entry)
            }
        })
    }

    /// Undoes everything, last step first; returns what could not be undone, and the ports that had to
    /// be plugged in anew.
    fn go_back(&self, state: &mut State, undo: Vec<Undo>) -> (Vec<String>, Vec<String>) {
        let (mut failed, mut anew) = (Vec::new(), Vec::new());
        for step in undo.into_iter().rev() {
            let result = match step {
                Undo::SetVtep(spec) => self.set_vtep(state, spec).map(drop),
                Undo::DeletePeer(bridge, peer) => {
                    state.unlist_peer(&bridge, peer);
                    Ok(())
                }
                Undo::AddPeer(bridge, peer) => {
                    state.list_peer(&bridge, peer);
                    Ok(())
                }
                Undo::DeleteBridge(name) => self.delete_bridge(state, &name).map(drop),
                Undo::AddBridge(spec) => self.add_bridge(state, spec),
                Undo::SetBridge(spec) => self.set_bridge(state, spec).map(drop),
                Undo::DeletePort(name) => self.delete_port(state, &name).map(drop),
                Undo::AddPort(spec) => {
                    let name = spec.name.to_string();
                    let added = self.add_port(state, spec, None);
                    added.map(|()| anew.push(name))
                }
                Undo::SetPort(spec) => self.set_port(state, spec).map(drop),
                Undo::DeleteStatic(entry) => self.delete_fdb(state, &(&entry).into()),
                Undo::AddStatic(entry) => self.add_static(state, entry),
            };
            failed.extend(result.err().map(|error| error.message));
        }
        (failed, anew)
    }

    /// Plugs in what is gone and can be plugged in; a namespace may be away for good reason.
    fn replug_gone(&self, state: &mut State) -> Vec<String> {
        let gone: Vec<Name> = state
            .ports
            .iter()
            .filter(|port| port.plugged().is_none())
            .map(|port| port.spec.name.clone())
            .collect();
        let mut told = Vec::new();
        for name in gone {
            match self.replug("plug it in again", state, &name) {
                Ok(()) => told.push(format!("~ port {name}: plugged in again")),
                Err(error) => told.push(format!("? port {name} is still gone: {}", error.message)),
            }
        }
        told
    }
}

impl State {
    /// One of perhaps a thousand; all are put in force together, at the end.
    fn list_peer(&mut self, bridge: &Name, peer: PeerAddr) {
        let mut bridges = self.bridges.iter_mut();
        if let Some(bridge) = bridges.find(|state| state.spec.name == *bridge) {
            bridge.spec.peers.push(peer);
        }
    }

    fn unlist_peer(&mut self, bridge: &Name, peer: PeerAddr) {
        let mut bridges = self.bridges.iter_mut();
        if let Some(bridge) = bridges.find(|state| state.spec.name == *bridge) {
            bridge.spec.peers.retain(|other| *other != peer);
        }
    }

    fn sort_like(&mut self, spec: &SwitchSpec) {
        let bridge = |name: &Name| spec.bridges.iter().position(|bridge| bridge.name == *name);
        let port = |name: &Name| spec.ports.iter().position(|port| port.name == *name);
        self.bridges.sort_by_key(|state| bridge(&state.spec.name));
        for (state, like) in self.bridges.iter_mut().zip(&spec.bridges) {
            let place = |peer: &PeerAddr| like.peers.iter().position(|other| other == peer);
            state.spec.peers.sort_by_key(place);
        }
        self.ports
            .sort_by_key(|state: &PortState| port(&state.spec.name));
        self.statics
            .sort_by_key(|entry| spec.fdb.iter().position(|other| other == entry));
    }
}
