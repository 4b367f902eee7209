use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use super::*;
use crate::config::{SwitchSpec, parse};

/// Sticky, sequence, VTEP: the greater one wins (RFC 7432 §15: of equal ones the lower address).
type Route = (bool, u32, Reverse<PeerAddr>);

fn vni() -> Vni {
    Vni::new(42).unwrap()
}

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last])
}

fn vtep(last: u8) -> PeerAddr {
    PeerAddr::new([192, 0, 2, last].into())
}

fn route(sequence: u32, remote: u8) -> Route {
    (false, sequence, Reverse(vtep(remote)))
}

fn add(mac: MacAddr, (sticky, sequence, Reverse(remote)): Route) -> Change {
    let (vni, vlan) = (vni(), 0);
    Change::MacAdd {
        vni,
        mac,
        vlan,
        remote,
        sticky,
        sequence,
    }
}

/// What a data plane makes of changes.
fn apply(table: &mut BTreeMap<MacAddr, PeerAddr>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::MacAdd { mac, remote, .. } => drop(table.insert(mac, remote)),
            Change::MacDel { mac, .. } => drop(table.remove(&mac)),
            Change::Resync => table.clear(),
            Change::FloodAdd { .. } | Change::FloodDel { .. } => {}
        }
    }
}

/// What an engine for EVPN needs of the seam, without the BGP.
#[derive(Debug, Default)]
struct Evpn {
    routes: BTreeMap<MacAddr, Route>,
    /// What it would advertise: the addresses of this host and their sequence numbers.
    own: BTreeMap<MacAddr, u32>,
    queue: VecDeque<Change>,
    has_overflowed: bool,
}

impl Evpn {
    /// A type 2 route arrives.
    fn receive(&mut self, mac: MacAddr, route: Route) {
        let held = self.routes.get(&mac);
        let own = self.own.get(&mac);
        if held.is_some_and(|held| held.0 || *held >= route) || own.is_some_and(|n| *n >= route.1) {
            return;
        }
        self.own.remove(&mac);
        self.routes.insert(mac, route);
        if self.queue.len() == 4 {
            self.has_overflowed = true;
            self.queue.clear();
        }
        self.queue.push_back(add(mac, route));
    }
}

impl Engine for Evpn {
    fn name(&self) -> &'static str {
        "evpn"
    }

    fn local(&mut self, event: &Local) {
        match *event {
            Local::VniUp { .. } => self.has_overflowed = true,
            Local::VniDown { .. } => self.queue.clear(),
            Local::Learned { mac, .. } => drop(self.own.insert(mac, 0)),
            Local::Aged { mac, .. } => drop(self.own.remove(&mac)),
            Local::Moved { mac, .. } => {
                if let Some((false, sequence, _)) = self.routes.get(&mac) {
                    self.own.insert(mac, sequence + 1);
                    self.routes.remove(&mac);
                }
            }
        }
    }

    fn poll(&mut self) -> Vec<Change> {
        let changes = self.queue.drain(..).collect();
        if !std::mem::take(&mut self.has_overflowed) {
            return changes;
        }
        let all = self.routes.iter().map(|(&mac, &route)| add(mac, route));
        [Change::Resync].into_iter().chain(all).collect()
    }

    fn learns_from_peers(&self) -> bool {
        false
    }
}

#[test]
fn settings_become_the_changes_that_differ() {
    let spec = |peers: &str, remote: u8| {
        let fdb = format!("{{ mac = \"02:00:00:00:00:01\", remote = \"192.0.2.{remote}\" }}");
        let head = "vtep.local = \"192.0.2.1\"\n[[bridge]]\nname = \"br0\"\nvni = 42\n";
        parse(&format!("{head}peers = [{peers}]\nfdb = [{fdb}]")).unwrap()
    };
    let (vni, vlan, mut engine) = (vni(), 0, StaticEngine::new());
    let flood = |remote| Change::FloodAdd { vni, remote };
    let no_flood = |remote| Change::FloodDel { vni, remote };
    let pinned = |remote| add(mac(1), (true, 0, Reverse(vtep(remote))));

    engine.set(&spec("\"192.0.2.2\", \"192.0.2.3\"", 9));
    assert_eq!(engine.poll(), [flood(vtep(2)), flood(vtep(3)), pinned(9)]);
    assert_eq!(engine.poll(), []);

    // What was never fetched is never told.
    engine.set(&spec("\"192.0.2.7\"", 7));
    engine.set(&spec("\"192.0.2.3\", \"192.0.2.4\"", 8));
    assert_eq!(
        engine.poll(),
        [no_flood(vtep(2)), flood(vtep(4)), pinned(8)]
    );

    // A bridge that carries the VNI anew knows nothing.
    engine.local(&Local::VniUp { vni });
    assert_eq!(engine.poll(), [flood(vtep(3)), flood(vtep(4)), pinned(8)]);

    engine.set(&SwitchSpec::default());
    let unpinned = Change::MacDel {
        vni,
        mac: mac(1),
        vlan,
    };
    assert_eq!(
        engine.poll(),
        [unpinned, no_flood(vtep(3)), no_flood(vtep(4))]
    );
}

#[test]
fn what_a_full_queue_loses_a_resync_makes_good() {
    let mut engine = Evpn::default();
    // Withdrawn, and that was lost too.
    let mut table = BTreeMap::from([(mac(200), vtep(2))]);
    for n in 0..100 {
        engine.receive(mac(n), route(0, 2));
        assert!(engine.queue.len() <= 4);
    }

    apply(&mut table, engine.poll());

    assert_eq!(table, (0..100).map(|n| (mac(n), vtep(2))).collect());
    assert_eq!(engine.poll(), []);
}

#[test]
fn the_higher_sequence_wins_and_a_sticky_address_never_moves() {
    let (mut engine, mut table) = (Evpn::default(), BTreeMap::new());
    let sticky = (true, 0, Reverse(vtep(5)));
    for (received, place, why) in [
        (route(1, 3), 3, "the first"),
        (route(0, 4), 3, "older"),
        (route(1, 4), 3, "as old, and a higher address"),
        (route(1, 2), 2, "as old, and a lower address"),
        (route(2, 4), 4, "newer"),
        (sticky, 5, "sticky"),
        (route(9, 4), 5, "newer than a sticky one"),
    ] {
        engine.receive(mac(1), received);
        apply(&mut table, engine.poll());
        assert_eq!(table[&mac(1)], vtep(place), "{why}");
    }
}

#[test]
fn an_address_that_comes_here_outdoes_its_last_sequence() {
    let (vni, mac, vlan, mut engine) = (vni(), mac(1), 0, Evpn::default());
    engine.receive(mac, route(6, 2));
    engine.local(&Local::Moved { vni, mac, vlan });
    assert_eq!(engine.own[&mac], 7);
    engine.receive(mac, route(6, 2));
    assert_eq!(engine.own[&mac], 7, "an old route that comes late");
}
