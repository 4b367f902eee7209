//! Networks without a fault, questions that cannot be answered, and what the report looks like.

use libtest_mimic::Trial;

use crate::{
    common::Env,
    lab::{Lab, Opinion},
    overlay::Pair,
    world::{Family, text},
};

pub(crate) fn trials(env: &Env) -> Vec<Trial> {
    vec![
        env.trial_with(&["ping"], "a_switch_without_a_fault_gets_no_warning", well),
        env.trial_with(
            &["ping"],
            "an_overlay_without_a_fault_gets_no_warning",
            || {
                overlay_well(Family::V4);
                overlay_well(Family::V6);
            },
        ),
        env.trial_with(
            &["ping"],
            "a_vtep_of_the_kernel_gets_no_warning",
            kernel_well,
        ),
        env.trial("a_report_reads_from_the_port_to_the_cause", screen),
        env.trial("what_cannot_be_examined_is_refused", refused),
    ]
}

#[track_caller]
fn assert_well(opinion: &Opinion, about: &str) {
    let verdict = opinion.0["verdict"].as_str().unwrap();
    assert!(
        matches!(verdict, "ok" | "note"),
        "{about}: {verdict}{}",
        opinion.text()
    );
    assert!(opinion.0["cause"].is_null(), "{about}{}", opinion.text());
}

fn well() {
    let lab = Lab::new();
    let every = ["", "podA", "podA podB", "podA 10.1.1.3", "podC fd00:1::1"];
    for about in every {
        assert_well(&Opinion::of(&lab.daemon, about), about);
    }
    for to in ["10.1.1.2", "fd00:1::3"] {
        lab.ping("podA", to);
    }
    for about in every {
        assert_well(&Opinion::of(&lab.daemon, about), about);
    }
    let path = Opinion::of(&lab.daemon, "podA podB").0["findings"].to_string();
    let seen = "podA asked for 10.1.1.2 ";
    assert!(
        path.contains(seen) && path.contains("; podB answered "),
        "{path}"
    );
}

fn overlay_well(family: Family) {
    let pair = Pair::new(family);
    // Nobody has said anything yet.
    for about in ["", "pod1"] {
        assert_well(&Opinion::of(&pair.daemon, about), about);
    }
    pair.ping();
    for about in ["", "pod1", "pod1 10.1.1.2"] {
        let opinion = Opinion::of(&pair.daemon, about);
        assert_well(&opinion, about);
        let told = opinion.0["findings"].to_string();
        assert!(told.contains("answers in"), "{about}: {told}");
    }
}

fn kernel_well() {
    let pair = Pair::with(Family::V4, |_, _| None);
    pair.face_the_kernel();
    pair.ping();
    for about in ["", "pod1 10.1.1.2"] {
        assert_well(&Opinion::of(&pair.daemon, about), about);
    }
}

fn screen() {
    let lab = Lab::new();
    lab.ip("podB", "link set eth0 down");

    let output = lab.daemon.run("doctor podA podB");

    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output.stdout);
    let first = printed.lines().next().unwrap();
    assert_eq!(first, "doctor: from port podA to port podB");
    let netns = lab.pod("podB").name();
    let fix = format!("# ip -n {netns} link set eth0 up");
    assert!(printed.lines().any(|line| line.trim() == fix), "{printed}");
    let cause =
        "The most likely cause: link-down\n  port podB: eth0 is down inside the namespace\n";
    assert!(printed.ends_with(cause), "{printed}");
    let wide = |line: &&str| line.chars().count() > 100 && !line.trim().starts_with('#');
    assert_eq!(printed.lines().find(wide), None);
}

fn refused() {
    let lab = Lab::new();
    for (about, code, cause) in [
        ("podX", 1, "no port \"podX\"; there is podA, podB, podC"),
        ("podA podX", 1, "no port \"podX\""),
        ("podA podA", 2, "a path has two ends"),
        ("podA no/name", 2, "invalid value 'no/name'"),
    ] {
        let output = lab.daemon.run(&format!("doctor {about}"));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{about}: {stderr}");
        assert!(stderr.contains(cause), "{about}: {stderr}");
        assert_eq!(text(&output.stdout), "");
    }
}
