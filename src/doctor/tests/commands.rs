//! The commands that findings carry.

use super::*;

#[test]
fn a_command_says_where_it_runs() {
    let netns = |text: &str| text.parse().unwrap();
    let (named, numbered, path) = (netns("red"), netns("pid:12"), netns("/run/x"));
    assert_eq!(Place(Some(&named)).ip("link"), "ip -n red link");
    assert_eq!(Place(Some(&named)).run("ping"), "ip netns exec red ping");
    assert_eq!(
        Place(Some(&numbered)).ip("link"),
        "nsenter -t 12 -n ip link"
    );
    assert_eq!(
        Place(Some(&path)).ip("link"),
        "nsenter --net=/run/x ip link"
    );
    assert_eq!(Place(None).sysctl("a.b", 1), "sysctl -w a.b=1");
}

#[test]
fn a_rule_is_taken_away_by_the_program_that_wrote_it() {
    let mut rule = drop_rule();
    let undo = |rule: &Dropping| filter::undo(Place(None), rule);
    assert_eq!(undo(&rule), "iptables -t filter -D INPUT 3");
    rule.number = None;
    assert_eq!(undo(&rule), "iptables -t filter -P INPUT ACCEPT");
    (rule.family, rule.number) = ("inet", Some(1));
    assert_eq!(undo(&rule), "nft delete rule inet filter INPUT handle 9");
}

#[test]
fn a_remedy_becomes_commands_with_its_words_behind_them() {
    let lines = |sentence| remedy::for_a_shell(sentence);
    assert_eq!(
        lines(
            "allow it: tapswitch fdb add MAC --port PORT, or unlock it: tapswitch port set PORT locked off"
        ),
        [
            "tapswitch fdb add MAC --port PORT    # allow it",
            "tapswitch port set PORT locked off    # unlock it",
        ]
    );
    assert_eq!(
        lines(
            "nothing, if it is meant; else turn it on: tapswitch port set a flood on (or b), on both; or not"
        ),
        [
            "tapswitch port set a flood on    # nothing, if it is meant; else turn it on; (or b), on both; not"
        ]
    );
    assert!(lines("nothing: it has MTU 1450 by now").is_empty());
    for reason in DropReason::ALL {
        let remedy = reason.remedy();
        let lines = lines(remedy);
        let commands = remedy.matches(": tapswitch ").count();
        assert!(lines.len() >= commands, "{remedy}: {lines:?}");
        for line in lines {
            let (command, words) = line.split_once("    # ").unwrap();
            let sense = command
                .split(' ')
                .all(|word| !word.is_empty() && !word.ends_with([':', ',', ')', '.']));
            assert!(sense && !words.contains("tapswitch"), "{line}");
        }
    }
}

/// What a shell makes of a command, without expanding anything but quotes: its words.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut is_quoted, mut characters) = (false, command.chars());
    while let Some(character) = characters.next() {
        let last = words.last_mut().unwrap();
        match character {
            '\'' => is_quoted = !is_quoted,
            _ if is_quoted => last.push(character),
            '\\' => last.push(characters.next().unwrap()),
            ' ' => words.push(String::new()),
            '#' if last.is_empty() => break,
            '$' | '`' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '*' | '?' | '"' => {
                panic!("a shell takes {character} for its own: {command}")
            }
            _ => last.push(character),
        }
    }
    assert!(!is_quoted, "{command}");
    words
}

#[test]
fn a_name_from_a_namespace_is_one_word_of_a_command_and_nothing_else() {
    for evil in ["$(reboot)", "a'b;reboot", "`id`", "x&y|z>w", "\"q\"", "*?"] {
        let mut facts = local();
        for port in &mut facts.ports {
            let netns = format!("/run/{evil}");
            port.spec.netns = Some(netns.parse().unwrap());
            let seen = seen(port);
            let view = &mut seen.view;
            evil.clone_into(&mut view.link.name);
            evil.clone_into(&mut view.addresses[0].link);
            view.no_arp = true;
            view.link.admin_up = false;
            view.link.mac = mac(9);
            view.link.mtu = 1400;
            view.sysctls.arp_ignore = 8;
            view.sysctls.rp_filter = 1;
            view.sysctls.no_ipv6 = true;
            view.tx_checksum = Some(false);
            let mut rule = drop_rule();
            evil.clone_into(&mut rule.chain);
            (rule.number, rule.packets) = (Some(1), Some(9));
            view.netfilter.drops = vec![rule];
            port.spec.addresses.push("fd00::1/64".parse().unwrap());
            port.spec.addresses.push("10.2.2.2/24".parse().unwrap());
        }
        facts.paths[0].back = Some(over_eth0());
        let mut moved = facts.clone();
        seen(&mut moved.ports[0]).moved_to = Some(7);
        let mut gone = facts.clone();
        gone.ports[0].gone = Some("its namespace is gone".to_owned());
        let mut peers = overlay();
        let around = peers.vtep.as_mut().unwrap().around.as_mut().unwrap();
        evil.clone_into(&mut around.addresses[0].link);
        around.addresses[0].is_up = false;
        for facts in [facts, moved, gone, peers] {
            let report = diagnose(&facts);
            let mut named = 0;
            for fix in report.findings.iter().flat_map(|finding| &finding.fix) {
                let command = fix.replace(" | grep ", " ").replace(" > ", " ");
                let whole =
                    |word: &String| word.ends_with(evil) || word.contains(&format!(".{evil}."));
                named += words(&command).iter().filter(|word| whole(word)).count();
            }
            assert!(named > 0, "{report:#?}");
        }
    }
}

#[test]
fn a_dot_in_the_name_of_an_interface_is_no_dot_of_a_sysctl() {
    let mut facts = local();
    let view = &mut seen(&mut facts.ports[0]).view;
    "eth0.100".clone_into(&mut view.link.name);
    view.sysctls.arp_ignore = 8;
    let report = diagnose(&facts);
    let found = report.findings.iter().find(|it| it.id == Check::ArpIgnored);
    let wanted = "ip netns exec ns1 sysctl -w net.ipv4.conf.eth0/100.arp_ignore=0";
    assert_eq!(found.unwrap().fix[0], wanted);
}

#[test]
fn a_name_that_nft_would_read_as_more_than_a_name_is_not_put_into_its_command() {
    let mut rule = drop_rule();
    (rule.family, rule.number) = ("inet", Some(1));
    "a; flush ruleset".clone_into(&mut rule.table);
    let undo = filter::undo(Place(None), &rule);
    assert_eq!(undo, "nft -a list ruleset");
}
