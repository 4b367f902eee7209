//! The screen as a function of the model and its size.

use std::collections::VecDeque;

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState},
};

use super::{
    flows::flows,
    model::{Known, Model, View},
    rows::{Place, drops_of, losses, places},
};
use crate::{
    cli::{
        output::{clock, plain},
        rates::{Rate, age, scaled},
    },
    control::api::{PeerState, PortState},
};

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let [header, middle, footer] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_header(frame, header, model);
    match model.view {
        View::Places => draw_places_and_news(frame, middle, model),
        View::Drops => draw_losses(frame, middle, model),
        View::Flows => draw_flows(frame, middle, model),
        View::Help => frame.render_widget(Paragraph::new(HELP), middle),
    }
    frame.render_widget(Paragraph::new(keys(model)), footer);
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let known = model.shown();
    let [first, second] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let corner = Layout::horizontal([Constraint::Fill(1), Constraint::Length(9)]);
    let [left, corner] = corner.areas(first);
    let mark = match model.is_paused() {
        true => Line::from("PAUSED").reversed(),
        // Seconds are enough.
        false => Line::from(clock(known.now).chars().take(8).collect::<String>()),
    };
    frame.render_widget(who(known), left);
    frame.render_widget(mark.alignment(Alignment::Right), corner);
    let state = match &known.silence {
        Some(reason) => Line::from(format!(" {}; trying again", plain(reason))).fg(Color::Red),
        None => totals(known),
    };
    frame.render_widget(state, second);
}

/// ` nodeA, up 1h02m, 2 of 3 ports up, 1 of 2 peers up, 1 worker at 37 %`
fn who(known: &Known) -> Line<'_> {
    let stats = &known.stats;
    let ports = stats.ports.iter();
    let ports = ports.filter(|port| port.state == PortState::Up).count();
    let peers = stats.peers.iter();
    let peers = peers.filter(|peer| peer.state == PeerState::Up).count();
    let mut text = format!(
        ", up {}, {ports} of {} ports up",
        age(stats.uptime_s),
        stats.ports.len()
    );
    if stats.vtep.is_some() {
        text += &format!(", {peers} of {} peers up", stats.peers.len());
    }
    let workers = stats.workers.len();
    let s = if workers == 1 { "" } else { "s" };
    text += &format!(", {workers} worker{s}{}", load(&known.rates.loads));
    let name = Span::from(format!(" {}", plain(&stats.name))).bold();
    Line::from(vec![name, Span::from(text)])
}

fn load(loads: &[f64]) -> String {
    let percent = |load: f64| format!("{:.0} %", 100.0 * load);
    match loads {
        [] => String::new(),
        [only] => format!(" at {}", percent(*only)),
        several => {
            let most = several.iter().copied().fold(0.0, f64::max);
            format!(" at up to {}", percent(most))
        }
    }
}

fn totals(known: &Known) -> Line<'_> {
    let rates = &known.rates;
    let sum = |of: fn(&crate::cli::rates::Flow) -> Rate| {
        let flows = rates.ports.iter().map(of);
        flows.fold(Rate::default(), |sum, rate| Rate {
            frames: sum.frames + rate.frames,
            bits: sum.bits + rate.bits,
        })
    };
    let (rx, tx) = (sum(|flow| flow.rx), sum(|flow| flow.tx));
    let flows = rates
        .ports
        .iter()
        .chain(&rates.peers)
        .chain([&rates.strays]);
    let drops: f64 = flows.map(|flow| flow.drop_rate).sum();
    let unaccounted = known.stats.unaccounted;
    let warn = |is: bool| {
        if is {
            Style::new().fg(Color::Yellow)
        } else {
            Style::new()
        }
    };
    Line::from(vec![
        Span::from(format!(
            " in {} f/s {}bit/s, out {} f/s {}bit/s, ",
            scaled(rx.frames),
            bits(rx.bits),
            scaled(tx.frames),
            bits(tx.bits)
        )),
        Span::styled(format!("lost {}/s", scaled(drops)), warn(drops > 0.0)),
        Span::from(", "),
        Span::styled(format!("unaccounted {unaccounted}"), warn(unaccounted != 0)),
    ])
}

/// With a space between number and unit: `1.23 G`.
fn bits(value: f64) -> String {
    let text = scaled(value);
    match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => format!("{} {}", &text[..at], &text[at..]),
        None => format!("{text} "),
    }
}

fn draw_places_and_news(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let (drops, events) = match area.height {
        0..12 => (0, 0),
        height => ((height / 5).min(9), (height / 4).min(12)),
    };
    let [table, drops, events] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(drops),
        Constraint::Length(events),
    ])
    .areas(area);
    draw_places(frame, table, model);
    let known = model.shown();
    draw_lines(frame, drops, "recent drops", &known.drops);
    draw_lines(frame, events, "recent events", &known.events);
}

fn draw_places(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let places = places(model);
    let spare = area.width.saturating_sub(80);
    let widths = [
        Constraint::Length(16 + (spare / 3).min(24)),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(16 + (spare / 3).min(10)),
        Constraint::Fill(1),
    ];
    let chart = usize::from(area.width).saturating_sub(72 + usize::from(2 * (spare / 3).min(10)));
    let title = |first: &'static str| {
        let words = ["IN f/s", "bit/s", "OUT f/s", "bit/s"];
        let right = words.map(|word| Cell::from(Line::from(word).alignment(Alignment::Right)));
        let left = [first, "STATE"].map(Cell::from).into_iter();
        let cells = left.chain(right).chain(["DROPS", "BITS"].map(Cell::from));
        Row::new(cells).style(Modifier::BOLD)
    };
    let first_peer = places.iter().position(|place| place.is_peer);
    let has_ports = first_peer != Some(0);
    let mut rows: Vec<Row<'_>> = places.iter().map(|place| row(place, chart)).collect();
    if let Some(at) = first_peer.filter(|_| has_ports) {
        rows.insert(at, title(" PEER"));
    }
    let count = rows.len();
    let header = title(if has_ports { " PORT" } else { " PEER" });
    let is_empty = places.is_empty();
    draw_table(
        frame,
        area,
        Table::new(rows, widths).header(header),
        model,
        count,
    );
    if is_empty {
        let why = match (
            model.filter.is_empty(),
            model.shown().stats.ports.is_empty(),
        ) {
            (false, false) => format!(" nothing is called like {:?}", plain(&model.filter)),
            _ => " no ports yet; add one: tapswitch port add NAME --bridge BR".to_owned(),
        };
        frame.render_widget(Paragraph::new(why), below_title(area));
    }
}

fn row<'a>(place: &Place<'_>, chart: usize) -> Row<'a> {
    let number = |value: f64| Cell::from(Line::from(scaled(value)).alignment(Alignment::Right));
    let flow = place.flow;
    let drops = Cell::from(drops_of(flow));
    let row = Row::new([
        Cell::from(format!(" {}", place.name)),
        Cell::from(place.state),
        number(flow.rx.frames),
        number(flow.rx.bits),
        number(flow.tx.frames),
        number(flow.tx.bits),
        match flow.drops.is_empty() {
            true => drops,
            false => drops.style(Color::Yellow),
        },
        Cell::from(sparkline(&place.history, chart)).style(Color::Cyan),
    ]);
    match place.is_up {
        true => row,
        false => row.style(Color::Red),
    }
}

/// The last `width` values, each a column as high as its share of the highest.
fn sparkline(values: &[u64], width: usize) -> String {
    let values = &values[values.len().saturating_sub(width)..];
    let highest = values.iter().copied().max().unwrap_or(0);
    let column = |&value: &u64| match (value, highest) {
        (0, _) | (_, 0) => ' ',
        _ => {
            let steps = COLUMNS.len() as u128;
            // Anything at all is the lowest column at least.
            let step = (u128::from(value) * steps).div_ceil(u128::from(highest)) - 1;
            usize::try_from(step)
                .ok()
                .and_then(|step| COLUMNS.get(step))
                .copied()
                .unwrap_or(' ')
        }
    };
    values.iter().map(column).collect()
}

fn draw_losses(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let [area, below] = Layout::vertical([Constraint::Fill(1), Constraint::Length(2)]).areas(area);
    let losses = losses(model);
    let spare = area.width.saturating_sub(80);
    let widths = [
        Constraint::Length(24 + (spare / 3).min(20)),
        Constraint::Length(4),
        Constraint::Length(18),
        Constraint::Length(12),
        Constraint::Length(6),
        Constraint::Fill(1),
    ];
    let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
    let left = [" PLACE", "WAY", "REASON"].map(Cell::from).into_iter();
    let titles = left.chain(["FRAMES", "/s"].map(|title| right(title.to_owned())));
    let header = Row::new(titles).style(Modifier::BOLD);
    let rows: Vec<Row<'_>> = losses
        .iter()
        .map(|loss| {
            let row = Row::new([
                Cell::from(format!(" {}", loss.place)),
                Cell::from(loss.way),
                Cell::from(loss.reason.clone()),
                right(loss.total.to_string()),
                right(scaled(loss.rate)),
                Cell::from(if spare > 0 { loss.meaning } else { "" }),
            ]);
            match loss.rate > 0.0 {
                true => row.style(Color::Yellow),
                false => row,
            }
        })
        .collect();
    let table = Table::new(rows, widths).header(header);
    draw_table(frame, area, table, model, losses.len());
    // A line of its own, since it is long.
    let text = match losses.get(model.selected) {
        Some(loss) => format!("\n {}: {}", loss.reason, loss.meaning),
        None => "\n nothing was lost".to_owned(),
    };
    frame.render_widget(Paragraph::new(text), below);
}

fn draw_flows(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let [area, below] = Layout::vertical([Constraint::Fill(1), Constraint::Length(2)]).areas(area);
    let flows = flows(model);
    let spare = area.width.saturating_sub(80);
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(10 + (spare / 4).min(10)),
        Constraint::Length(12 + (spare / 4).min(10)),
        Constraint::Length(6),
        Constraint::Length(6),
    ];
    let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
    let left = [" FLOW", "FROM", "TO"].map(Cell::from).into_iter();
    let titles = left.chain(["f/s", "bit/s"].map(|title| right(title.to_owned())));
    let header = Row::new(titles).style(Modifier::BOLD);
    let rows: Vec<Row<'_>> = flows
        .iter()
        .map(|flow| {
            let row = Row::new([
                Cell::from(format!(" {}", flow.words)),
                Cell::from(flow.from.clone()),
                Cell::from(flow.to.clone()),
                right(scaled(flow.rate.frames)),
                right(scaled(flow.rate.bits)),
            ]);
            match flow.is_lost {
                true => row.style(Color::Yellow),
                false => row,
            }
        })
        .collect();
    let known = &model.shown().flows;
    let crowded = match known.crowded_out {
        0 => String::new(),
        count => format!(" ({count} flows had no room)"),
    };
    // The whole of what the column has no room for.
    let text = match (flows.get(model.selected), known.is_known) {
        (Some(flow), _) => format!("\n {} frames: {}{crowded}", flow.frames, flow.words),
        (None, false) => "\n asking the flight recorders".to_owned(),
        (None, true) => "\n no frames lately, or the recorder is off".to_owned(),
    };
    let count = flows.len();
    let table = Table::new(rows, widths).header(header);
    draw_table(frame, area, table, model, count);
    frame.render_widget(Paragraph::new(text), below);
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, table: Table<'_>, model: &mut Model, rows: usize) {
    model.rows = rows;
    model.selected = model.selected.min(rows.saturating_sub(1));
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected((rows > 0).then_some(model.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_lines(frame: &mut Frame<'_>, area: Rect, title: &'static str, lines: &VecDeque<String>) {
    let block = Block::new()
        .borders(Borders::TOP)
        .title(format!(" {title} "));
    let room = usize::from(block.inner(area).height);
    let newest = lines.iter().skip(lines.len().saturating_sub(room));
    let text: Vec<Line<'_>> = newest.map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Paragraph::new(text).block(block), area);
}

fn below_title(area: Rect) -> Rect {
    Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    }
    .intersection(area)
}

fn keys(model: &Model) -> Line<'_> {
    if model.is_typing {
        let filter = plain(&model.filter);
        return Line::from(format!(" filter: {filter}_   Enter keeps it, Esc drops it"));
    }
    let mut text = vec![Span::from(" ")];
    let sort = format!("sort: {}", model.sort.name());
    let filter = match model.filter.is_empty() {
        true => "filter".to_owned(),
        false => format!("filter: {}", plain(&model.filter)),
    };
    let pause = if model.is_paused() { "go on" } else { "pause" };
    let drops = if model.view == View::Drops {
        "ports"
    } else {
        "drops"
    };
    let flows = if model.view == View::Flows {
        "ports"
    } else {
        "flows"
    };
    for (key, what) in [
        ("q", "quit"),
        ("s", sort.as_str()),
        ("/", filter.as_str()),
        ("p", pause),
        ("d", drops),
        ("f", flows),
        ("?", "help"),
    ] {
        text.push(Span::from(key).bold());
        text.push(Span::from(format!(" {what}   ")));
    }
    Line::from(text)
}

const COLUMNS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const HELP: &str = "
 q, Ctrl-C     quit
 s             sort by bits, frames, drops or name
 /             show only ports and peers with this in their name
 p, space      pause, and go on
 d             all drops by place and reason, and back
 f             flows of the last seconds, and where they go, and back
 arrows, j, k  move; page keys, Home and End too
 Esc           back, or drop the filter

 IN is from a namespace or a peer into the switch, OUT the other way. Rates are
 those of the last look; a superframe is one frame. DROPS is what is lost there
 now, and the reason that costs most. BITS is how the bits a second have been
 lately, in and out together, each row to its own scale. A worker that looks for
 frames uses its CPU too. Times are UTC.";
