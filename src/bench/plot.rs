//! A report as a picture: how many times as good as the first system, on a logarithmic scale.
//!
//! A plain SVG without scripts or outside parts, so that it shows wherever pictures do.

use super::{
    case::Place,
    report::{CaseResult, Compared, FigureResult, Report},
    stats::Verdict,
    table::number,
};

/// Colours that also those tell apart who do not see all of them (Okabe and Ito).
const COLOURS: [&str; 6] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
];
const INK: &str = "#1f2328";
const GREY: &str = "#656d76";
const LINE: &str = "#d8dee4";

const WIDTH: f64 = 960.0;
/// Where the scale begins and ends.
const LEFT: f64 = 262.0;
const RIGHT: f64 = WIDTH - 30.0;
const BAR: f64 = 14.0;
const GAP: f64 = 4.0;
/// Between cases.
const SPACE: f64 = 14.0;
/// The least height of a case: two lines of text.
const LABEL: f64 = 32.0;

/// Draws `report`.
pub fn svg(report: &Report) -> String {
    let scale = Scale::of(report);
    let mut canvas = Canvas {
        body: String::new(),
        y: 0.0,
    };
    canvas.title(report);
    for place in Place::ALL {
        let results = report.results.iter().filter(|result| result.place == place);
        let groups: Vec<_> = results.flat_map(groups).collect();
        if !groups.is_empty() {
            canvas.panel(place, &groups, report, &scale);
        }
    }
    canvas.finish()
}

/// A figure with the systems that have a ratio.
struct Group<'a> {
    result: &'a CaseResult,
    figure: &'a FigureResult,
    /// The colour and the system of each.
    bars: Vec<(&'static str, &'a Compared)>,
}

impl Group<'_> {
    fn height(&self) -> f64 {
        (real(self.bars.len()) * (BAR + GAP)).max(LABEL)
    }
}

fn groups(result: &CaseResult) -> Vec<Group<'_>> {
    let group = |figure| Group {
        result,
        figure,
        bars: bars(figure),
    };
    // What has no unit is no speed.
    let figures = result
        .figures
        .iter()
        .filter(|figure| !figure.unit.is_empty());
    let groups = figures.map(group);
    groups.filter(|group| !group.bars.is_empty()).collect()
}

fn bars(figure: &FigureResult) -> Vec<(&'static str, &Compared)> {
    let others = figure.systems.iter().skip(1);
    let coloured = COLOURS.into_iter().cycle().zip(others);
    coloured
        .filter(|(_, compared)| compared.ratio.is_some())
        .collect()
}

/// From ratios to places.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// Wide enough for all, and for a number beside each bar.
    fn of(report: &Report) -> Self {
        let groups = report.results.iter().flat_map(groups);
        let ratios = groups.flat_map(|group| group.bars);
        let (mut low, mut high) = (0.7_f64, 1.4_f64);
        for ratio in ratios.filter_map(|(_, compared)| compared.ratio) {
            low = low.min(ratio.low);
            high = high.max(ratio.high);
        }
        // Further out a bar says nothing more.
        let (low, high) = (low.max(0.01).ln(), high.min(100.0).ln());
        let room = 0.09 * (high - low);
        Self {
            low: low - room,
            high: high + room,
        }
    }

    fn x(&self, ratio: f64) -> f64 {
        let part = (ratio.max(1e-6).ln() - self.low) / (self.high - self.low);
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn ticks(&self) -> Vec<f64> {
        const COARSE: [f64; 13] = [
            0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
        ];
        const FINE: [f64; 13] = [
            0.25, 0.33, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 4.0,
        ];
        let ticks = match self.high - self.low < 3.0 {
            true => FINE,
            false => COARSE,
        };
        let is_inside = |tick: &f64| (self.low..=self.high).contains(&tick.ln());
        ticks.into_iter().filter(is_inside).collect()
    }
}

struct Canvas {
    body: String,
    /// The end of what has been drawn.
    y: f64,
}

impl Canvas {
    fn title(&mut self, report: &Report) {
        let baseline = report
            .systems
            .first()
            .map_or("", |system| system.name.as_str());
        let what = match baseline {
            "kernel" => "the kernel's bridge and vxlan device",
            other => other,
        };
        let title = format!("Speed, compared with {what}");
        self.text(
            24.0,
            38.0,
            &format!("font-size='22' font-weight='600' fill='{INK}'"),
            &title,
        );
        let machine = &report.machine;
        let kind = if machine.is_virtual { " (virtual)" } else { "" };
        let small = format!("font-size='13' fill='{GREY}'");
        let line = format!(
            "{} CPUs, {}{kind}, Linux {}, {}; tapswitch {}",
            machine.cpus, machine.cpu, machine.kernel, machine.date, machine.tapswitch
        );
        self.text(24.0, 60.0, &small, &line);
        let settings = &report.settings;
        let line = format!(
            "Medians of {} rounds of {} s, measured in turn, with 95 % confidence intervals. Right \
             of 1\u{d7} is better, also for times.",
            settings.rounds, settings.seconds
        );
        self.text(24.0, 78.0, &small, &line);
        self.legend(report);
    }

    fn legend(&mut self, report: &Report) {
        let (mut x, mut y) = (24.0, 102.0);
        let others = COLOURS
            .into_iter()
            .cycle()
            .zip(report.systems.iter().skip(1));
        let entries = others.map(|(colour, system)| (colour, 1.0, system.name.as_str()));
        let uncertain = [(GREY, PALE, "pale: not certain")];
        for (colour, opacity, name) in entries.chain(uncertain) {
            // No font is known here, so this is a guess, on the wide side.
            let width = 26.0 + 7.6 * real(name.chars().count()) + 18.0;
            if x + width > WIDTH && x > 24.0 {
                (x, y) = (24.0, y + 20.0);
            }
            self.rect((x, y - 11.0), (14.0, 14.0), colour, opacity);
            let look = format!("font-size='13' fill='{INK}'");
            self.text(x + 20.0, y, &look, name);
            x += width;
        }
        self.y = y + 14.0;
    }

    fn panel(&mut self, place: Place, groups: &[Group<'_>], report: &Report, scale: &Scale) {
        let top = self.y + 44.0;
        let heading = match place {
            Place::OneNode => "On one node",
            Place::Overlay => "Between two nodes (VXLAN)",
        };
        let look = format!("font-size='16' font-weight='600' fill='{INK}'");
        self.text(24.0, top - 12.0, &look, heading);
        let height: f64 = groups.iter().map(|group| group.height() + SPACE).sum();
        self.grid(top, top + height, scale);
        self.y = top + SPACE / 2.0;
        for group in groups {
            self.group(group, report, scale);
        }
        // The numbers below the scale.
        self.y += 20.0;
    }

    fn grid(&mut self, top: f64, bottom: f64, scale: &Scale) {
        for tick in scale.ticks() {
            let is_one = (tick - 1.0).abs() < 1e-9;
            let (colour, width) = if is_one { (INK, 1.5) } else { (LINE, 1.0) };
            self.line((scale.x(tick), top), (scale.x(tick), bottom), colour, width);
            let weight = if is_one { "600" } else { "400" };
            let look =
                format!("font-size='12' text-anchor='middle' font-weight='{weight}' fill='{GREY}'");
            self.text(
                scale.x(tick),
                bottom + 16.0,
                &look,
                &format!("{tick}\u{d7}"),
            );
        }
    }

    fn group(&mut self, group: &Group<'_>, report: &Report, scale: &Scale) {
        let (result, figure) = (group.result, group.figure);
        let title = format!("{}{}", result.title, figure.title);
        let middle = self.y + group.height() / 2.0;
        let look = format!("font-size='13' text-anchor='end' fill='{INK}'");
        self.text(LEFT - 14.0, middle - 3.0, &look, &title);
        let baseline = report.systems.first().map_or("", |system| &system.name);
        if let Some(median) = figure.systems.first().and_then(|first| first.median) {
            let look = format!("font-size='11' text-anchor='end' fill='{GREY}'");
            let text = format!("{baseline}: {} {}", number(median), figure.unit);
            self.text(LEFT - 14.0, middle + 12.0, &look, &text);
        }
        let bars = real(group.bars.len()) * (BAR + GAP) - GAP;
        let mut y = middle - bars / 2.0;
        for &(colour, compared) in &group.bars {
            self.bar(y, colour, compared, scale);
            y += BAR + GAP;
        }
        self.y += group.height() + SPACE;
    }

    fn bar(&mut self, y: f64, colour: &str, compared: &Compared, scale: &Scale) {
        let Some(ratio) = compared.ratio else { return };
        let is_certain = matches!(compared.verdict, Some(Verdict::Faster | Verdict::Slower));
        let (one, x) = (scale.x(1.0), scale.x(ratio.value));
        let (from, to) = (one.min(x), one.max(x));
        let opacity = if is_certain { 1.0 } else { PALE };
        self.rect((from, y), ((to - from).max(1.0), BAR), colour, opacity);
        let middle = y + BAR / 2.0;
        let (low, high) = (scale.x(ratio.low), scale.x(ratio.high));
        self.line((low, middle), (high, middle), INK, 1.2);
        for end in [low, high] {
            self.line((end, middle - 3.5), (end, middle + 3.5), INK, 1.2);
        }
        let text = format!("{:.2}\u{d7}", ratio.value);
        let (x, anchor) = match ratio.value >= 1.0 {
            true => (high.max(one) + 7.0, "start"),
            false => (low.min(one) - 7.0, "end"),
        };
        let look = format!("font-size='12' text-anchor='{anchor}' fill='{INK}'");
        self.text(x, middle + 4.2, &look, &text);
    }

    fn text(&mut self, x: f64, y: f64, look: &str, text: &str) {
        let text = escape(text);
        self.add(&format!("<text x='{x:.1}' y='{y:.1}' {look}>{text}</text>"));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        self.add(&format!(
            "<line x1='{:.1}' y1='{:.1}' x2='{:.1}' y2='{:.1}' stroke='{colour}' \
             stroke-width='{width}'/>",
            from.0, from.1, to.0, to.1
        ));
    }

    fn rect(&mut self, at: (f64, f64), size: (f64, f64), colour: &str, opacity: f64) {
        self.add(&format!(
            "<rect x='{:.1}' y='{:.1}' width='{:.1}' height='{:.1}' rx='2' fill='{colour}' \
             fill-opacity='{opacity}'/>",
            at.0, at.1, size.0, size.1
        ));
    }

    fn add(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    fn finish(self) -> String {
        let height = self.y + 16.0;
        let fonts =
            "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, DejaVu Sans, sans-serif";
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0}' \
             width='{WIDTH}' height='{height:.0}' font-family='{fonts}'>\n\
             <rect width='100%' height='100%' fill='#ffffff'/>\n{}</svg>\n",
            self.body
        )
    }
}

/// How visible a bar is that shows no difference.
const PALE: f64 = 0.35;

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
