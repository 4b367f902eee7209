//! What may not be, whoever asks for it.

use std::collections::BTreeSet;

use super::state::{PortState, State};
use crate::{
    config::{BridgeSpec, Mode, PortSpec, SwitchSpec, check::check},
    control::api::ApiError,
    names::Name,
};

/// What no port may do, whether it is new or changed (`except` itself).
pub(super) fn check_port(
    state: &State,
    spec: &PortSpec,
    except: Option<&Name>,
) -> Result<(), ApiError> {
    let name = &spec.name;
    let others = || {
        state
            .ports
            .iter()
            .filter(|port| Some(&port.spec.name) != except)
    };
    if let Some(owner) = others().find(|port| port.spec.name == *name) {
        let (ifname, bridge) = (owner.spec.effective_ifname(), &owner.spec.bridge);
        let place = place_of(&owner.spec);
        return Err(ApiError::failed(format!(
            "add port {name}: bridge {bridge} has a port of this name ({ifname} {place}); choose \
             another, or delete it: tapswitch port del {name}"
        )));
    }
    let ifname = spec.effective_ifname();
    let same_place =
        |port: &&PortState| port.spec.netns == spec.netns && port.spec.effective_ifname() == ifname;
    if let Some(other) = others().find(same_place) {
        let place = place_of(spec);
        return Err(ApiError::failed(format!(
            "add port {name}: interface {ifname} {place} belongs to port {}; choose another \
             (--ifname)",
            other.spec.name,
        )));
    }
    Ok(())
}

/// Where the interface of a port is.
fn place_of(spec: &PortSpec) -> String {
    match &spec.netns {
        Some(netns) => format!("in netns {netns}"),
        None => "in the daemon's netns".to_owned(),
    }
}

/// What the settings of the switch may not be once `spec` is among them.
pub(super) fn check_together(
    state: &State,
    spec: &PortSpec,
    except: Option<&Name>,
) -> Result<(), ApiError> {
    if state.is_applying {
        return Ok(());
    }
    let mut whole = state.spec();
    whole.ports.retain(|port| Some(&port.name) != except);
    whole.ports.push(spec.clone());
    check_whole(&whole)
}

/// Refuses a switch that breaks a rule which its settings must keep together.
pub(super) fn check_whole(spec: &SwitchSpec) -> Result<(), ApiError> {
    match check(spec).into_iter().next() {
        Some(problem) => Err(ApiError::invalid(problem.message)),
        None => Ok(()),
    }
}

/// Refuses to close an endpoint that a bridge of `spec` needs, and tells how to do without.
pub(super) fn check_unused_vtep(spec: &SwitchSpec) -> Result<(), ApiError> {
    let carried = |bridge: &BridgeSpec| Some((bridge.vni?, bridge.name.clone()));
    let Some((vni, name)) = spec.bridges.iter().find_map(carried) else {
        return Ok(());
    };
    let home = spec.fdb.iter().filter(|entry| entry.bridge == name);
    let remotes: BTreeSet<String> = home
        .filter_map(|entry| Some(entry.place.peer()?.to_string()))
        .collect();
    let flush = |remote| format!("tapswitch fdb flush --bridge {name} --remote {remote} --static");
    let leave = format!("tapswitch bridge set {name} --vni none --peer none");
    let commands: Vec<String> = remotes.iter().map(flush).chain([leave]).collect();
    Err(ApiError::failed(format!(
        "delete vtep: bridge {name} has VNI {vni}; take it off the overlay first: {}",
        commands.join(" && ")
    )))
}

/// A wire has two ends.
pub(super) fn check_wire(state: &State, bridge: &BridgeSpec, more: usize) -> Result<(), ApiError> {
    let ports = state
        .ports
        .iter()
        .filter(|port| port.spec.bridge == bridge.name)
        .count()
        + more;
    if bridge.mode == Mode::Wire && ports > 2 && !state.is_applying {
        let name = &bridge.name;
        return Err(ApiError::failed(format!(
            "bridge {name}: a wire joins exactly two ports, not {ports}; make it a hub or a switch: tapswitch bridge set {name} --mode switch"
        )));
    }
    Ok(())
}
