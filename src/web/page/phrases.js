// @ts-check
// The daemon's sentences about a frame, in Chinese. What is not known here stays as it is.

import { lang, tOr } from "./i18n.js";

/** @type {[RegExp, string][]} */
const ZH = [
  [/^(\S+) > (\S+), untagged, (.+)$/, "$1 > $2，无标签，$3"],
  [/^(\S+) > (\S+), VLAN (\d+), (.+)$/, "$1 > $2，VLAN $3，$4"],
  [/^(\S+) > (\S+), priority-tagged, (.+)$/, "$1 > $2，只有优先级标签，$3"],
  [/^learned (\S+) here$/, "在这里学到 $1"],
  [/^(\S+) moved here from (\S+)$/, "$1 从 $2 迁移到这里"],
  [/^(\S+) flaps: moved here from (\S+), and is held now$/, "$1 来回跳动：从 $2 迁移到这里，暂时固定"],
  [/^(\S+) is held elsewhere, since it moved too often$/, "$1 迁移过于频繁，暂时固定在别处"],
  [/^(\S+) has a static entry elsewhere$/, "$1 在别处有静态项"],
  [/^(\S+) not learned: the fdb is full$/, "没有学习 $1：转发表已满"],
  [/^nothing new about (\S+) on (\S+)$/, "$2 上的 $1 已经知道"],
  [/^broadcast: for everybody, no FDB row$/, "广播：发给所有人，不需要查转发表"],
  [/^(\S+) is a group: multicast, no FDB row$/, "$1 是组地址：组播，不需要查转发表"],
  [/^(\S+) has no FDB row for (\S+), vlan (\S+): unknown unicast$/, "$1 的转发表里没有 $2（VLAN $3）：未知单播"],
  [/^FDB row (\S+) (\S+) vlan (\S+) (\S+) learned, seen (\S+) s ago$/, "转发表 $1：$2（VLAN $3）在 $4，学习所得，$5 秒前见过"],
  [/^FDB row (\S+) (\S+) vlan (\S+) (\S+) static$/, "转发表 $1：$2（VLAN $3）在 $4，静态项"],
  [/^FDB row (\S+) (\S+) vlan (\S+) (\S+) local$/, "转发表 $1：$2（VLAN $3）在 $4，本地地址"],
  [/^FDB row (\S+) (\S+) vlan (\S+) (\S+) control$/, "转发表 $1：$2（VLAN $3）在 $4，来自控制平面"],
  [/^to (\S+), and nowhere else$/, "只发往 $1"],
  [/^(\d+) \(broadcast\): to (.+)$/, "广播，发往 $1 处：$2"],
  [/^(\d+) \(multicast\): to (.+)$/, "组播，发往 $1 处：$2"],
  [/^(\d+) \(unknown unicast\): to (.+)$/, "未知单播，发往 $1 处：$2"],
  [/^(\d+) \(repeated\): to (.+)$/, "逐个重复，发往 $1 处：$2"],
  [/^to (\d+) .*places$/, "发往 $1 处"],
  [/^VNI (\d+) for (\S+); (\d+) bytes = (\d+) inner \+ (.+)$/, "装入 VNI $1，发往 $2；$3 字节 = 内层 $4 + $5"],
  [/^VNI (\d+) for (\S+), UDP (\d+) > (\d+) by the inner flow; (\d+) bytes = (\d+) inner \+ (.+)$/, "装入 VNI $1，发往 $2，UDP $3 > $4（源端口由内层流决定）；$5 字节 = 内层 $6 + $7"],
  [/^VNI (\d+) for (\S+); cut to what the path takes, each piece with (\d+) bytes of headers$/, "装入 VNI $1，发往 $2；按路径所能容纳切分，每段另加 $3 字节首部"],
  [/^fits the device (\S+) \(MTU (\d+)\)$/, "放得进设备 $1（MTU $2）"],
  [/^is too big for the device (\S+) \(MTU (\d+)\)$/, "设备 $1 放不下（MTU $2）"],
  [/^fits the path to (\S+) \(MTU (\d+)\)$/, "放得进到 $1 的路径（MTU $2）"],
  [/^is too big for the path to (\S+) \(MTU (\d+)\)$/, "到 $1 的路径放不下（MTU $2）"],
  [/^a datagram of (\d+) bytes from (\S+), a peer; VNI (\d+), of bridge (\S+)$/, "来自对端 $2 的 $1 字节数据报；VNI $3，属于网桥 $4"],
  [/^a datagram of (\d+) bytes from (\S+), (?:no|a) peer; no VXLAN header$/, "来自 $2 的 $1 字节数据报；没有 VXLAN 首部"],
  [/^a datagram of (\d+) bytes from (\S+), no peer; (.+)$/, "来自 $2 的 $1 字节数据报，对方不是对端；$3"],
  [/^a frame of (\d+) bytes: (\d+) bytes = (\d+) inner \+ (.+)$/, "取出 $1 字节的帧：$2 字节 = 内层 $3 + $4"],
  [/^nothing to do: it leaves as it is$/, "无需处理：原样发出"],
  [/^passed on with the checksum unfinished$/, "校验和未完成，原样交给对方处理"],
  [/^passed on as a superframe: (.+)$/, "作为超大帧原样传递：$1"],
  [/^(\d+) bytes: no whole Ethernet header$/, "只有 $1 字节：以太网首部不完整"],
  [/^a probe of another tapswitch: answered here$/, "另一台 tapswitch 的探测：在此应答"],
  [/^(\S+): (\d+) bytes, made by the switch$/, "$1：$2 字节，由交换机自己产生"],
  [/^(\S+): a copy of (\d+) bytes, from (\S+)$/, "$1：得到 $2 字节的副本，来自 $3"],
  [/^(\S+): sent, (\d+) bytes$/, "$1：已发送，$2 字节"],
  [/^(\S+) is a hub, which repeats and learns nothing$/, "$1 是集线器，只重复，不学习"],
  [/^(\S+) is a wire, which joins its two ports$/, "$1 是直连线，连接它的两个端口"],
  // The flight recorder's.
  [/^its source was new to the fdb and learned$/, "源地址是新的，已学习"],
  [/^its source moved here from (\S+), too often: it is held here for (\d+) s$/, "源地址从 $1 迁移到这里，过于频繁：在此固定 $2 秒"],
  [/^its source moved here from (\S+)$/, "源地址从 $1 迁移到这里"],
  [/^its source is held elsewhere, since it moved too often$/, "源地址迁移过于频繁，暂时固定在别处"],
  [/^its source has a static or local entry elsewhere, which stays$/, "源地址在别处有静态项或本地项，保持不变"],
  [/^its source was not learned: the fdb is full$/, "没有学习源地址：转发表已满"],
  [/^the fdb had (\S+) at ([^\s,;]+)$/, "转发表里 $1 在 $2"],
  [/^the fdb had (\S+) at ([^\s,;]+), by a static entry$/, "转发表里 $1 在 $2，静态项"],
  [/^the fdb had (\S+) at ([^\s,;]+), its own address$/, "转发表里 $1 在 $2，本地地址"],
  [/^the fdb had (\S+) at ([^\s,;]+), by a control plane$/, "转发表里 $1 在 $2，来自控制平面"],
  [/^the fdb had (\S+) at ([^\s,;]+); now it has it at (\S+)$/, "转发表里 $1 在 $2；现在在 $3"],
  [/^the fdb had (\S+) at ([^\s,;]+); now it has no entry for it$/, "转发表里 $1 在 $2；现在没有这一项"],
  [/^the fdb had no entry for ([^\s;]+)$/, "转发表里没有 $1"],
  [/^the fdb had no entry for ([^\s;]+); now it is at (\S+)$/, "转发表里没有 $1；现在它在 $2"],
  [/^(\S+) is a group address$/, "$1 是组地址"],
  [/^it is a broadcast$/, "这是广播帧"],
  [/^it is the address of a port of this host, as long as that is there$/, "它是本机某个端口的地址，端口在则在"],
  [/^a control plane told of it$/, "由控制平面告知"],
  [/^it is in the settings$/, "它在配置里"],
  [/^how it came about is forgotten: too many other addresses have changed$/, "来历已被遗忘：其他地址变化太多"],
  [/^it was not learned, for the fdb is full: (.+)$/, "转发表已满，没有学习：$1"],
  [/^its lifetime is over$/, "它已老化"],
  [/^its lifetime is over, or its place went to another port's address: the fdb was full, which has cost (\d+) entries$/, "它已老化，或因转发表满而让位给其他端口的地址（已让出 $1 项）"],
  [/^the bridge is no switch and repeats every frame$/, "网桥不是交换机，每一帧都重复发出"],
];

/** What may follow a sentence. @type {[RegExp, string][]} */
const ENDS = [
  [/; its checksum is left to be finished$/, "；校验和留待完成"],
  [/; a superframe: (.+)$/, "；超大帧：$1"],
];

/** Inside of sentences. @type {[RegExp, string][]} */
const PARTS = [
  [/segments of (\d+) bytes/, "每段 $1 字节"],
  [/，type (0x[0-9a-f]{4})/, "，类型 $1"],
];

/** Numbers before the reason of a loss. @type {[RegExp, string][]} */
const NUMBERS = [
  [/^outer (\d+) > path (\d+)$/, "外层 $1 > 路径 $2"],
  [/^(\d+) bytes > (.+)$/, "$1 字节 > $2"],
  [/^(VNI \d+)$/, "$1"],
];

/**
 * @param {[RegExp, string][]} table
 * @param {string} text
 */
function found(table, text) {
  const entry = table.find(([pattern]) => pattern.test(text));
  return entry ? text.replace(entry[0], entry[1]) : null;
}

/**
 * A loss: `too_big: outer 1500 > path 1450: it is larger than its egress takes`.
 * @param {string} sentence
 */
function loss(sentence) {
  const [reason, ...rest] = sentence.split(": ");
  const words = tOr(`drop.${reason}`, "");
  if (!words) return null;
  const numbers = rest.length > 1 ? found(NUMBERS, rest[0]) : null;
  return [reason, numbers, words].filter(Boolean).join("：");
}

/**
 * @param {string} sentence
 */
export function phrase(sentence) {
  if (lang() !== "zh") return sentence;
  const lost = loss(sentence);
  if (lost) return lost;
  const end = ENDS.find(([pattern]) => pattern.test(sentence));
  const ending = end ? (end[0].exec(sentence)?.[0].replace(end[0], end[1]) ?? "") : "";
  const text = end ? sentence.replace(end[0], "") : sentence;
  const told = (found(ZH, text) ?? text) + ending;
  return PARTS.reduce((whole, [pattern, words]) => whole.replace(pattern, words), told);
}
