//! Making the running switch equal to a file: all of it, or nothing.

use super::{
    state::{PortState, State},
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
    sys::netns::NetnsFile,
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

impl Inner {
    /// Makes the switch equal to `spec`, touching only what differs, and returns the steps. On an
    /// error everything is as it was, but for learned addresses of ports that had to be unplugged.
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
        // Before a port that works is unplugged: what is mistyped in a file is mostly this.
        for step in &plan.steps {
            if let Step::PortAdd(port) | Step::PortReplace { new: port, .. } = step {
                open_netns(port)?;
            }
        }
        let mut undo = Vec::new();
        let statics = state.statics.clone();
        state.is_applying = true;
        let taken = self.take_steps(state, plan.steps, &mut undo);
        if let Err(error) = taken {
            let failed = self.go_back(state, undo);
            state.is_applying = false;
            state.statics = statics;
            state.sort_like(&before);
            let now = self.clock.now();
            state
                .ports
                .iter()
                .for_each(|port| state.pin_entries(port, now));
            self.reconcile(state);
            let failed = if failed.is_empty() {
                "nothing has changed".to_owned()
            } else {
                format!("undone, except: {}", failed.join("; "))
            };
            return Err(ApiError {
                message: format!("apply: {} ({failed})", error.message),
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

    fn take_steps(
        &self,
        state: &mut State,
        steps: Vec<Step>,
        undo: &mut Vec<Undo>,
    ) -> Result<(), ApiError> {
        // While the ports are there to which they belong.
        let (first, steps): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .partition(|step| matches!(step, Step::FdbDel(_)));
        for step in first {
            undo.push(self.take_step(state, step)?);
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
            undo.push(self.take_step(state, step)?);
        }
        Ok(())
    }

    fn take_step(&self, state: &mut State, step: Step) -> Result<Undo, ApiError> {
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
                self.add_port(state, spec)?;
                Undo::DeletePort(name)
            }
            Step::PortSet { new, .. } => Undo::SetPort(self.set_port(state, new)?),
            Step::PortDel(name) => Undo::AddPort(self.delete_port(state, &name)?),
            Step::FdbAdd(entry) => {
                self.add_static(state, entry.clone())?;
                Undo::DeleteStatic(entry)
            }
            Step::FdbDel(entry) => {
                self.delete_fdb(state, Some(&entry.bridge), entry.mac, entry.vlan)?;
                Undo::AddStatic(entry)
            }
        })
    }

    /// Undoes everything, last step first; returns what could not be undone.
    fn go_back(&self, state: &mut State, undo: Vec<Undo>) -> Vec<String> {
        let mut failed = Vec::new();
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
                Undo::AddPort(spec) => self.add_port(state, spec),
                Undo::SetPort(spec) => self.set_port(state, spec).map(drop),
                Undo::DeleteStatic(entry) => {
                    self.delete_fdb(state, Some(&entry.bridge), entry.mac, entry.vlan)
                }
                Undo::AddStatic(entry) => self.add_static(state, entry),
            };
            failed.extend(result.err().map(|error| error.message));
        }
        failed
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
            match self.replug(state, &name) {
                Ok(()) => told.push(format!("~ port {name}: plugged in again")),
                Err(error) => told.push(format!("? port {name} is still gone: {}", error.message)),
            }
        }
        told
    }
}

fn open_netns(port: &PortSpec) -> Result<(), ApiError> {
    let opened = port.netns.as_ref().map(NetnsFile::open).transpose();
    opened.map(drop).map_err(|error| {
        let name = &port.name;
        ApiError::failed(format!(
            "apply: add port {name}: {error} (nothing has changed)"
        ))
    })
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
