//! The same conversation over a hub, a switch and a wire: what learning saves.
//!
//! Run: `cargo run --example 04_hub_switch_wire` (no root)
//!
//! ```text
//! podA pings podB a hundred times.
//!
//!            hosts  answered      copies   for outsiders
//! Hub            2       100         202               0
//! Hub           10       100        1818            1616
//! Hub           50       100        9898            9696
//! Switch         2       100         202               0
//! Switch        10       100         210               8
//! Switch        50       100         250              48
//! Wire           2       100         202               0
//! ```

use tapswitch::{
    config::Mode,
    sim::{Lab, Network, frames},
};

fn main() {
    println!("podA pings podB a hundred times.\n");
    println!(
        "{:<8}{:>8}{:>10}{:>12}{:>16}",
        "", "hosts", "answered", "copies", "for outsiders"
    );
    for (mode, hosts) in [
        (Mode::Hub, 2),
        (Mode::Hub, 10),
        (Mode::Hub, 50),
        (Mode::Switch, 2),
        (Mode::Switch, 10),
        (Mode::Switch, 50),
        (Mode::Wire, 2),
    ] {
        let mut spec = Lab::spec("br0");
        spec.mode = mode;
        let mut network = Network::with_bridge(spec, ["podA", "podB"]);
        for n in 2..hosts {
            network.add_host(&format!("pod{n}"));
        }

        let pings = 0..100;
        let answered = pings
            .filter_map(|_| network.ping(0, frames::ip(2).into()))
            .count();

        let copies = |ports: &[_]| -> u64 {
            let totals = ports.iter().map(|&port| network.lab.totals(port));
            totals.map(|totals| totals.tx_frames).sum()
        };
        println!(
            "{:<8}{hosts:>8}{answered:>10}{:>12}{:>16}",
            format!("{mode:?}"),
            copies(&network.ports),
            copies(&network.ports[2..])
        );
        network.lab.assert_accounted();
    }
}
