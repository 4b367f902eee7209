use proptest::prelude::*;

use super::*;
use crate::lesson::watch::Copied;

fn seen(at: u64, place: &str, text: &str, fate: Fate, to: &[&str]) -> Seen {
    Seen {
        at: Timestamp::from_nanos(at * 1_500_000),
        node: "host".to_owned(),
        place: place.to_owned(),
        fate,
        class: None,
        reason: None,
        copies: to.iter().map(|to| copy(to)).collect(),
        row: None,
        learned: None,
        bytes: Vec::new(),
        len: 0,
        text: text.to_owned(),
        offload: None,
        datagram: None,
    }
}

fn copy(to: &str) -> Copied {
    Copied {
        at: Timestamp::ZERO,
        to: to.to_owned(),
        lost: None,
        bytes: None,
        datagram: None,
    }
}

fn expected(at: &str, what: &str) -> Expected {
    Expected {
        node: "host".to_owned(),
        at: at.to_owned(),
        what: what.to_owned(),
        ..Expected::default()
    }
}

fn ping() -> Vec<Seen> {
    vec![
        seen(
            0,
            "podA",
            "arp who-has B tell A",
            Fate::Flooded,
            &["podC", "podB"],
        ),
        seen(
            1,
            "podC",
            "icmp6 router solicitation",
            Fate::Flooded,
            &["podA"],
        ),
        seen(2, "podB", "arp B is-at MAC", Fate::Forwarded, &["podA"]),
        seen(
            3,
            "podA",
            "icmp A > B echo request 1",
            Fate::Forwarded,
            &["podB"],
        ),
        seen(
            4,
            "podB",
            "icmp B > A echo reply 1",
            Fate::Forwarded,
            &["podA"],
        ),
    ]
}

#[test]
fn frames_are_found_in_order_with_others_between() {
    let mut first = expected("podA", "who-has");
    first.fate = Some(Fate::Flooded);
    first.to = Some(vec!["podB".to_owned(), "podC".to_owned()]);
    let wanted = [
        first,
        expected("podA", "echo request"),
        expected("podB", "reply"),
    ];

    assert_eq!(find(&wanted, &ping(), Lang::En), Ok(vec![0, 3, 4]));
    assert_eq!(find(&[], &ping(), Lang::En), Ok(vec![]));
}

#[test]
fn the_places_are_exactly_those() {
    let mut wanted = expected("podA", "who-has");
    for (to, is_it) in [
        (&["podB"][..], false),
        (&["podC", "podB"], true),
        (&["podB", "podC", "podD"], false),
        (&[], false),
    ] {
        wanted.to = Some(to.iter().map(|&to| to.to_owned()).collect());
        assert_eq!(wanted.is(&ping()[0]), is_it, "{to:?}");
    }
}

#[test]
fn a_copy_that_was_lost_reached_nobody() {
    let mut frame = seen(0, "podA", "icmp", Fate::Dropped, &["podB"]);
    frame.copies[0].lost = Some("too_big".to_owned());
    frame.reason = Some("too_big".to_owned());
    let mut wanted = expected("podA", "icmp");
    wanted.to = Some(Vec::new());
    wanted.fate = Some(Fate::Dropped);
    wanted.reason = Some("too_big".to_owned());
    assert!(wanted.is(&frame));
    wanted.reason = Some("isolated".to_owned());
    assert!(!wanted.is(&frame));
}

#[test]
fn what_is_missing_is_told_with_the_nearest_and_all_frames() {
    let mut wanted = expected("podA", "echo request");
    wanted.fate = Some(Fate::Flooded);
    wanted.to = Some(vec!["podB".to_owned(), "podC".to_owned()]);
    let wanted = [expected("podA", "who-has"), wanted];

    let text = find(&wanted, &ping(), Lang::En).unwrap_err();

    assert_eq!(
        text,
        "\
frame 2 of 2 was not seen
  expected  host:podA: echo request -> flooded to podB, podC
  nearest   4. host:podA: icmp A > B echo request 1 -> forwarded to podB
            it was forwarded, it reached podB
  all frames of the step
     1.    +0.000 ms  host:podA: arp who-has B tell A -> flooded to podB, podC
     2.    +1.500 ms  host:podC: icmp6 router solicitation -> flooded to podA
     3.    +3.000 ms  host:podB: arp B is-at MAC -> forwarded to podA
     4.    +4.500 ms  host:podA: icmp A > B echo request 1 -> forwarded to podB
     5.    +6.000 ms  host:podB: icmp B > A echo reply 1 -> forwarded to podA"
    );
}

#[test]
fn a_frame_that_comes_too_early_is_told_as_that() {
    let wanted = [expected("podB", "reply"), expected("podA", "request")];

    let text = find(&wanted, &ping(), Lang::En).unwrap_err();

    let early = "4. is just that, but comes before 5., which the lesson expects earlier";
    assert!(text.contains(early), "{text}");
}

#[test]
fn nothing_at_all_is_told_as_that() {
    let text = find(&[expected("podB", "reply")], &[], Lang::En).unwrap_err();
    assert!(text.ends_with("no frame was seen at all"), "{text}");
}

/// A frame of few possible ones, so that many are equal.
fn frames() -> impl Strategy<Value = Vec<Seen>> {
    let places = prop::sample::select(vec!["podA", "podB", "podC"]);
    let texts = prop::sample::select(vec!["arp who-has", "arp is-at", "icmp"]);
    let fates = prop::sample::select(vec![Fate::Forwarded, Fate::Flooded, Fate::Dropped]);
    let to = prop::collection::vec(prop::sample::select(vec!["podA", "podB", "podC"]), 0..3);
    let frame = (places, texts, fates, to);
    let frame = frame.prop_map(|(place, text, fate, to)| seen(0, place, text, fate, &to));
    prop::collection::vec(frame, 0..12)
}

fn exactly(frame: &Seen) -> Expected {
    Expected {
        node: frame.node.clone(),
        at: frame.place.clone(),
        what: frame.text.clone(),
        fate: Some(frame.fate),
        to: Some(frame.copies.iter().map(|copy| copy.to.clone()).collect()),
        reason: None,
    }
}

/// Whether `wanted` is a subsequence of `seen`, found out by trying everything.
fn is_there(wanted: &[Expected], seen: &[Seen]) -> bool {
    match (wanted.split_first(), seen.split_first()) {
        (None, _) => true,
        (_, None) => false,
        (Some((first, rest)), Some((frame, frames))) => {
            (first.is(frame) && is_there(rest, frames)) || is_there(wanted, frames)
        }
    }
}

proptest! {
    #[test]
    fn any_selection_of_what_was_seen_is_found(all in frames(), mask in any::<u16>()) {
        let chosen = all.iter().enumerate().filter(|(index, _)| mask >> index & 1 == 1);
        let wanted: Vec<Expected> = chosen.map(|(_, frame)| exactly(frame)).collect();
        let found = find(&wanted, &all, Lang::En).unwrap();
        prop_assert_eq!(found.len(), wanted.len());
        prop_assert!(found.windows(2).all(|two| two[0] < two[1]));
        for (wanted, at) in wanted.iter().zip(found) {
            prop_assert!(wanted.is(&all[at]));
        }
    }

    #[test]
    fn it_is_found_if_and_only_if_it_is_there(all in frames(), other in frames()) {
        let wanted: Vec<Expected> = other.iter().take(3).map(exactly).collect();
        let found = find(&wanted, &all, Lang::En);
        prop_assert_eq!(found.is_ok(), is_there(&wanted, &all));
        if let Err(text) = found {
            prop_assert!(text.contains("was not seen"));
            prop_assert_eq!(all.is_empty(), text.contains("at all"));
        }
    }
}

#[test]
fn what_is_missing_is_told_in_chinese_too() {
    let mut wanted = expected("podB", "arp who-has B");
    wanted.fate = Some(Fate::Forwarded);
    wanted.to = Some(Vec::new());

    let text = find(&[wanted], &ping(), Lang::Zh).unwrap_err();

    for line in [
        "1 个帧中没有看到第 1 个",
        "应有  host:podB: arp who-has B -> 转发，谁也收不到",
        "它从 host:podA 进来, 它的去向是泛洪, 它到了 podB, podC",
        "这一步的所有帧",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
