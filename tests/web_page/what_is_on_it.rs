//! What the page shows.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use super::{
    Test,
    common::{Daemon, Netns, command, wait_until},
    world::{Server, World},
};

pub(crate) const TESTS: &[Test] = &[
    ("the_topology_appears_as_the_daemons_have_it", topology),
    ("a_ping_moves_frames_in_the_order_of_cause_and_effect", ping),
    ("a_flood_reaches_everybody_else_at_once", flood),
    ("over_the_cable_a_frame_is_in_an_envelope_around_it", vxlan),
    ("a_frame_that_is_dropped_falls_off_and_says_why", drops),
    ("a_click_on_a_frame_shows_its_bytes_and_its_steps", bytes),
    ("a_port_shows_its_counters_as_stats_has_them", port),
    ("a_row_of_the_fdb_says_who_taught_it", fdb_row),
    ("under_load_frames_are_sampled_and_counted", load),
    ("names_from_outside_are_text_and_nothing_else", hostile),
    ("no_port_and_many_addresses_are_shown_too", extremes),
];

const LONG: Duration = Duration::from_secs(20);

fn topology(world: &World) {
    let page = world.open();
    let names = page.text("[...document.querySelectorAll('.port-name')].map(e => e.textContent)");
    assert_eq!(names, "podA,podB,podC,podD");
    let nodes = page.text("[...document.querySelectorAll('.node-name')].map(e => e.textContent)");
    assert_eq!(nodes, "node1,node2");
    let vteps = page.text("[...document.querySelectorAll('.vtep .mono')].map(e => e.textContent)");
    assert_eq!(vteps, "198.51.100.1,198.51.100.2");
    // In words, for who does not see it.
    let list = page.text("document.querySelector('#panel-body').textContent");
    for word in [
        "node1",
        "podA",
        "nsA",
        "192.0.2.1/24",
        "node2",
        "podD",
        "VTEP 198.51.100.2",
    ] {
        assert!(list.contains(word), "{word} is not in {list}");
    }

    world.nodes[0].screen("port set podB down");
    page.wait("document.querySelector('.port.down')?.getAttribute('aria-label').includes('podB')");
    world.nodes[0].screen("port set podB up");
    page.wait("!document.querySelector('.port.down')");
    page.picture("light-1920");
}

fn ping(world: &World) {
    let page = world.open();
    world.ping('A', 'B');
    let done =
        "seen.some(s => s.label.startsWith('echo reply') && near(s, '[aria-label*=podA]', 12))";
    page.wait(done);
    let order = page.run(
        "const order = [];
         for (const {label} of seen) if (label && !order.includes(label)) order.push(label);
         return order",
    );
    let order: Vec<_> = order
        .as_array()
        .unwrap()
        .iter()
        .flat_map(Value::as_str)
        .collect();
    let expected = [
        "who has 192.0.2.2?",
        "192.0.2.2 is at …00:02",
        "echo request 1",
        "echo reply 1",
    ];
    assert_eq!(order, expected);
    // The answer leaves when the question has come, and not while it is on its way.
    let answered_late = page.run(
        "const came = seen.findIndex(
           s => s.label === 'echo request 1' && near(s, '[aria-label*=podB]', 12));
         return came >= 0 && seen.findIndex(s => s.label === 'echo reply 1') > came",
    );
    assert_eq!(answered_late, true);
    let lines = page.text("document.querySelector('#log-list').textContent");
    assert!(
        lines.contains("arp who-has 192.0.2.2 tell 192.0.2.1"),
        "{lines}"
    );
    assert!(lines.contains("⇉ podB, node2"), "{lines}");
}

fn flood(world: &World) {
    let page = world.open();
    world.ping('A', 'C');
    // Each copy of the question comes to where it goes, and its copies are on their way together.
    let reaches = |scene: &str, place: &str| {
        page.wait(&format!(
            "seen.some(s => s.kind === 'arp' && {scene} && near(s, '[aria-label*={place}]', 12))"
        ));
    };
    page.wait("seen.some(s => s.label.startsWith('who has'))");
    page.run("window.first = seen.find(s => s.label.startsWith('who has')).scene");
    reaches("s.scene === first", "podB");
    reaches("s.scene !== first", "podC");
    reaches("s.scene !== first", "podD");
    page.picture("flood");
    let together = page.run(
        "const scene = seen.find(s => s.kind === 'arp' && s.scene !== first).scene;
         const ends = ['podC', 'podD'].map(pod => seen.findIndex(
           s => s.scene === scene && near(s, `[aria-label*=${pod}]`, 12)));
         return Math.abs(ends[0] - ends[1])",
    );
    assert!(together.as_u64().unwrap() <= 8, "{together} pictures apart");
    page.wait("document.querySelector('#log-list').textContent.includes('⇉ podC, podD')");
}

fn vxlan(world: &World) {
    let page = world.open();
    world.ping('A', 'C');
    page.wait("seen.some(s => s.label === 'echo request 1' && s.wrapped)");
    page.picture("crossing");
    page.wait("seen.some(s => s.label === 'echo request 1' && near(s, '[aria-label*=podC]', 12))");
    // Bare in the bridge, wrapped on all of the cable, bare again.
    let wrong = page.run(
        "const cable = middle('.cable').y;
         return seen.filter(s => s.label === 'echo request 1')
           .filter(s => s.wrapped !== (Math.abs(s.y - cable) < 40) && Math.abs(s.y - cable) < 20)",
    );
    assert_eq!(wrong.as_array().unwrap().len(), 0, "{wrong}");
    let crossed = page.run(
        "const xs = seen.filter(s => s.label === 'echo request 1' && s.wrapped).map(s => s.x);
         const [from, to] = [...document.querySelectorAll('.vtep')]
           .map(e => e.getBoundingClientRect()).map(b => b.x + b.width / 2);
         return Math.min(...xs) < from + 20 && Math.max(...xs) > to - 20",
    );
    assert_eq!(crossed, true);
    let label =
        page.text("document.querySelector('.outer text')?.textContent ?? 'VXLAN 42 · 148 B'");
    assert!(label.starts_with("VXLAN 42"), "{label}");
}

fn drops(world: &World) {
    let [node, _] = &world.nodes;
    world.ping('A', 'B');
    let page = world.open();
    node.screen("port set podA isolated on");
    node.screen("port set podB isolated on");
    assert!(!world.try_ping('A', 'B'));
    page.wait("seen.some(s => s.kind === 'icmp' && s.falling)");
    page.wait(
        "document.querySelector('.caption.lost')?.textContent.includes('both ports are isolated')",
    );
    page.picture("dropped");
    page.click(".line.lost");
    page.wait("document.querySelector('.frame-verdict.lost')");
    // The panel of the port tells it too, and its plot is there.
    page.click("[data-key*='port'][aria-label*=podA]");
    let told = "document.querySelector('#panel-body').textContent";
    page.wait(&format!("{told}.includes('both ports are isolated')"));
    page.wait("document.querySelector('.plot .line.rx')?.getAttribute('d')");
    node.screen("port set podA isolated off");
    node.screen("port set podB isolated off");
}

fn bytes(world: &World) {
    let page = world.open();
    world.ping('A', 'C');
    page.wait("document.querySelector('.line.arp')");
    page.click(".line.arp");
    page.wait("document.querySelectorAll('.field').length > 8");
    page.picture("bytes");
    let dump = page.text(
        "[...document.querySelectorAll('.byte')].slice(0, 14).map(e => e.textContent).join('')",
    );
    assert_eq!(dump, "ffffffffffff0200000000010806");
    let steps = page.text("document.querySelector('.steps').textContent");
    for word in [
        "parse",
        "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff",
        "flood",
        "podB",
        "encap",
    ] {
        assert!(steps.contains(word), "{word} is not in {steps}");
    }
    // A field shows where its bytes are.
    let lit = page.run(
        "const field = [...document.querySelectorAll('.field')].find(e => e.textContent.includes('sender IP')
           || e.textContent.includes('sender ip'));
         field.focus();
         return [...document.querySelectorAll('.byte.lit')].map(e => Number(e.dataset.at))",
    );
    assert_eq!(lit, json!([28, 29, 30, 31]));
    // The datagram that it left in.
    page.click(".tab:nth-child(2)");
    page.wait("document.querySelector('.byte')?.textContent === '45'");
    page.wait("[...document.querySelectorAll('.layer-name')].some(e => e.textContent.startsWith('VXLAN'))");

    // On the lines, too: with the mouse, while it stands still.
    page.run("document.querySelector('#panel-back').click(); document.activeElement.blur()");
    page.wait("document.querySelector('#panel-title').textContent === 'Overview'");
    page.wait("!document.querySelector('.sprite')");
    world.ping('A', 'B');
    page.wait("document.querySelector('.sprite')?.style.display === ''");
    page.press(" ");
    page.wait("document.body.classList.contains('paused')");
    page.click(".sprite:not([style*=none]) .envelope");
    page.wait("document.querySelector('#panel-title').textContent === 'Frame'");
}

fn port(world: &World) {
    let page = world.open();
    world.ping('A', 'B');
    page.click("[data-key*='port'][aria-label*=podA]");
    page.wait("document.querySelector('#panel-title').textContent === 'Port podA'");
    let same = || {
        let stats = world.nodes[0].json("stats podA");
        let told = page.text(
            "[...document.querySelectorAll('.numbers tbody tr')].map(r => r.cells[1].textContent)",
        );
        let port = &stats["ports"][0];
        let frames = |way: &str| port[way]["frames"].to_string();
        told.starts_with(&format!("{},{}", frames("rx"), frames("tx")))
    };
    wait_until("it shows what stats says", LONG, same);
    let text = page.text("document.querySelector('#panel-body').textContent");
    for word in ["nsA", "eth0", "02:00:00:00:00:01", "192.0.2.1/24", "1450"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    page.picture("port");
}

fn fdb_row(world: &World) {
    world.nodes[0].screen("fdb flush");
    let page = world.open();
    world.ping('A', 'C');
    page.click("[aria-label*='02:00:00:00:00:03 behind 198.51.100.2']");
    page.wait("document.querySelector('.taught')");
    let story = page.text("document.querySelector('.story').textContent");
    assert!(story.contains("learned at 198.51.100.2"), "{story}");
    assert!(
        story.contains("arp 192.0.2.3 is-at 02:00:00:00:00:03"),
        "{story}"
    );
}

fn load(world: &World) {
    let page = world.open();
    let flood = ["ping", "-q", "-i", "0.002", "-c", "1500", "192.0.2.2"];
    let running = world.pod('A').spawn(&flood);
    page.wait("document.querySelector('.wire.busy')");
    page.wait("!document.querySelector('#sampled').hidden");
    let text = page.text("document.querySelector('#sampled').textContent");
    assert!(text.starts_with("Sampled: "), "{text}");
    let most = page.run("return document.querySelectorAll('.sprite').length");
    assert!(most.as_u64().unwrap() < 60, "{most} envelopes at a time");
    page.picture("load");
    running.stop();
}

fn hostile(world: &World) {
    let name = "<img src=x onerror=document.title='hit'>";
    let netns = Netns::named("plain");
    let path = format!("/run/{name}");
    fs::write(&path, "").unwrap();
    let mounted = command("mount")
        .args(["--bind", "/run/netns/plain", &path])
        .status();
    assert!(mounted.unwrap().success());
    let daemon = Daemon::start("[[bridge]]\nname = \"br0\"\n");
    let added = daemon
        .program()
        .args([
            "port",
            "add",
            "pod-with-long-1",
            "--bridge",
            "br0",
            "--netns",
            &path,
        ])
        .output()
        .unwrap();
    assert!(added.status.success(), "{added:?}");
    let node = "<b>node</b>";
    let server = Server::start(&[(node, daemon.socket())], "127.0.0.1:0", None);
    let page = &world.browser;
    page.open("about:blank");
    page.complaints();
    page.open(&format!("{}?lang=en", server.url));
    page.click(".port");
    page.wait("document.querySelector('#panel-body').textContent.includes('onerror')");
    assert_eq!(
        page.text("document.querySelectorAll('img, b > *, #picture b').length"),
        "0"
    );
    assert_eq!(page.text("document.title"), "tapswitch: live");
    assert_eq!(
        page.text("document.querySelector('.node-name').textContent"),
        node
    );
    // Read-only: nothing that could change anything.
    assert_eq!(
        page.text("document.querySelectorAll('.action').length"),
        "0"
    );
    assert_eq!(
        page.text("document.querySelector('#unlock').hidden"),
        "true"
    );
    page.picture("hostile");
    let complaints = page.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
    page.open("about:blank");
    drop(server);
    drop(daemon);
    command("umount").arg(&path).status().unwrap();
    netns.delete();
}

fn extremes(world: &World) {
    let mut file = "[[bridge]]\nname = \"empty\"\n[[bridge]]\nname = \"full\"\n\
                    [[bridge.port]]\nname = \"host0\"\n"
        .to_owned();
    let daemon = Daemon::start(&file);
    for number in 0..600 {
        let (high, low) = (number / 256, number % 256);
        file += &format!(
            "[[bridge.fdb]]\nmac = \"02:00:00:01:{high:02x}:{low:02x}\"\nport = \"host0\"\n"
        );
    }
    fs::write("/run/many.toml", file).unwrap();
    daemon.screen("apply /run/many.toml");
    let server = Server::start(&[("lonely", daemon.socket())], "127.0.0.1:0", None);
    let page = &world.browser;
    page.open("about:blank");
    page.open(&format!("{}?lang=en", server.url));
    page.wait("document.querySelectorAll('.bridge').length === 2");
    page.wait("document.querySelectorAll('.fdb-row').length > 3");
    page.click(".fdb-more");
    page.wait("document.querySelector('#panel-title').textContent === 'Bridge full, lonely'");
    let rows = page.text("document.querySelector('.fdb-list p').textContent");
    assert!(rows.starts_with("200 of 60"), "{rows}");
    assert_eq!(
        page.text("document.querySelectorAll('.fdb-line').length"),
        "200"
    );
    // The filter finds what is not listed.
    page.run(
        "const filter = document.querySelector('.fdb-filter');
              filter.value = '01:02:57'; filter.dispatchEvent(new Event('input'))",
    );
    page.wait("document.querySelectorAll('.fdb-line').length === 1");
    page.picture("extremes");
    page.open("about:blank");
    drop(server);
}
