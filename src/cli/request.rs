//! From the command line to a request.

use super::{
    CliError,
    args::{
        BridgeArgs, EntryArgs, FlagArgs, PeerArgs, PeerCommand, PortAddArgs, PortSetArgs,
        SelectorArgs, VtepSetArgs,
    },
    values::{OnOff, OrNone, parse_mtu},
};
use crate::{
    config::{
        BridgeSpec, PortFlagsSpec, PortSpec, SwitchSpec, VtepSpec,
        check::{MTU_RANGE, Section, Setting, check},
    },
    control::api::{
        BridgeChange, EntrySelector, FdbSelector, FdbState, PingRequest, PortChange, Request,
    },
};

pub(super) fn bridge_add(args: BridgeArgs) -> Result<Request, CliError> {
    let default = BridgeSpec::new(args.name.clone());
    let bridge = BridgeSpec {
        mode: args.mode.map_or(default.mode, Into::into),
        vni: args.vni.and_then(|vni| vni.0),
        peers: list(args.peers).unwrap_or_default(),
        peer_learning: args.peer_learning.is_none_or(Into::into),
        mtu: args.mtu.and_then(|mtu| mtu.0),
        ageing: args.ageing.unwrap_or(default.ageing),
        fdb_limit: args.fdb_limit.unwrap_or(default.fdb_limit),
        at_limit: args.at_limit.map_or(default.at_limit, Into::into),
        forward_reserved: args.forward_reserved.unwrap_or(default.forward_reserved),
        flap_limit: args.flap_limit.unwrap_or(default.flap_limit),
        ..default
    };
    let spec = SwitchSpec {
        bridges: vec![bridge.clone()],
        ..SwitchSpec::default()
    };
    // Whether there is an endpoint is for the daemon to say.
    refuse_problems(&spec, |setting| {
        (setting.section, setting.key) != (Section::Bridge, "vni")
    })?;
    Ok(Request::BridgeAdd(bridge))
}

pub(super) fn bridge_set(args: BridgeArgs) -> Result<Request, CliError> {
    let name = args.name;
    let mtu = args.mtu.map(|mtu| mtu.0);
    check_mtu("bridge", name.as_str(), mtu.flatten())?;
    let change = BridgeChange {
        mode: args.mode.map(Into::into),
        mtu,
        vni: args.vni.map(|vni| vni.0),
        peers: list(args.peers),
        peer_learning: args.peer_learning.map(Into::into),
        ageing_s: args.ageing.map(|ageing| ageing.as_secs_f64()),
        fdb_limit: args.fdb_limit,
        at_limit: args.at_limit.map(Into::into),
        forward_reserved: args.forward_reserved,
        flap_limit: args.flap_limit,
        ..BridgeChange::new(name)
    };
    if change == BridgeChange::new(change.name.clone()) {
        let name = &change.name;
        let text = format!("set bridge {name}: nothing to change; see tapswitch bridge set --help");
        return Err(CliError::Usage(text));
    }
    Ok(Request::BridgeSet(change))
}

/// The endpoint as it is, with what `args` change.
pub(super) fn vtep_set(args: VtepSetArgs, current: Option<VtepSpec>) -> Result<Request, CliError> {
    let current = match (current, args.local) {
        (Some(current), _) => current,
        (None, Some(local)) => VtepSpec::new(local),
        (None, None) => {
            let text = "set vtep: there is none yet; give --local IP, one of this host's addresses";
            return Err(CliError::Usage(text.to_owned()));
        }
    };
    let flag = |arg: Option<OnOff>, current| arg.map_or(current, Into::into);
    let vtep = VtepSpec {
        local: args.local.unwrap_or(current.local),
        port: args.port.unwrap_or(current.port),
        netns: args.netns.map_or(current.netns, |netns| netns.0),
        accept: args.accept.map_or(current.accept, Into::into),
        strict: flag(args.strict, current.strict),
        ttl: args.ttl.unwrap_or(current.ttl),
        tos: args.tos.unwrap_or(current.tos),
        udpcsum: flag(args.udpcsum, current.udpcsum),
        udp6zerocsumrx: flag(args.udp6zerocsumrx, current.udp6zerocsumrx),
        offload: args.offload.map_or(current.offload, Into::into),
        too_big_answers: flag(args.too_big_answers, current.too_big_answers),
    };
    let spec = SwitchSpec {
        vtep: Some(vtep.clone()),
        ..SwitchSpec::default()
    };
    refuse_problems(&spec, |_| true)?;
    Ok(Request::VtepSet(vtep))
}

pub(super) fn peer(command: PeerCommand) -> Result<Request, CliError> {
    Ok(match command {
        PeerCommand::Add(PeerArgs { remote, bridge }) => Request::PeerAdd { bridge, remote },
        PeerCommand::Del(PeerArgs { remote, bridge }) => Request::PeerDel { bridge, remote },
        PeerCommand::Show { bridge } => Request::PeerShow { bridge },
        PeerCommand::Ping(args) => {
            let ping = PingRequest {
                bridge: args.peer.bridge,
                remote: args.peer.remote,
                count: args.count,
                size: args.size,
                interval_s: args.interval.as_secs_f64(),
                timeout_s: args.timeout.as_secs_f64(),
                sweep: args.sweep,
            };
            ping.check()
                .map_err(|error| CliError::Usage(error.message))?;
            Request::PeerPing(ping)
        }
    })
}

pub(super) fn port_add(args: PortAddArgs) -> Result<Request, CliError> {
    let default = PortFlagsSpec::default();
    let flag = |arg: Option<OnOff>, default| arg.map_or(default, Into::into);
    let flags = &args.flags;
    let port = PortSpec {
        netns: args.netns,
        ifname: args.ifname,
        addresses: args.addresses,
        gateways: args.gateways,
        routes: args.routes,
        mac: args.mac,
        mtu: args.mtu,
        flags: PortFlagsSpec {
            learning: flag(flags.learning, default.learning),
            flood: flag(flags.flood, default.flood),
            mcast_flood: flag(flags.mcast_flood, default.mcast_flood),
            bcast_flood: flag(flags.bcast_flood, default.bcast_flood),
            isolated: flag(flags.isolated, default.isolated),
            hairpin: flag(flags.hairpin, default.hairpin),
            locked: flag(flags.locked, default.locked),
            up: flag(flags.up, default.up) && !args.down,
        },
        offload: args.offload.map(Into::into).unwrap_or_default(),
        txqueuelen: args.txqueuelen.unwrap_or(PortSpec::DEFAULT_TXQUEUELEN),
        ..PortSpec::new(args.name, args.bridge)
    };
    let spec = SwitchSpec {
        ports: vec![port.clone()],
        ..SwitchSpec::default()
    };
    // Whether the bridge is there is for the daemon to say.
    refuse_problems(&spec, |place| {
        (place.section, place.key) != (Section::Port, "bridge")
    })?;
    Ok(Request::PortAdd(port))
}

pub(super) fn port_set(args: PortSetArgs) -> Result<Request, CliError> {
    let FlagArgs {
        learning,
        flood,
        mcast_flood,
        bcast_flood,
        isolated,
        hairpin,
        locked,
        up,
    } = args.flags;
    let flag = |arg: Option<OnOff>| arg.map(Into::into);
    let mut change = PortChange {
        name: args.name,
        learning: flag(learning),
        flood: flag(flood),
        mcast_flood: flag(mcast_flood),
        bcast_flood: flag(bcast_flood),
        isolated: flag(isolated),
        hairpin: flag(hairpin),
        locked: flag(locked),
        up: flag(up),
        mtu: args.mtu,
        mac: args.mac,
        addresses: list(args.addresses),
        gateways: list(args.gateways),
        routes: list(args.routes),
    };
    read_words(&args.words, &mut change)?;
    check_mtu("port", change.name.as_str(), change.mtu)?;
    if change == PortChange::new(change.name.clone()) {
        let name = &change.name;
        let text = format!("set port {name}: nothing to change; see tapswitch port set --help");
        return Err(CliError::Usage(text));
    }
    Ok(Request::PortSet(change))
}

/// What takes the place of a list, if anything was said about it.
fn list<T>(values: Vec<OrNone<T>>) -> Option<Vec<T>> {
    let said = !values.is_empty();
    let list = values
        .into_iter()
        .filter_map(|OrNone(value)| value)
        .collect();
    said.then_some(list)
}

/// Reads `up`, `down`, and pairs such as `learning off`.
fn read_words(words: &[String], change: &mut PortChange) -> Result<(), CliError> {
    let port = change.name.clone();
    let refuse = |cause: String| CliError::Usage(format!("set port {port}: {cause}"));
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let flag = match word.replace('_', "-").as_str() {
            "down" => {
                change.up = Some(false);
                continue;
            }
            "up" if !matches!(words.peek(), Some(&("on" | "off"))) => {
                change.up = Some(true);
                continue;
            }
            "mtu" => {
                let mtu = parse_mtu(words.next().unwrap_or_default());
                change.mtu = Some(mtu.map_err(|problem| refuse(format!("mtu: {problem}")))?);
                continue;
            }
            "mac" | "address" => {
                let mac = words.next().unwrap_or_default().parse();
                change.mac = Some(mac.map_err(|error| refuse(format!("mac: {error}")))?);
                continue;
            }
            "up" => &mut change.up,
            "learning" => &mut change.learning,
            "flood" => &mut change.flood,
            "mcast-flood" => &mut change.mcast_flood,
            "bcast-flood" => &mut change.bcast_flood,
            "isolated" => &mut change.isolated,
            "hairpin" => &mut change.hairpin,
            "locked" => &mut change.locked,
            _ => {
                return Err(refuse(format!(
                    "unknown setting {word:?}; write up, down, mtu N, mac MAC, or on or off after \
                     learning, flood, mcast-flood, bcast-flood, isolated, hairpin or locked"
                )));
            }
        };
        *flag = match words.next() {
            Some("on") => Some(true),
            Some("off") => Some(false),
            _ => return Err(refuse(format!("{word} needs on or off"))),
        };
    }
    Ok(())
}

pub(super) fn selector(args: SelectorArgs) -> FdbSelector {
    let state = match (args.is_static, args.is_learned) {
        (true, _) => Some(FdbState::Static),
        (_, true) => Some(FdbState::Learned),
        _ => args.state.map(Into::into),
    };
    FdbSelector {
        bridge: args.bridge,
        port: args.port,
        remote: args.remote,
        mac: args.mac,
        vlan: args.vlan,
        state,
    }
}

pub(super) fn entry(args: EntryArgs) -> EntrySelector {
    EntrySelector {
        bridge: args.bridge,
        mac: args.mac,
        vlan: args.vlan,
        port: args.port,
        remote: args.remote,
    }
}

fn check_mtu(kind: &str, name: &str, mtu: Option<u32>) -> Result<(), CliError> {
    match mtu.filter(|mtu| !MTU_RANGE.contains(mtu)) {
        None => Ok(()),
        Some(mtu) => Err(CliError::Usage(format!(
            "set {kind} {name}: mtu {mtu} is out of range 68..=65521"
        ))),
    }
}

fn refuse_problems(spec: &SwitchSpec, counts: impl Fn(Setting) -> bool) -> Result<(), CliError> {
    let problems: Vec<String> = check(spec)
        .into_iter()
        .filter(|problem| counts(problem.place))
        .map(|problem| problem.message)
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(CliError::Usage(problems.join("\ntapswitch: ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::args::FlagArgs, names::Name};

    fn set(words: &[&str]) -> Result<PortChange, CliError> {
        let args = PortSetArgs {
            name: Name::new("podA").unwrap(),
            words: words.iter().map(|&word| word.to_owned()).collect(),
            mtu: None,
            mac: None,
            addresses: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            flags: FlagArgs::default(),
        };
        match port_set(args)? {
            Request::PortSet(change) => Ok(change),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn up_and_down_work_alone_and_with_a_value() {
        assert_eq!(set(&["down"]).unwrap().up, Some(false));
        assert_eq!(set(&["up"]).unwrap().up, Some(true));
        assert_eq!(set(&["up", "off"]).unwrap().up, Some(false));
        let both = set(&["learning", "off", "up", "mtu", "1400"]).unwrap();
        assert_eq!(
            (both.learning, both.up, both.mtu),
            (Some(false), Some(true), Some(1400))
        );
        assert_eq!(set(&["mcast_flood", "on"]).unwrap().mcast_flood, Some(true));
    }

    #[test]
    fn a_list_is_replaced_emptied_or_left_alone() {
        let args = PortSetArgs {
            name: Name::new("podA").unwrap(),
            words: Vec::new(),
            mtu: None,
            mac: None,
            addresses: vec![OrNone(Some("10.1.1.1/24".parse().unwrap()))],
            gateways: vec![OrNone(None)],
            routes: Vec::new(),
            flags: FlagArgs::default(),
        };
        let change = port_set(args).unwrap();
        let Request::PortSet(change) = change else {
            panic!("{change:?}")
        };
        assert_eq!(change.addresses, Some(vec!["10.1.1.1/24".parse().unwrap()]));
        assert_eq!((change.gateways, change.routes), (Some(Vec::new()), None));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for words in [
            &[][..],
            &["sideways"],
            &["learning"],
            &["learning", "maybe"],
            &["mtu", "x"],
            &["mtu", "10"],
            &["mac", "1"],
        ] {
            assert!(matches!(set(words), Err(CliError::Usage(_))), "{words:?}");
        }
    }
}
