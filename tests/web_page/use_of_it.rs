//! How the page is used: time, keys, languages, changes, and what goes away.

use serde_json::{Value, json};

use super::{
    Test,
    common::Daemon,
    world::{Server, TOKEN, World},
};

pub(crate) const TESTS: &[Test] = &[
    ("while_it_is_paused_a_step_plays_one_frame", step),
    ("slow_motion_is_as_much_slower_as_it_says", slow),
    (
        "the_last_minute_is_replayed_and_then_it_is_live_again",
        replay,
    ),
    ("the_filter_holds_in_the_list_and_on_the_lines", filter),
    ("language_and_theme_change_and_are_remembered", looks),
    ("with_little_movement_frames_jump", calm),
    ("everything_is_reached_by_keys_alone", keys),
    ("everything_that_can_be_used_has_a_name", names),
    ("changes_need_the_token_and_happen", changes),
    (
        "it_says_when_the_server_is_away_and_comes_back_by_itself",
        away,
    ),
];

const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const RIGHT: &str = "\u{e014}";
const TAB: &str = "\u{e004}";

fn step(world: &World) {
    let page = world.open();
    page.press(" ");
    page.wait("document.body.classList.contains('paused')");
    assert_eq!(
        page.text("document.querySelector('#pause').textContent.includes('Play')"),
        "true"
    );
    // Four frames, and the copy of the first that goes to the other node.
    world.ping('A', 'B');
    page.wait("document.querySelector('#sampled').textContent === '5 waiting'");
    assert_eq!(page.text("seen.length"), "0");
    for number in 1..=5 {
        page.press(RIGHT);
        let waiting = 5 - number;
        page.wait(&format!(
            "document.querySelector('#sampled').textContent === '{waiting} waiting'"
        ));
        let scenes = "new Set(seen.map(s => s.scene)).size";
        page.wait(&format!("{scenes} === {number}"));
        // A datagram that came waits for the step in which it is taken.
        page.rests();
        assert_eq!(page.text(scenes), number.to_string());
        let first = page.text("seen.find(s => s.label).label");
        assert_eq!(first, "who has 192.0.2.2?");
    }
    page.press(" ");
    page.wait("!document.body.classList.contains('paused')");
}

fn slow(world: &World) {
    let page = world.open();
    world.ping('A', 'B');
    page.wait("seen.length > 0");
    page.wait("!document.querySelector('.sprite')");
    // How long it takes the request from port to bridge.
    let took = |speed: &str| {
        page.press(speed);
        page.wait("document.querySelectorAll('[aria-checked=true]').length === 1");
        page.run(
            "window.times = {}; seen.length = 0;
                  const look = () => {
                    for (const s of document.querySelectorAll('.sprite.icmp')) {
                      if (s.style.display === 'none') continue;
                      const scene = s.dataset.scene;
                      times[scene] ??= {from: performance.now()};
                      times[scene].until = performance.now();
                    }
                    requestAnimationFrame(look);
                  };
                  look()",
        );
        assert!(world.try_ping('A', 'B'));
        page.wait("Object.keys(times).length >= 2");
        let took = page.run("const {from, until} = Object.values(times)[0]; return until - from");
        page.press("l");
        took.as_f64().unwrap()
    };
    let (fast, slow) = (took("1"), took("2"));
    let ratio = slow / fast;
    assert!((3.0..6.0).contains(&ratio), "{fast} ms, then {slow} ms");
}

fn replay(world: &World) {
    world.ping('A', 'C');
    let page = world.open();
    page.press("r");
    page.wait("!document.querySelector('#replay-bar').hidden");
    page.wait("seen.some(s => s.kind === 'arp')");
    let name = page.text("document.querySelector('#seek-name').textContent");
    assert!(
        name.starts_with("Replay of the last minute: frame "),
        "{name}"
    );
    page.picture("replay");
    // To its end, with the slider.
    page.run(
        "const seek = document.querySelector('#seek');
              seek.value = String(Number(seek.max) - 1);
              seek.dispatchEvent(new Event('input'))",
    );
    page.wait("document.querySelector('#seek').value === document.querySelector('#seek').max");
    page.click("#go-live");
    page.wait("document.querySelector('#replay-bar').hidden");
    page.run("seen.length = 0");
    world.ping('A', 'B');
    page.wait("seen.some(s => s.label === 'echo reply 1')");
}

fn filter(world: &World) {
    let page = world.open();
    page.press("/");
    assert_eq!(page.text("document.activeElement.id"), "filter");
    page.press(&format!("podB arp{ENTER}"));
    page.click(".chip.udp");
    world.ping('A', 'B');
    page.wait("document.querySelectorAll('#log-list li').length === 2");
    page.wait("seen.some(s => s.label.startsWith('192.0.2.2 is at'))");
    // To the end, for what would come behind them.
    page.wait("!document.querySelector('.sprite')");
    let kinds = page.text("[...new Set(seen.map(s => s.kind))]");
    assert_eq!(kinds, "arp");
    assert_eq!(
        page.text("document.querySelector('.chip.udp').getAttribute('aria-pressed')"),
        "false"
    );
}

fn looks(world: &World) {
    let page = world.open();
    let paper = "getComputedStyle(document.body).backgroundColor";
    let (lang, light) = (page.text("document.documentElement.lang"), page.text(paper));
    assert_eq!(lang, "en");
    page.click("#lang");
    page.click("#theme");
    assert_eq!(page.text("document.documentElement.lang"), "zh-CN");
    assert_eq!(
        page.text("document.querySelector('#step span').textContent"),
        "单步"
    );
    assert_eq!(page.text("document.title"), "tapswitch：实时");
    assert_ne!(page.text(paper), light);
    // Without being asked for.
    world.open_at("");
    assert_eq!(page.text("document.documentElement.lang"), "zh-CN");
    assert_ne!(page.text(paper), light);
    // Nothing that was left out of the dictionary, and no name of an entry.
    let rest = page.text("document.body.innerText");
    for word in ["Overview", "Frames", "Replay", "status.", "kind.", "key."] {
        assert!(!rest.contains(word), "{word} is in {rest}");
    }
    page.press("?");
    page.wait("document.querySelector('#help-dialog').open");
    page.picture("zh-help");
    page.press(ESCAPE);
    world.ping('A', 'C');
    page.wait("seen.some(s => s.label.startsWith('谁是') && s.wrapped)");
    page.picture("zh-dark");
    page.click(".line.arp");
    page.wait("document.querySelectorAll('.field').length > 8");
    page.resize(1280, 720);
    page.picture("zh-dark-1280");
    let overflow = "document.documentElement.scrollWidth <= 1280 && document.querySelector('header').scrollWidth <= 1280";
    page.wait(overflow);
    page.resize(1920, 1080);
    page.press("zt");
    page.wait("document.documentElement.lang === 'en'");
    page.wait(&format!("{paper} === {}", json!(light)));
}

fn calm(world: &World) {
    world.browser.set_reduced_motion(true);
    let page = world.open();
    world.ping('A', 'B');
    page.wait("seen.some(s => s.label === 'echo reply 1' && near(s, '[aria-label*=podA]', 12))");
    let places = page.run(
        "return new Set(seen.filter(s => s.label === 'echo request 1').map(s => `${s.x} ${s.y}`)).size",
    );
    world.browser.set_reduced_motion(false);
    assert!(
        places.as_u64().unwrap() <= 4,
        "{places} places on a way of three"
    );
}

fn keys(world: &World) {
    let page = world.open();
    world.ping('A', 'B');
    page.wait("document.querySelectorAll('#log-list li').length === 5");
    page.press(" ");
    page.run("document.activeElement.blur(); window.reached = []");
    for _ in 0..120 {
        page.press(TAB);
        let is_round = page.run(
            "const here = document.activeElement;
             if (reached.includes(here) || here === document.body) return true;
             reached.push(here);
             const style = getComputedStyle(here);
             const inside = here.querySelector?.('.card, .hit, .vtep-box, text');
             const sign = inside ? getComputedStyle(inside) : null;
             here.isSeen = here.matches(':focus-visible')
               && (style.outlineStyle !== 'none' || (sign && (parseFloat(sign.strokeWidth) >= 3
                 || sign.textDecorationLine === 'underline')));
             return false",
        );
        if is_round == true {
            break;
        }
    }
    let missed = page.run(
        "const all = [...document.querySelectorAll('button, input, [role=button]')]
           .filter(e => e.tabIndex >= 0 && e.getClientRects().length > 0 && !e.closest('dialog'));
         return all.filter(e => !reached.includes(e)).map(e => e.outerHTML.slice(0, 90))",
    );
    assert_eq!(missed, json!([]), "not reached by Tab");
    let hidden =
        page.run("return reached.filter(e => !e.isSeen).map(e => e.outerHTML.slice(0, 90))");
    assert_eq!(hidden, json!([]), "no visible focus");

    // Into a port and back, to where one was.
    page.run("document.querySelector('[data-key*=port][aria-label*=podB]').focus()");
    page.press(ENTER);
    page.wait("document.querySelector('#panel-title').textContent === 'Port podB'");
    assert_eq!(page.text("document.activeElement.id"), "panel-title");
    page.press(ESCAPE);
    page.wait("document.activeElement.getAttribute('aria-label')?.includes('podB')");
    // Along the list of frames.
    page.run("document.querySelector('#log-list button[tabindex=\"0\"]').focus()");
    page.press("\u{e011}\u{e015}");
    assert_eq!(
        page.text(
            "[...document.querySelectorAll('#log-list button')].indexOf(document.activeElement)"
        ),
        "1"
    );
    page.press(ENTER);
    page.wait("document.querySelector('#panel-title').textContent === 'Frame'");
    // Among its fields.
    page.wait("document.querySelectorAll('.field').length > 8");
    page.run("document.querySelector('.field[tabindex=\"0\"]').focus()");
    page.press("\u{e015}\u{e015}");
    page.wait("document.querySelector('.field.lit .offset').textContent === '12'");
    // Speeds are radio buttons.
    page.run("document.querySelector('[role=radio][aria-checked=true]').focus()");
    page.press(RIGHT);
    assert_eq!(page.text("document.activeElement.textContent"), "1/4×");
    page.press("1");
    page.press("w");
    page.wait("document.querySelector('#log').getClientRects().length === 0");
    page.picture("wide");
    page.press("w");
}

/// Walks the tree that screen readers get.
fn names(world: &World) {
    let page = world.open();
    world.ping('A', 'C');
    page.wait("document.querySelectorAll('#log-list li').length >= 8");
    page.click(".line.arp");
    page.wait("document.querySelectorAll('.field').length > 8");
    let tree = page.devtools("Accessibility.getFullAXTree", &json!({}));
    let nodes: Vec<&Value> = tree["nodes"].as_array().unwrap().iter().collect();
    let of = |role: &str| {
        let is = |node: &&&Value| node["ignored"] == false && node["role"]["value"] == role;
        nodes.iter().filter(is).copied().collect::<Vec<_>>()
    };
    for role in [
        "button",
        "radio",
        "searchbox",
        "textbox",
        "slider",
        "img",
        "group",
        "link",
    ] {
        for node in of(role) {
            let name = node["name"]["value"].as_str().unwrap_or_default();
            assert!(!name.trim().is_empty(), "a {role} has no name: {node}");
        }
    }
    assert!(of("button").len() > 30, "{}", of("button").len());
    for landmark in ["main", "banner", "complementary", "region"] {
        assert!(!of(landmark).is_empty(), "there is no {landmark}");
    }
    let narrated = "document.querySelector('#narration[aria-live=polite]').textContent";
    page.wait(&format!("{narrated}.includes('from podA')"));
    // Text can be read: 4.5 to 1, or 3 to 1 where it is large (WCAG 2.2, 1.4.3).
    for theme in ["light", "dark"] {
        page.run(&format!(
            "document.documentElement.dataset.theme = '{theme}'"
        ));
        let faint = page.run(CONTRAST);
        assert_eq!(faint, json!([]), "{theme}");
    }
}

fn changes(world: &World) {
    let page = world.open();
    page.click("[data-key*='port'][aria-label*=podD]");
    page.wait("document.querySelectorAll('.action').length === 2");
    page.click(".action");
    page.wait("document.querySelector('#token-dialog').open");
    page.press(&format!("wrong-token-of-enough-letters{ENTER}"));
    page.wait("!document.querySelector('#token-error').hidden");
    page.picture("token");
    page.press(&format!("{TOKEN}{ENTER}"));
    page.wait("document.querySelector('.port.down')?.getAttribute('aria-label').includes('podD')");
    assert_eq!(world.nodes[1].json("port show podD")[0]["state"], "down");
    // Now it knows the token.
    page.wait("document.querySelector('.action').textContent === 'Set up'");
    page.click(".action");
    page.wait("!document.querySelector('.port.down')");
    assert_eq!(
        page.text("JSON.stringify(localStorage).includes('horse')"),
        "false"
    );
    // A console tells of answers that are refusals.
    let complaints = page.complaints();
    assert!(
        complaints.iter().all(|text| text.contains("401")),
        "{complaints:#?}"
    );
}

fn away(world: &World) {
    let daemon = Daemon::start("[[bridge]]\nname = \"br0\"\n");
    let nodes = [("one", daemon.socket())];
    let server = Server::start(&nodes, "127.0.0.1:0", None);
    let address = server.address();
    let page = &world.browser;
    page.open(&format!("{}?lang=en", server.url));
    page.wait("document.querySelector('#status.well')");
    drop(server);
    page.wait("!document.querySelector('#notice').hidden");
    assert_eq!(
        page.text("document.querySelector('#status').textContent"),
        "No connection"
    );
    let server = Server::start(&nodes, &address, None);
    page.wait("document.querySelector('#status.well')");
    page.wait("document.querySelector('#notice').hidden");
    // The server is there, and a daemon is not.
    drop(daemon);
    page.wait("document.querySelector('.node.away')");
    page.picture("away");
    let text = page.text("document.querySelector('#status').textContent");
    assert_eq!(text, "No answer from one");
    page.open("about:blank");
    drop(server);
    page.complaints();
}

/// Texts whose colour is too near to what is behind them.
const CONTRAST: &str = r"
    const light = (text) => {
      const [r, g, b] = text.match(/[\d.]+/g).map(Number).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor;
        if (!/, 0\)$/.test(color) && color !== 'transparent') return color;
      }
      return 'rgb(255, 255, 255)';
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
      const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
      if (!own || element.closest('svg') || element.getClientRects().length === 0) continue;
      const style = getComputedStyle(element);
      const [a, b] = [light(style.color), light(behind(element))].sort((x, y) => y - x);
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < 4.5) faint.push(`${element.className} ${element.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
    }
    return faint";
