//! A control plane beside the settings: what it says is in force, and what happens it hears.

mod common;

use std::{
    collections::VecDeque,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Netns, wait_until};
use tapswitch::{
    config::{BridgeSpec, PeerAddr, Place, PortSpec, StaticSpec, VtepSpec},
    control::api::{FdbInfo, FdbSelector, FdbState, PeerInfo, PeerKind, Request, Response},
    daemon::{Switch, SwitchOptions},
    names::Name,
    overlay::{Change, Engine, Local},
    wire::{MacAddr, Vni},
};

fn main() -> ExitCode {
    common::main(|env| {
        vec![
            env.trial(
                "what_a_control_plane_says_is_in_force_until_it_takes_it_back",
                says,
            ),
            env.trial_with(
                &["ping"],
                "a_control_plane_hears_what_is_learned_and_what_goes",
                hears,
            ),
            env.trial_with(
                &["ping"],
                "a_station_that_is_seen_here_is_here_until_a_control_plane_speaks_again",
                seen_here,
            ),
            env.trial(
                "what_a_person_says_of_an_address_outweighs_a_control_plane",
                settings_first,
            ),
        ]
    })
}

/// A control plane whose words the test puts into its mouth.
#[derive(Clone, Debug, Default)]
struct Puppet(Arc<Mutex<Words>>);

#[derive(Debug, Default)]
struct Words {
    to_say: VecDeque<Change>,
    heard: Vec<Local>,
}

impl Engine for Puppet {
    fn name(&self) -> &'static str {
        "puppet"
    }

    fn local(&mut self, event: &Local) {
        self.0.lock().unwrap().heard.push(*event);
    }

    fn poll(&mut self) -> Vec<Change> {
        self.0.lock().unwrap().to_say.drain(..).collect()
    }

    fn learns_from_peers(&self) -> bool {
        false
    }
}

struct World {
    switch: Switch,
    puppet: Puppet,
}

impl World {
    fn new() -> Self {
        let puppet = Puppet::default();
        let switch = Switch::start(SwitchOptions {
            engine: Some(Box::new(puppet.clone())),
            ..SwitchOptions::default()
        })
        .unwrap();
        let world = Self { switch, puppet };
        world.execute(Request::VtepSet(VtepSpec::new(
            "127.0.0.1".parse().unwrap(),
        )));
        let mut bridge = BridgeSpec::new(name("br0"));
        bridge.vni = Some(vni());
        world.execute(Request::BridgeAdd(bridge));
        world
    }

    fn execute(&self, request: Request) -> Response {
        self.switch.execute(request).unwrap()
    }

    /// A pod with the address that all this is about.
    fn pod(&self) -> Netns {
        let netns = Netns::new("pod");
        let mut port = PortSpec::new(name("pod"), name("br0"));
        port.netns = Some(netns.reference());
        port.mac = Some(mac());
        port.addresses = vec!["10.1.1.1/24".parse().unwrap()];
        self.execute(Request::PortAdd(port));
        netns
    }

    fn say(&self, changes: impl IntoIterator<Item = Change>) {
        self.puppet.0.lock().unwrap().to_say.extend(changes);
    }

    fn heard(&self, event: &Local) -> bool {
        self.puppet.0.lock().unwrap().heard.contains(event)
    }

    fn peers(&self) -> Vec<PeerInfo> {
        match self.execute(Request::PeerShow { bridge: None }) {
            Response::Peers(peers) => peers,
            other => panic!("{other:?}"),
        }
    }

    fn fdb(&self) -> Vec<FdbInfo> {
        match self.execute(Request::FdbShow(FdbSelector::default())) {
            Response::Fdb(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    fn entry(&self) -> Option<(FdbState, Option<String>)> {
        let entry = self.fdb().into_iter().find(|entry| entry.mac == mac())?;
        Some((entry.state, entry.remote))
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn vni() -> Vni {
    Vni::new(42).unwrap()
}

fn mac() -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, 9])
}

fn remote(last: u8) -> PeerAddr {
    PeerAddr::new([127, 0, 0, last].into())
}

fn behind(last: u8, sticky: bool) -> Change {
    Change::MacAdd {
        vni: vni(),
        mac: mac(),
        vlan: 0,
        remote: remote(last),
        sticky,
        sequence: 0,
    }
}

const SOON: Duration = Duration::from_secs(5);

fn says() {
    let world = World::new();
    let (vni, vlan) = (vni(), 0);
    world.say([
        Change::FloodAdd {
            vni,
            remote: remote(2),
        },
        behind(3, false),
    ]);
    wait_until("two peers", SOON, || world.peers().len() == 2);
    assert!(
        world
            .peers()
            .iter()
            .all(|peer| peer.kind == PeerKind::Control)
    );
    let at = |last: u8| Some(format!("127.0.0.{last}"));
    assert_eq!(world.entry(), Some((FdbState::Control, at(3))));

    // It moves, and is held there.
    world.say([behind(2, true)]);
    wait_until("the move", SOON, || {
        world.entry() == Some((FdbState::Static, at(2)))
    });
    assert_eq!(world.peers().len(), 1, "nothing points to the other one");

    world.say([Change::MacDel {
        vni,
        mac: mac(),
        vlan,
    }]);
    wait_until("no entry", SOON, || world.entry().is_none());
    world.say([behind(2, false), Change::Resync, behind(4, false)]);
    wait_until("a new start", SOON, || {
        world.entry() == Some((FdbState::Control, at(4)))
    });
    assert_eq!(world.peers().len(), 1, "the flood list went with the rest");
}

fn hears() {
    let world = World::new();
    assert!(world.heard(&Local::VniUp { vni: vni() }));
    let netns = world.pod();
    // Nobody answers, but the question teaches where the pod is.
    netns.exec(&["ping", "-c", "1", "-W", "1", "10.1.1.2"]);
    let (vni, mac, vlan) = (vni(), mac(), 0);
    let learned = Local::Learned {
        vni,
        mac,
        vlan,
        is_static: false,
    };
    wait_until("learned", SOON, || world.heard(&learned));

    world.execute(Request::FdbFlush(FdbSelector::default()));
    wait_until("gone", SOON, || {
        world.heard(&Local::Aged { vni, mac, vlan })
    });
    world.execute(Request::PortDel { name: name("pod") });
    world.execute(Request::BridgeDel { name: name("br0") });
    assert!(world.heard(&Local::VniDown { vni }));
}

fn seen_here() {
    let world = World::new();
    world.say([behind(2, false)]);
    let at = |last: u8| Some(format!("127.0.0.{last}"));
    wait_until("an entry", SOON, || {
        world.entry() == Some((FdbState::Control, at(2)))
    });
    let netns = world.pod();
    netns.exec(&["ping", "-c", "1", "-W", "1", "10.1.1.2"]);
    assert_eq!(world.entry(), Some((FdbState::Learned, None)));
    let (vni, mac, vlan) = (vni(), mac(), 0);
    wait_until("the move is told", SOON, || {
        world.heard(&Local::Moved { vni, mac, vlan })
    });
    // Whatever else changes, it stays here; until it is said to be elsewhere again.
    world.say([Change::FloodAdd {
        vni,
        remote: remote(9),
    }]);
    wait_until("another peer", SOON, || world.peers().len() == 2);
    assert_eq!(world.entry(), Some((FdbState::Learned, None)));
    world.say([behind(3, false)]);
    wait_until("the last word", SOON, || {
        world.entry() == Some((FdbState::Control, at(3)))
    });
}

fn settings_first() {
    let world = World::new();
    world.say([behind(2, false)]);
    wait_until("an entry", SOON, || world.entry().is_some());
    world.execute(Request::FdbAdd(StaticSpec {
        bridge: name("br0"),
        mac: mac(),
        vlan: 0,
        place: Place::Peer(remote(3)),
    }));
    let person = Some((FdbState::Static, Some("127.0.0.3".to_owned())));
    assert_eq!(world.entry(), person);
    world.say([behind(4, true)]);
    wait_until("heard", SOON, || world.peers().len() == 2);
    assert_eq!(world.entry(), person);
}
