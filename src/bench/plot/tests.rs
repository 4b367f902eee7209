use super::*;
use crate::bench::{
    machine::Machine,
    report::{Noise, Rounds, Settings, SystemInfo},
    stats::{Better, Ratio},
};

fn compared(system: &str, ratio: Option<(f64, f64, f64)>, verdict: Option<Verdict>) -> Compared {
    Compared {
        system: system.to_owned(),
        median: Some(20.0),
        min: Some(19.0),
        max: Some(21.0),
        rounds: 7,
        ratio: ratio.map(|(low, value, high)| Ratio { value, low, high }),
        verdict,
    }
}

fn report(ratio: (f64, f64, f64), verdict: Verdict) -> Report {
    let names = ["kernel", "a <b> & c"];
    let figure = |key, unit| FigureResult {
        key,
        title: "",
        unit,
        better: Better::Higher,
        systems: vec![
            compared(names[0], None, None),
            compared(names[1], Some(ratio), Some(verdict)),
        ],
    };
    let rounds = |name: &&str| Rounds {
        system: (*name).to_owned(),
        rounds: Vec::new(),
    };
    let info = |name: &&str| SystemInfo {
        name: (*name).to_owned(),
        version: None,
        is_required: true,
    };
    Report {
        machine: Machine::this(None),
        settings: Settings {
            rounds: 7,
            seconds: 2.0,
            warm_up_seconds: 0.5,
        },
        noise: Noise::default(),
        systems: names.iter().map(info).collect(),
        unavailable: Vec::new(),
        results: vec![CaseResult {
            place: Place::Overlay,
            case: "tcp1",
            title: "TCP, 1 stream",
            figures: vec![figure("throughput", "Gb/s"), figure("fairness", "")],
            systems: names.iter().map(rounds).collect(),
        }],
    }
}

#[test]
fn a_picture_has_a_bar_for_each_ratio_and_nothing_that_runs() {
    let picture = svg(&report((1.8, 2.0, 2.2), Verdict::Faster));
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert!(!picture.contains("<script") && !picture.contains("href"));
    assert_eq!(picture.matches("2.00\u{d7}").count(), 1, "{picture}");
    assert!(picture.contains("TCP, 1 stream") && picture.contains("kernel: 20.00 Gb/s"));
    assert!(picture.contains("VXLAN") && !picture.contains("On one node"));
    assert!(picture.contains("a &lt;b&gt; &amp; c") && !picture.contains("<b>"));
    assert!(picture.contains("text-anchor='start'"));
    // One bar in full colour, and its square in the legend.
    let full = picture.matches("fill='#0072b2' fill-opacity='1'").count();
    assert_eq!(full, 2, "{picture}");
}

#[test]
fn what_is_not_certain_is_pale() {
    let picture = svg(&report((0.9, 1.0, 1.1), Verdict::TooNoisy));
    let pale = picture
        .matches("fill='#0072b2' fill-opacity='0.35'")
        .count();
    assert_eq!(pale, 1, "{picture}");
}

#[test]
fn bars_stay_inside_however_large_they_are() {
    for ratio in [(1e-9, 1e-6, 1e-3), (1.0, 1e6, 1e9), (1.0, 1.0, 1.0)] {
        let picture = svg(&report(ratio, Verdict::Slower));
        let numbers = picture
            .split('\'')
            .filter_map(|part| part.parse::<f64>().ok());
        for number in numbers {
            assert!((-10.0..=WIDTH).contains(&number), "{number} for {ratio:?}");
        }
    }
}

#[test]
fn a_report_without_results_is_a_picture_too() {
    let mut empty = report((1.0, 1.0, 1.0), Verdict::NoDifferenceShown);
    empty.results.clear();
    assert!(svg(&empty).ends_with("</svg>\n"));
}

#[test]
fn the_scale_is_the_same_both_ways() {
    let scale = Scale::of(&report((0.2, 0.25, 0.3), Verdict::Slower));
    let (half, one, two) = (scale.x(0.5), scale.x(1.0), scale.x(2.0));
    assert!((2.0 * one - half - two).abs() < 1e-6 || two >= RIGHT);
    assert!(scale.ticks().contains(&1.0));
    assert!(half < one && one < two);
}
