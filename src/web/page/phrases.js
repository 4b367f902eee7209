// @ts-check
// The daemon's sentences about a frame, in Chinese. What is not known here stays as it is.

import { lang } from "./i18n.js";

/** @type {[RegExp, string][]} */
const ZH = [
  [/^(\S+) > (\S+), untagged, (.+)$/, "$1 > $2，无标签，$3"],
  [/^(\S+) > (\S+), VLAN (\d+), (.+)$/, "$1 > $2，VLAN $3，$4"],
  [/^(\S+) > (\S+), priority-tagged, (.+)$/, "$1 > $2，只有优先级标签，$3"],
  [/^learned (\S+) here$/, "在这里学到 $1"],
  [/^(\S+) moved here from (\S+)$/, "$1 从 $2 迁移到这里"],
  [/^nothing new about (\S+) on (\S+)$/, "$2 上的 $1 已经知道"],
  [/^broadcast: for everybody, no FDB row$/, "广播：发给所有人，不需要查转发表"],
  [/^(\S+) is a group: multicast, no FDB row$/, "$1 是组地址：组播，不需要查转发表"],
  [/^(\S+) has no FDB row for (\S+), vlan (\S+): unknown unicast$/, "$1 的转发表里没有 $2（VLAN $3）：未知单播"],
  [/^FDB row (\S+) (\S+) vlan (\S+) (\S+) learned, seen (\S+) s ago$/, "转发表 $1：$2（VLAN $3）在 $4，学习所得，$5 秒前见过"],
  [/^FDB row (\S+) (\S+) vlan (\S+) (\S+) static$/, "转发表 $1：$2（VLAN $3）在 $4，静态项"],
  [/^FDB row (\S+) (\S+) vlan (\S+) (\S+) local$/, "转发表 $1：$2（VLAN $3）在 $4，本地地址"],
  [/^to (\S+), and nowhere else$/, "只发往 $1"],
  [/^(\d+) \(broadcast\): to (.+)$/, "广播，发往 $1 处：$2"],
  [/^(\d+) \(multicast\): to (.+)$/, "组播，发往 $1 处：$2"],
  [/^(\d+) \(unknown unicast\): to (.+)$/, "未知单播，发往 $1 处：$2"],
  [/^to (\d+) .*places$/, "发往 $1 处"],
  [/^VNI (\d+) for (\S+); (\d+) bytes = (\d+) inner \+ (.+)$/, "装入 VNI $1，发往 $2；$3 字节 = 内层 $4 + $5"],
  [/^VNI (\d+) for (\S+), UDP (\d+) > (\d+) by the inner flow; (\d+) bytes = (\d+) inner \+ (.+)$/, "装入 VNI $1，发往 $2，UDP $3 > $4（源端口由内层流决定）；$5 字节 = 内层 $6 + $7"],
  [/^fits the path to (\S+) \(MTU (\d+)\)$/, "放得进到 $1 的路径（MTU $2）"],
  [/^is too big for the path to (\S+) \(MTU (\d+)\)$/, "到 $1 的路径放不下（MTU $2）"],
  [/^a datagram of (\d+) bytes from (\S+), a peer; VNI (\d+), of bridge (\S+)$/, "来自对端 $2 的 $1 字节数据报；VNI $3，属于网桥 $4"],
  [/^a datagram of (\d+) bytes from (\S+), no peer; (.+)$/, "来自 $2 的 $1 字节数据报，对方不是对端；$3"],
  [/^a frame of (\d+) bytes: (\d+) bytes = (\d+) inner \+ (.+)$/, "取出 $1 字节的帧：$2 字节 = 内层 $3 + $4"],
  [/^nothing to do: it leaves as it is$/, "无需处理：原样发出"],
  [/^passed on with the checksum unfinished$/, "校验和未完成，原样交给对方处理"],
  [/^(\S+): a copy of (\d+) bytes, from (\S+)$/, "$1：得到 $2 字节的副本，来自 $3"],
  [/^(\S+): sent, (\d+) bytes$/, "$1：已发送，$2 字节"],
  [/^(\S+) is a hub, which repeats and learns nothing$/, "$1 是集线器，只重复，不学习"],
  [/^(\S+) is a wire, which joins its two ports$/, "$1 是直连线，连接它的两个端口"],
];

/**
 * @param {string} sentence
 */
export function phrase(sentence) {
  if (lang() !== "zh") return sentence;
  for (const [pattern, words] of ZH) {
    if (pattern.test(sentence)) return sentence.replace(pattern, words);
  }
  return sentence;
}
