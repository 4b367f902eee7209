//! What is easily told wrongly: samples, cancelled dialogs, a list that changes while it is read.

use serde_json::{Value, json};

use super::{
    Test,
    driver::Browser,
    world::{TOKEN, World},
};

pub(crate) const TESTS: &[Test] = &[
    ("of_a_sampled_flood_no_more_is_said_than_is_known", sampled),
    (
        "a_token_that_was_typed_and_cancelled_is_not_used",
        cancelled,
    ),
    (
        "a_refusal_that_is_not_about_the_token_does_not_ask_for_it_again",
        refused,
    ),
    (
        "a_line_that_has_the_focus_keeps_it_under_traffic",
        focus_in_the_list,
    ),
    ("escape_closes_the_panel_from_everywhere", escape),
    ("what_was_missed_is_said_and_asked_for_again", missed),
    ("who_does_not_see_the_page_takes_no_connection", asleep),
    ("a_story_that_was_waited_for_is_told_to_its_end", backlog),
    ("two_bridges_may_know_the_same_address", two_bridges),
    ("a_plot_has_a_gap_where_nothing_is_known", plots),
];

const ESCAPE: &str = "\u{e00c}";

/// Scripts of the page, for a script of a test: `scenes`, `stage` and so on.
pub(crate) fn with_modules(page: &Browser, names: &[&str], body: &str) -> Value {
    let list = names.join(", ");
    let loads: Vec<_> = names
        .iter()
        .map(|name| format!("import('/{name}.js')"))
        .collect();
    page.run(&format!(
        "return Promise.all([{}]).then(([{list}]) => {{ {body} }})",
        loads.join(", ")
    ))
}

/// Records of a broadcast of podA, as the server sends them.
const RECORDS: &str = "
    const record = (parts) => ({
      id: 1, time: 1000, interface: 'podB', bridge: 'br0', vni: 42, side: 'out', form: 'frame',
      verdict: 'sent', reason: null, to: null, from: 'podA', fdb: null, len: 42, captured: 42,
      offload: null, text: 'arp who-has 192.0.2.9 tell 192.0.2.1', comment: '', ...parts,
    });
    const scenesOf = (...records) => {
      const grouper = new scenes.Grouper('node1', () => true);
      for (const one of records) grouper.add(one, 0);
      return grouper.settled(1000);
    };";

fn sampled(world: &World) {
    let page = world.open();
    let told = with_modules(
        page,
        &["scenes", "stage"],
        &format!(
            "{RECORDS}
             const arrival = record({{
               interface: 'podA', side: 'in', verdict: 'flooded', to: '3 (broadcast)', from: null}});
             return [[record({{}})], [arrival, record({{}})], [arrival]]
               .map(records => scenesOf(...records).map(stage.verdictText).join())"
        ),
    );
    assert_eq!(
        told,
        json!([
            "A copy to podB; what was decided is not in the sample",
            "Flooded: it is a broadcast (1 of 3 copies sampled)",
            "Flooded: it is a broadcast (0 of 3 copies sampled)",
        ])
    );
    // Of a whole one nothing is missing.
    world.ping('A', 'C');
    page.wait("document.querySelector('#log-list').textContent.includes('⇉ podB, node2')");
    page.wait("document.querySelector('.caption text')?.textContent.startsWith('Flooded')");
    assert_eq!(
        page.text("document.body.textContent.includes('copies sampled')"),
        "false"
    );
}

fn cancelled(world: &World) {
    let page = world.open();
    page.click("[data-key*='port'][aria-label*=podD]");
    page.wait("document.querySelectorAll('.action').length === 2");
    for cancel in ["escape", "button"] {
        page.click(".action");
        page.wait("document.querySelector('#token-dialog').open");
        page.press(TOKEN);
        match cancel {
            "escape" => page.press(ESCAPE),
            _ => page.click("#token-cancel"),
        }
        page.wait("!document.querySelector('#token-dialog').open");
        // If it were used, nothing would be asked now.
        page.click(".action");
        page.wait("document.querySelector('#token-dialog').open");
        page.press(ESCAPE);
    }
    assert_eq!(world.nodes[1].json("port show podD")[0]["state"], "up");
    assert_eq!(page.text("document.querySelector('#toast').hidden"), "true");
}

fn refused(world: &World) {
    let page = world.open();
    page.run(
        "const real = window.fetch;
         window.fetch = async (path, options) => options?.method === 'POST'
           ? new Response('{\"message\": \"not from here\"}', {status: 403})
           : real(path, options)",
    );
    page.click("[data-key*='port'][aria-label*=podD]");
    page.click(".action");
    page.wait("document.querySelector('#token-dialog').open");
    page.press(&format!("{TOKEN}\u{e007}"));
    page.wait("document.querySelector('#toast').textContent === 'It failed: not from here'");
    assert_eq!(
        page.text("document.querySelector('#token-dialog').open"),
        "false"
    );
}

fn focus_in_the_list(world: &World) {
    let page = world.open();
    world.ping('A', 'B');
    page.wait("document.querySelectorAll('#log-list li').length === 5");
    page.run("document.querySelector('#log-list li:nth-child(2) button').focus()");
    page.run("window.held = document.activeElement");
    // More than are shown, of two nodes, a little out of order.
    let more = with_modules(
        page,
        &["log", "model"],
        "const list = document.querySelector('#log-list');
         const other = new log.Log(new model.Model(), () => {});
         const from = {kind: 'port', name: 'podA'};
         const scene = (id, time) => ({
           id, time, node: 'n', kind: 'arp', text: 'arp', len: 42, from, copies: [], verdict: 'flooded',
           to: '2 (broadcast)', fdb: null, record: null, count: 1});
         const scenes = [];
         for (let at = 0; at < 400; at += 1) scenes.push(scene(1e6 + at, 2e9 + (at % 2 ? at - 1.5 : at)));
         for (const one of scenes) other.add([one]);
         const times = [...list.children].map(e => Number(e.dataset.time));
         const order = times.every((time, at) => at === 0 || times[at - 1] <= time);
         return [document.activeElement === held, order, list.children.length]",
    );
    assert_eq!(more, json!([true, true, 405]));
    // Nobody reads: it is short again.
    page.run("document.activeElement.blur()");
    world.ping('A', 'B');
    page.wait("document.querySelectorAll('#log-list li').length === 300");
}

fn escape(world: &World) {
    let page = world.open();
    world.ping('A', 'B');
    page.click(".line.arp");
    page.wait("document.querySelector('.line.chosen')");
    page.run("document.activeElement.blur()");
    page.press(ESCAPE);
    page.wait("document.querySelector('#panel-title').textContent === 'Overview'");
    assert_eq!(
        page.text("document.querySelectorAll('.chosen').length"),
        "0"
    );
}

/// Writes down the streams that are opened from now on.
const WATCHED: &str = "
    const Real = window.EventSource;
    window.opened = [];
    window.EventSource = class extends Real {
      constructor(url) { super(url); opened.push(this); }
    }";

fn missed(world: &World) {
    let page = world.open();
    page.run(WATCHED);
    let told = with_modules(
        page,
        &["live"],
        "const stream = new live.Live();
         window.told = [];
         for (const event of ['missed', 'hello', 'state']) stream.on(event, () => {
           told.push(event);
           if (event === 'missed') stream.renew();
         });
         stream.open();
         window.stream = stream;
         return opened.length",
    );
    assert_eq!(told, json!(1));
    page.wait("told.filter(one => one === 'state').length >= 2");
    page.run(
        "told.length = 0;
         opened[0].dispatchEvent(new MessageEvent('missed', {data: '{\"count\": 7}'}))",
    );
    page.wait("opened.length === 2 && opened[0].readyState === 2");
    page.wait("told[0] === 'missed' && told.filter(one => one === 'state').length >= 2");
    page.run("stream.source.close()");
}

fn asleep(world: &World) {
    let page = world.open();
    page.run(WATCHED);
    with_modules(
        page,
        &["live"],
        "window.stream = new live.Live();
         stream.start()",
    );
    let turn = |is_hidden: bool| {
        page.run(&format!(
            "Object.defineProperty(document, 'hidden', {{value: {is_hidden}, configurable: true}});
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    };
    page.wait("opened[0].readyState === 1");
    turn(true);
    page.wait("document.querySelector('#status').textContent === 'Asleep: not visible'");
    page.wait("opened[0].readyState === 2");
    turn(false);
    page.wait("document.querySelector('#status.well')");
    page.wait("opened.length === 3 && opened.slice(1).every(one => one.readyState === 1)");
    world.ping('A', 'B');
    page.wait("document.querySelector('#log-list').textContent.includes('echo reply')");
    page.run("stream.source.close()");
}

fn backlog(world: &World) {
    let page = world.open();
    let told = with_modules(
        page,
        &["player"],
        "const played = [];
         const stage = {now: 0, busy: 0, sprites: [], end: 0, advance() {}, play: s => played.push(s.time)};
         const one = new player.Player(stage, () => {});
         one.wake = () => {};
         const scene = (time) => ({time, copies: [], record: {}, outer: null});
         one.pause(true);
         for (let time = 0; time < 100; time += 1) one.add(scene(time), 0);
         one.pause(false);
         for (let time = 100; time < 400; time += 1) one.add(scene(time), 0);
         const left = one.left;
         while (one.queue.length > 0) one.begin(one.next(Infinity));
         return [played.slice(0, 100).every((time, at) => time === at), played.length < 145,
           left + played.length, one.backlog]",
    );
    assert_eq!(told, json!([true, true, 400, 0]));
}

fn two_bridges(world: &World) {
    let page = world.open();
    let told = with_modules(
        page,
        &["draw", "model"],
        "const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
         svg.style.cssText = 'position: fixed; inset: 0; width: 900px; height: 700px';
         document.body.append(svg);
         const known = new model.Model();
         const bridge = (name, fdb_entries) =>
           ({name, vni: null, mode: 'switch', effective_mtu: 1500, fdb_entries});
         const row = (bridge) => ({
           bridge, mac: '02:00:00:00:00:01', vlan: 0, port: 'p', remote: null, state: 'learned'});
         known.state({
           node: 'n', fdb: [row('br0'), row('br1')], fdb_total: 900,
           show: {bridges: [bridge('br0', 800), bridge('br1', 1)], ports: [], peers: []}});
         const picture = new draw.Picture(svg, known, () => {});
         picture.render();
         picture.flash('n', 'br1', '02:00:00:00:00:01');
         const lit = [...svg.querySelectorAll('.fdb-row')].map(e => e.classList.contains('lit'));
         const more = [...svg.querySelectorAll('.fdb-more')].map(e => e.textContent);
         // Of large ones the server tells no row.
         known.state({node: 'n', fdb: [], fdb_total: 9000});
         picture.render();
         const many = [...svg.querySelectorAll('.bridge > .quiet')].map(e => e.textContent);
         svg.remove();
         return [lit, more.map(text => /\\d+/.exec(text)[0]), many]",
    );
    let many = ["800 rows: too many to show", "1 rows: too many to show"];
    assert_eq!(told, json!([[false, true], ["799"], many]));
}

fn plots(world: &World) {
    let page = world.open();
    let told = with_modules(
        page,
        &["model", "plot"],
        "const known = new model.Model();
         const at = (time, frames) => known.stats({
           node: 'n', at: time,
           ports: [{name: 'p', rx_bytes: frames * 100, tx_bytes: 0, rx_frames: frames, tx_frames: 0}]});
         for (let time = 0; time < 5; time += 1) at(time, time);
         for (let time = 30; time < 35; time += 1) at(time, time);
         const samples = () => known.node('n').ports.get('p').samples
           .map(({at, took, rx}) => ({at, took, value: rx}));
         const path = plot.points(samples(), 60, 59, 10);
         // The clock is set back.
         at(3, 40);
         at(4, 41);
         return [path.match(/[ML][\\d.]+/g), samples().map(({at, value}) => [at, value])]",
    );
    assert_eq!(
        told,
        json!([
            [
                "M26.0", "L27.0", "L28.0", "L29.0", "M55.0", "L56.0", "L57.0", "L58.0", "L59.0"
            ],
            [[4, 100]]
        ])
    );
}
