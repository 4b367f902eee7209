//! In Chinese.

use super::{Way, outer_packet, ports, reached, short, sum, ways};
use crate::{
    bridge::DropReason,
    control::api::RowChange,
    lesson::{
        Lang, narrate,
        watch::{BY_HUB, BY_WIRE, Fate, REWRITTEN, SWITCH, Seen},
    },
    wire::Frame,
};

/// What became of a frame and why.
pub(in crate::lesson) fn lines(seen: &Seen) -> Vec<String> {
    let mut lines = vec![fate(seen)];
    if let Some(datagram) = &seen.datagram {
        let (from, to) = ports(datagram);
        lines.push(format!(
            "从网线上 {} 字节的帧里取出：VNI {}，UDP {from} > {to}",
            datagram.len, datagram.vni
        ));
    }
    for way in ways(seen) {
        lines.extend(departure(seen, &way));
    }
    if seen.is_superframe() {
        let offload = seen.offload.as_deref().unwrap_or_default();
        let kind = match offload {
            "segments" => String::new(),
            offload => format!("（{}）", offload_in_words(offload)),
        };
        lines.push(format!(
            "这是超帧{kind}：发送方把切成单个报文的活留给了后面"
        ));
    }
    lines.extend(learned(seen));
    lines
}

/// `tcp4, segments of 1448 bytes` in words.
fn offload_in_words(offload: &str) -> String {
    let parts = offload.split(", ").map(|part| {
        let len = part
            .strip_prefix("segments of ")
            .and_then(|rest| rest.strip_suffix(" bytes"));
        match (part, len) {
            (_, Some(len)) => format!("每段 {len} 字节"),
            ("segments", None) => "分段".to_owned(),
            ("checksum", None) => "校验和".to_owned(),
            (other, None) => other.to_owned(),
        }
    });
    parts.collect::<Vec<_>>().join("，")
}

fn fate(seen: &Seen) -> String {
    let to = names(seen);
    match seen.fate {
        Fate::Flooded => match seen.class.as_deref() {
            Some("broadcast") => format!("泛洪到 {to}：广播给除入口外的所有端口"),
            Some("multicast") => format!("泛洪到 {to}：组播，交换机不知道谁在组里"),
            Some(BY_HUB) => format!("原样发往 {to}：集线器不看地址"),
            Some(BY_WIRE) => format!("从 {to} 出去：直连线只有两头，不看地址"),
            _ => match Frame::new_checked(&seen.bytes) {
                Ok(frame) => format!("泛洪到 {to}：转发表里没有 {}", frame.dst()),
                Err(_) => format!("泛洪到 {to}"),
            },
        },
        Fate::Forwarded if seen.place == SWITCH => match seen.class.as_deref() {
            Some(REWRITTEN) => format!("发往 {to}：之前的一帧，换了地址"),
            _ => format!("发往 {to}"),
        },
        Fate::Forwarded => match &seen.row {
            Some(row) => {
                let mac = row.mac;
                let at = narrate::place(&row.at, Lang::Zh);
                let how = match (row.is_learned, row.age_s) {
                    (true, Some(age)) => {
                        format!("转发表里 {mac} 在 {at}，{} 前记下", short(age))
                    }
                    _ => format!("转发表里 {mac} 在 {at}"),
                };
                format!("只发往 {to}：{how}")
            }
            None => format!("只发往 {to}"),
        },
        Fate::Consumed if seen.class.as_deref() == Some(REWRITTEN) => {
            "被网桥之上的内核 IP 层接走，换了地址再发出".to_owned()
        }
        Fate::Consumed => "交换机自己收下：另一台交换机的探测".to_owned(),
        Fate::Dropped => dropped(seen),
    }
}

fn dropped(seen: &Seen) -> String {
    let lost = ways(seen);
    let place = match lost.first() {
        Some(way) => format!("在去 {} 的路上", narrate::place(way.to, Lang::Zh)),
        None => String::new(),
    };
    match &seen.reason {
        Some(reason) => format!("{place}被丢弃（{reason}）：{}", explain(reason)),
        None if seen.row.as_ref().is_some_and(|row| row.at == seen.place) => {
            format!("被丢弃：{}", reason_in_words(DropReason::SamePort))
        }
        None if place.is_empty() => {
            "没有看到它离开：网桥丢弃了它，或者网桥之上的 IP 层接走了它".to_owned()
        }
        None => format!("{place}被丢弃：没有看到它从任何地方离开"),
    }
}

/// The way to a remote VTEP, and what is lost on a way.
fn departure(seen: &Seen, way: &Way<'_>) -> Vec<String> {
    let to = narrate::place(way.to, Lang::Zh);
    let mut lines = Vec::new();
    if way.has_arrived() {
        let datagrams: Vec<_> = way.datagrams().collect();
        if let [first, rest @ ..] = &datagrams[..] {
            let (from, port) = ports(first);
            let count = rest.len() + 1;
            lines.push(format!(
                "装进 {count} 个 UDP 报文发给 {to}：VNI {}，UDP {from} > {port}",
                first.vni
            ));
            let (len, sum) = (first.len, sum(first));
            lines.push(match rest {
                [] => format!("网线上的帧长 {len} 字节：{sum}"),
                _ => format!("第一个在网线上长 {len} 字节：{sum}"),
            });
        }
    }
    let Some(reason) = way.lost() else {
        return lines;
    };
    if seen.fate != Fate::Dropped {
        lines.push(format!("没能发往 {to}（{reason}）：{}", explain(reason)));
    }
    if reason == DropReason::TooBig.name() {
        lines.push(match outer_packet(way.to, seen.len) {
            Some((total, sum)) => format!("装好后的外层 IP 包会有 {total} 字节：{sum}"),
            None => format!(
                "它的 IP 包有 {} 字节：{} 减去以太网首部 14",
                seen.len.saturating_sub(14),
                seen.len
            ),
        });
    }
    lines
}

fn learned(seen: &Seen) -> Option<String> {
    let learned = seen.learned.as_ref()?;
    let mac = learned.mac;
    let here = narrate::place(&seen.place, Lang::Zh);
    let from = learned.from.as_deref();
    let from = narrate::place(from.unwrap_or("别处"), Lang::Zh);
    Some(match learned.change {
        RowChange::New => format!("学到：{mac} 在 {here}"),
        RowChange::Moved => format!("学到：{mac} 从 {from} 搬到了 {here}"),
        RowChange::Flapping => {
            format!("{mac} 从 {from} 搬到了 {here}，先固定在那里：它搬得太频繁")
        }
        RowChange::Frozen => format!("没有学习：{mac} 搬得太频繁，被固定在别处"),
        RowChange::Pinned => format!("没有学习：{mac} 有静态表项在别处，不会移动"),
        RowChange::Full => format!("没有学习：转发表满了，放不下 {mac}"),
    })
}

fn names(seen: &Seen) -> String {
    let reached = reached(seen).into_iter();
    let names: Vec<String> = reached.map(|to| narrate::place(to, Lang::Zh)).collect();
    names.join("、")
}

/// What the drop reason of this name means.
pub(in crate::lesson) fn explain(reason: &str) -> &str {
    let known = DropReason::ALL.iter().find(|known| known.name() == reason);
    known.map_or(reason, |known| reason_in_words(*known))
}

const fn reason_in_words(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Truncated => "帧在以太网首部或 VLAN 标签中间就结束了",
        DropReason::BadOffload => "卸载首部与帧的内容矛盾",
        DropReason::PortDown => "它进来的端口已被关闭",
        DropReason::SrcGroup => "源地址是组播地址",
        DropReason::SrcZero => "源地址是 00:00:00:00:00:00",
        DropReason::ReservedAddress => "发往 01:80:c2:00:00:0x 的帧，网桥从不转发",
        DropReason::Locked => "端口已锁定，而源地址不在它的转发表里",
        DropReason::SamePort => "目的地就在它进来的那个端口后面",
        DropReason::Isolated => "出入两个端口都被隔离",
        DropReason::FloodDisabled => "其他所有端口都关闭了这一类泛洪",
        DropReason::NoEgress => "网桥上没有其他启用的端口",
        DropReason::SplitHorizon => "它来自一个 VTEP，又要去另一个；对方自会收到一份（水平分割）",
        DropReason::PinnedSource => "远端 VTEP 用了本地或静态表项的源地址",
        DropReason::VxlanRunt => "报文比 VXLAN 首部还短",
        DropReason::NoVni => "VXLAN 首部里没有有效的 VNI",
        DropReason::ReservedBits => "VXLAN 首部的保留位被置位",
        DropReason::UnknownVni => "没有网桥使用这个 VNI",
        DropReason::UnknownPeer => "外层源地址不是这个 VNI 的对端",
        DropReason::OwnPacket => "外层源地址就是本端点自己",
        DropReason::Ecn => "外层报告了拥塞，而内层报文不支持 ECN",
        DropReason::EgressDown => "它要去的端口没有启用",
        DropReason::TooBig => "它比出口能容纳的还大",
        DropReason::EgressFull => "出口的队列满了",
        DropReason::StandingQueue => "TCP 在隧道前排起了长队，丢一个帧让它慢下来",
        DropReason::EgressGone => "出口的设备已经不在了",
        DropReason::NoRoute => "底层网络没有到这个 VTEP 的路",
        DropReason::EgressRefused => "内核拒绝接收",
    }
}
