//! Findings: what was seen, why it matters, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing is wrong.
    Note,
    /// Works, but not as it should, or not for everything.
    Warning,
    /// Frames are lost because of it.
    Broken,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Broken => "broken",
        })
    }
}

macro_rules! checks {
    ($($step:ident { $($variant:ident = $name:literal, $why:literal;)* })*) => {
        /// A link of the chain that a frame passes, in the order in which people look.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[expect(missing_docs, reason = "each is the heading of its checks")]
        pub enum Step { $($step),* }

        impl fmt::Display for Step {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = match self { $(Self::$step => stringify!($step)),* };
                f.pad(&name.to_lowercase())
            }
        }

        /// What may be wrong, in the order of causes: of two findings that are equally bad, the
        /// earlier one explains the later one rather than the other way round.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[expect(missing_docs, reason = "each says why it matters")]
        pub enum Check { $($($variant),*),* }

        impl Check {
            /// All of them.
            pub const ALL: &'static [Self] = &[$($(Self::$variant),*),*];

            /// The key in `--json`, which stays as it is.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name),*),* }
            }

            /// Why it matters.
            pub const fn why(self) -> &'static str {
                match self { $($(Self::$variant => $why),*),* }
            }

            /// The link of the chain that it belongs to.
            pub const fn step(self) -> Step {
                match self { $($(Self::$variant => Step::$step),*),* }
            }
        }
    };
}

checks! {
    Daemon {
        Daemon = "daemon", "";
        DaemonUnreachable = "daemon-unreachable", "without the daemon no port moves a frame";
        NotLooked = "not-looked", "what was not looked at may be wrong";
        Unaccounted = "unaccounted", "each frame is forwarded or dropped for a reason; anything else is a bug of tapswitch";
    }
    Port {
        Port = "port", "";
        PortGone = "port-gone", "a port without a device gets nothing and sends nothing";
        PortMoved = "port-moved", "its address and routes stay behind when an interface moves to another namespace";
        PortDown = "port-down", "a port that is set down has its cable pulled: frames from it and for it are dropped";
        LinkDown = "link-down", "the namespace neither sends nor takes frames on an interface that is down";
        NoCarrier = "no-carrier", "the namespace sends nothing on an interface without a carrier";
        DifferentBridges = "different-bridges", "each bridge is a network of its own: frames never pass from one to another";
        WireOneEnd = "wire-one-end", "a wire joins exactly two ports";
        IfnameDiffers = "ifname-differs", "programs inside look for the interface by its name; the switch does not";
    }
    Address {
        Address = "address", "";
        DuplicateMac = "duplicate-mac", "a bridge delivers to one place for each MAC address, the one it was seen at last";
        DuplicateAddress = "duplicate-address", "whoever answers ARP first gets the packets of the other";
        AddressMissing = "address-missing", "the namespace does not answer for an address that it does not have";
        PrefixDiffers = "prefix-differs", "the prefix length decides who is asked directly and who through a gateway";
        Ipv6Disabled = "ipv6-disabled", "an interface with disable_ipv6 has no IPv6 address and takes no IPv6 packet";
        NoAddress = "no-address", "without an address of that family there is nothing to talk to";
        NoArp = "no-arp", "an interface with arp off neither asks for MAC addresses nor answers";
        MacDiffers = "mac-differs", "others may still know the configured MAC address, and static entries name it";
    }
    Route {
        Route = "route", "";
        SubnetsDiffer = "subnets-differ", "hosts in different subnets talk through a gateway, not directly";
        RouteElsewhere = "route-elsewhere", "packets leave over another interface and never reach the switch";
        NoGateway = "no-gateway", "whatever is outside of its subnet needs a gateway";
        NoRoute = "no-route", "the namespace itself refuses to send";
        NoWayBack = "no-way-back", "requests arrive, and their answers are not sent or go elsewhere";
        ForwardingOff = "forwarding-off", "a gateway that does not forward drops what is not for itself";
    }
    Filter {
        Filter = "filter", "";
        FilterDrops = "filter-drops", "tapswitch passes no netfilter, but namespaces have rules of their own";
        FilterRules = "filter-rules", "tapswitch passes no netfilter, but namespaces have rules of their own";
        ArpIgnored = "arp-ignored", "nobody learns the MAC address of a host that answers no ARP request";
        PingIgnored = "ping-ignored", "ping fails although everything else may work";
        RpFilter = "rp-filter", "strict reverse-path filtering drops what arrives over another interface than answers leave by";
    }
    Flags {
        Flags = "flags", "";
        Isolated = "isolated", "two isolated ports never get frames of each other";
        Locked = "locked", "a locked port takes only frames whose source has a static entry there";
        BcastFloodOff = "bcast-flood-off", "ARP requests are broadcasts: who gets none is not found";
        McastFloodOff = "mcast-flood-off", "IPv6 neighbour discovery is multicast: who gets none is not found";
        FloodOff = "flood-off", "a frame for an address that the FDB does not have reaches only ports with flood on";
        LearningOff = "learning-off", "what is not learned is flooded to every port, or lost";
    }
    Fdb {
        Fdb = "fdb", "";
        FdbStatic = "fdb-static", "a static entry wins over everything that is learned";
        MacHeld = "mac-held", "an address that moves too often is held where it is: two hosts have it, or there is a loop";
        FdbElsewhere = "fdb-elsewhere", "frames for it go where it was seen last";
        FdbFull = "fdb-full", "what a full FDB does not learn is flooded to every port";
        NeverHeard = "never-heard", "an address is learned from the first frame that its host sends";
    }
    Vtep {
        Vtep = "vtep", "";
        VtepDown = "vtep-down", "without its sockets the endpoint reaches no peer";
        UnderlayAddress = "underlay-address", "answers of peers go to an address that this machine does not have";
        UnderlayDown = "underlay-down", "everything to the peers leaves over this link";
        UnderlayFilter = "underlay-filter", "a firewall of this machine drops datagrams of the overlay";
        SocketLoss = "socket-loss", "the workers read slower than datagrams come, and the socket's buffer is full";
    }
    Peer {
        Peer = "peer", "";
        NoPeers = "no-peers", "broadcasts, and so ARP requests, go to the VTEPs that are listed, and to nobody else";
        PeerNoRoute = "peer-no-route", "the kernel has no way to the peer";
        PeerUnreachable = "peer-unreachable", "the peer's machine, or the gateway to it, does not answer on the underlay";
        PeerOtherPort = "peer-other-port", "VXLAN has port 4789 (RFC 7348), and Linux's default is 8472: both ends must agree";
        PeerPortClosed = "peer-port-closed", "the peer's machine is there, and no VTEP listens";
        VniUnknown = "vni-unknown", "both ends must give the network the same VNI";
        PeerUnlisted = "peer-unlisted", "with accept = \"peers\" only VTEPs that are listed are heard";
        PathTooNarrow = "path-too-narrow", "small packets pass and large ones vanish: connections open and then hang";
        VxlanUnanswered = "vxlan-unanswered", "either a filter on the way drops VXLAN, or the other end does not want it";
        PeerSilent = "peer-silent", "a machine that is down, or a filter that drops all UDP";
    }
    Mtu {
        Mtu = "mtu", "";
        MtuChanged = "mtu-changed", "a frame that is larger than the MTU of its egress is dropped as too_big";
        MtuOverPath = "mtu-over-path", "what does not fit the path to a peer is dropped as too_big, and its sender told";
        MtuDiffers = "mtu-differs", "a bridge does not fragment: what the larger MTU lets pass is dropped as too_big at the smaller";
    }
    Neighbour {
        Neighbour = "neighbour", "";
        NeighbourWrong = "neighbour-wrong", "packets leave for a MAC address that is not the destination's";
        NobodyThere = "nobody-there", "an ARP request is answered by who has the address, and nobody has";
        ArpUnanswered = "arp-unanswered", "requests come to the switch, and no answer does";
        NeighbourFailed = "neighbour-failed", "it was asked for its MAC address and did not answer";
    }
    Offload {
        Offload = "offload", "";
        OffloadOff = "offload-off", "without offloads each 1.5 KB of a stream cost a read and a write of their own";
        ChecksumOff = "checksum-off", "without checksum offload there are no superframes either";
    }
    Losses {
        Losses = "losses", "";
        QueueLoss = "queue-loss", "the namespace sends faster than the switch reads, and the TAP's queue is full";
        DropsNow = "drops-now", "the counter has grown while doctor was looking";
        LostLately = "lost-lately", "the flight recorder has them; see also: tapswitch why --drops";
        DropsBefore = "drops-before", "these may be old: the counters have not grown while doctor was looking";
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check found it.
    pub id: Check,
    /// The link of the chain.
    pub step: Step,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: `port podA`, `bridge br0`, `peer 192.168.50.20`.
    pub about: String,
    /// What was seen, with the numbers.
    pub fact: String,
    /// Why it matters; empty if all is well.
    pub why: String,
    /// Commands that repair it, or show more.
    pub fix: Vec<String>,
}

/// What came of an examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was examined, in words.
    pub scope: String,
    /// The worst of all findings.
    pub verdict: Severity,
    /// The most likely cause: the finding that explains most. Null if nothing is wrong.
    pub cause: Option<Finding>,
    /// All findings, in the order of the chain.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Sorts the findings into the order of the chain, and finds the cause among them. Findings
    /// that were made first are thought to be nearer to what was asked.
    pub fn new(scope: String, mut findings: Vec<Finding>) -> Self {
        let verdict = findings.iter().map(|finding| finding.severity).max();
        let verdict = verdict.unwrap_or(Severity::Ok);
        let cause = findings
            .iter()
            .filter(|finding| finding.severity == verdict && verdict >= Severity::Warning)
            .min_by_key(|finding| finding.id)
            .cloned();
        findings.sort_by_key(|finding| finding.step);
        Self {
            scope,
            verdict,
            cause,
            findings,
        }
    }

    /// The daemon at `socket` does not answer, for this reason.
    pub fn unreachable(scope: String, socket: &str, reason: &str) -> Self {
        let mut notes = Notes::default();
        let about = format!("daemon at {socket}");
        let start = format!("tapswitch --socket {socket} run");
        notes.bad(
            Check::DaemonUnreachable,
            Severity::Broken,
            &about,
            reason,
            [start],
        );
        Self::new(scope, notes.0)
    }
}

/// Findings as they are made.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<Finding>);

impl Notes {
    /// All is well.
    pub(super) fn ok(&mut self, id: Check, about: &str, fact: impl Into<String>) {
        self.add(id, Severity::Ok, about, fact.into(), Vec::new());
    }

    /// Something is not as it should be, or worth knowing.
    pub(super) fn bad(
        &mut self,
        id: Check,
        severity: Severity,
        about: &str,
        fact: impl Into<String>,
        fix: impl IntoIterator<Item = String>,
    ) {
        let fix = fix.into_iter().collect();
        self.add(id, severity, about, fact.into(), fix);
    }

    fn add(&mut self, id: Check, severity: Severity, about: &str, fact: String, fix: Vec<String>) {
        let why = match severity {
            Severity::Ok => "",
            _ => id.why(),
        };
        self.0.push(Finding {
            id,
            step: id.step(),
            severity,
            about: about.to_owned(),
            fact,
            why: why.to_owned(),
            fix,
        });
    }

    /// What was found to repair this object.
    pub(super) fn fix_of(&self, id: Check, about: &str) -> Option<Vec<String>> {
        let mut found = self.0.iter();
        let found = found.find(|finding| finding.id == id && finding.about == about);
        found.map(|finding| finding.fix.clone())
    }

    /// Whether anything worse than a note was found about this step and object.
    pub(super) fn is_sound(&self, step: Step, about: &str) -> bool {
        !self.0.iter().any(|finding| {
            finding.step == step && finding.about == about && finding.severity >= Severity::Warning
        })
    }
}
