//! What may not be, whoever asks for it.

use super::state::{PortState, State};
use crate::{
    config::{BridgeSpec, Mode, PortSpec, SwitchSpec, check::check},
    control::api::ApiError,
    names::{Name, NetnsRef},
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
        let place = owner.spec.netns.as_ref();
        let place = place.map_or_else(|| "the daemon's netns".to_owned(), |n| format!("netns {n}"));
        return Err(ApiError::failed(format!(
            "add port {name}: bridge {bridge} has a port of this name ({ifname} in {place}); choose \
             another, or delete it: tapswitch port del {name}"
        )));
    }
    let ifname = spec.effective_ifname();
    let same_place =
        |port: &&PortState| port.spec.netns == spec.netns && port.spec.effective_ifname() == ifname;
    if let Some(other) = others().find(same_place) {
        let netns = spec
            .netns
            .as_ref()
            .map_or_else(|| "of the daemon".to_owned(), NetnsRef::to_string);
        return Err(ApiError::failed(format!(
            "port {name}: interface {ifname} in netns {netns} belongs to port {}; give another \
             --ifname",
            other.spec.name,
        )));
    }
    Ok(())
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
