//! The few changes that a page may make.

use crate::control::api::{BridgeChange, FdbState, PortChange, Request};

/// Whether a page may ask for this: a port's cable and isolation, a bridge's mode, and forgetting
/// what was learned.
pub(super) fn is_allowed(request: &Request) -> bool {
    match request {
        Request::PortSet(change) => {
            let allowed = PortChange {
                up: change.up,
                isolated: change.isolated,
                ..PortChange::new(change.name.clone())
            };
            *change == allowed && (change.up.is_some() || change.isolated.is_some())
        }
        Request::BridgeSet(change) => {
            let allowed = BridgeChange {
                mode: change.mode,
                ..BridgeChange::new(change.name.clone())
            };
            *change == allowed && change.mode.is_some()
        }
        Request::FdbFlush(selector) => {
            matches!(selector.state, None | Some(FdbState::Learned))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(json: &str) -> bool {
        is_allowed(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_page_may_pull_a_cable_and_not_give_an_address() {
        for json in [
            r#"{"op":"port-set","name":"podA","up":false}"#,
            r#"{"op":"port-set","name":"podA","isolated":true}"#,
            r#"{"op":"bridge-set","name":"br0","mode":"hub"}"#,
            r#"{"op":"fdb-flush"}"#,
            r#"{"op":"fdb-flush","bridge":"br0","port":"podA"}"#,
        ] {
            assert!(allowed(json), "{json}");
        }
        for json in [
            r#"{"op":"show"}"#,
            r#"{"op":"port-set","name":"podA"}"#,
            r#"{"op":"port-set","name":"podA","up":false,"mtu":1400}"#,
            r#"{"op":"port-set","name":"podA","addresses":["10.0.0.1/8"]}"#,
            r#"{"op":"bridge-set","name":"br0","mode":"hub","mtu":null}"#,
            r#"{"op":"bridge-set","name":"br0","fdb_limit":1}"#,
            r#"{"op":"fdb-flush","state":"static"}"#,
            r#"{"op":"port-del","name":"podA"}"#,
            r#"{"op":"vtep-del"}"#,
        ] {
            assert!(!allowed(json), "{json}");
        }
    }
}
