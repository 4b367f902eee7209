//! Step 5 for ports: as it is, joined with others, or cut.

use std::{io::IoSlice, iter};

use zerocopy::IntoBytes;

use super::{Datapath, Detail, Port, Transmitted, capture::Place, gather, plan, record::Lost};
use crate::{
    bridge::{DropReason, Egress},
    offload::{self, Mark, Offloads, Run},
    wire::{GsoType, VirtioNetHdr},
};

impl Datapath {
    /// Writes the copy at `position` of the plan, and all others in it for the same port.
    #[inline]
    pub(super) fn transmit_to_port(
        &mut self,
        port: &Port,
        position: usize,
        segmented: &mut Option<usize>,
    ) {
        let mut next = Some(position);
        while let Some(position) = next {
            let count = self.transmit_some(port, position, segmented);
            for _ in 0..count {
                let Some(position) = next else { break };
                next = plan::after(&self.plan, position);
                if let Some(copy) = self.plan.get_mut(position) {
                    copy.is_done = true;
                }
            }
        }
    }

    /// Writes the copy at `position` of the plan, and those behind it that can go along; returns
    /// how many that were.
    #[inline]
    fn transmit_some(
        &mut self,
        port: &Port,
        position: usize,
        segmented: &mut Option<usize>,
    ) -> usize {
        let joined = self.transmit_joined(port, position);
        if joined > 0 {
            return joined;
        }
        let frame = self.plan.get(position).map(|copy| usize::from(copy.frame));
        let frame = frame.unwrap_or_default();
        let header = self.batch.header(frame);
        let whole = header.is_plain() || port.io.offloads().contains(offload::needed(&header));
        if !whole || !self.transmit_whole(port, frame, header) {
            self.transmit_segments(port, frame, header, segmented);
        }
        1
    }

    /// Joins the copy at `position` of the plan and those behind it that belong to the same flow,
    /// and writes them as one superframe; returns how many that were. They are in the batch
    /// already, so nothing waits for this.
    fn transmit_joined(&mut self, port: &Port, position: usize) -> usize {
        let Some(&first) = self.plan.get(position) else {
            return 0;
        };
        // One copy is never worth a look.
        let second = plan::after(&self.plan, position).filter(|_| self.coalesces);
        if second.is_none() || !port.io.offloads().contains(Offloads::CSUM) {
            return 0;
        }
        let frame = self.batch.frame(usize::from(first.frame));
        let Some(mut run) = Run::start(self.mark(first.frame), frame) else {
            return 0;
        };
        if !port.io.offloads().contains(run.needed()) {
            return 0;
        }
        let mut parts = [IoSlice::new(&[]); Run::LIMIT + 2];
        parts[2] = IoSlice::new(run.payload_of(frame));
        let mut bytes = frame.len();
        let mut next = second;
        while let Some(position) = next {
            let Some(copy) = self.plan.get(position) else {
                break;
            };
            let frame = self.batch.frame(usize::from(copy.frame));
            if !run.join(self.mark(copy.frame), frame) {
                break;
            }
            parts[run.count() + 1] = IoSlice::new(run.payload_of(frame));
            bytes += frame.len();
            next = plan::after(&self.plan, position);
        }
        // Superframes may be of any length, their segments not.
        if run.is_single() || run.segment_len() > port.max_frame {
            return 0;
        }
        let count = run.count();
        let (header, head) = run.finish();
        parts[0] = IoSlice::new(header.as_bytes());
        parts[1] = IoSlice::new(head);
        let parts = &parts[..count + 2];
        self.calls.writes.add(1);
        let frame = usize::from(first.frame);
        let to = first.to;
        let joined = iter::successors(Some(position), |&at| plan::after(&self.plan, at));
        let joined = joined.filter_map(|at| Some(usize::from(self.plan.get(at)?.frame)));
        let joined = joined.take(count);
        // A capture shows what was put together.
        let is_captured = self.captures.follow_any(joined);
        let sent = if self.gathers || is_captured {
            gather(&mut self.gathered, parts);
            port.io.transmit(&self.gathered)
        } else {
            port.io.transmit_parts(parts)
        };
        match sent {
            Transmitted::Unsupported => 0,
            sent => {
                port.counters.worker(self.worker).joined(sent, count, bytes);
                if sent != Transmitted::Sent {
                    let len = self.batch.frame(frame).len();
                    let lost = Lost::several(sent, len, (count, bytes));
                    self.lost(&port.counters, to, frame, lost);
                }
                if is_captured {
                    self.capture_joined(port.id, frame, sent, count);
                }
                count
            }
        }
    }

    /// What is known about the checksum of a frame of the batch.
    fn mark(&self, frame: u16) -> Mark {
        let frame = usize::from(frame);
        match self.marks.get(frame) {
            Some(mark) => *mark,
            None => Mark::from(self.batch.parts(frame).0.as_ref()),
        }
    }

    /// False if the port turned out not to support what the header leaves undone.
    #[inline]
    fn transmit_whole(&mut self, port: &Port, frame: usize, mut header: VirtioNetHdr) -> bool {
        let len = self.batch.frame(frame).len();
        if header.gso() != GsoType::None
            && let Some(exact) = offload::exact_hdr_len(&header, self.batch.frame(frame))
            && exact != header.hdr_len()
        {
            // The kernel then puts exactly the headers into the linear part of its buffer.
            header.set_hdr_len(exact);
            self.batch.set_header(frame, &header);
        }
        if header.gso() == GsoType::None && len > port.max_frame {
            self.too_big(port, frame, len);
            if self.captures.follow(frame) {
                let sent = Transmitted::Dropped(DropReason::TooBig);
                self.capture_copy(Place::Port(port.id), frame, sent);
            }
            return true;
        }
        self.calls.writes.add(1);
        let sent = match self.batch.whole(frame) {
            Some(bytes) => port.io.transmit(bytes),
            None => port.io.transmit_parts(&[
                IoSlice::new(header.as_bytes()),
                IoSlice::new(self.batch.frame(frame)),
            ]),
        };
        sent != Transmitted::Unsupported && {
            self.copied(&port.counters, Egress::Port(port.id), frame, len, sent);
            if self.captures.follow(frame) {
                self.capture_copy(Place::Port(port.id), frame, sent);
            }
            true
        }
    }

    /// Frame number `frame`, or a segment of it, has `len` bytes, more than the port takes.
    #[cold]
    fn too_big(&self, port: &Port, frame: usize, len: usize) {
        let sent = Transmitted::Dropped(DropReason::TooBig);
        port.counters.worker(self.worker).copied(sent, len);
        let detail = Some(Detail::size(len, port.max_frame));
        let lost = Lost::one(sent, len).with(detail);
        self.lost(&port.counters, Egress::Port(port.id), frame, lost);
    }

    #[cold]
    fn transmit_segments(
        &mut self,
        port: &Port,
        frame: usize,
        header: VirtioNetHdr,
        segmented: &mut Option<usize>,
    ) {
        let counters = port.counters.worker(self.worker);
        if *segmented != Some(frame) {
            self.segments.clear();
            self.segments.prefix(&[]);
            *segmented = Some(frame);
            if offload::segment(&header, self.batch.frame(frame), None, &mut self.segments).is_err()
            {
                *segmented = None;
                let sent = Transmitted::Dropped(DropReason::BadOffload);
                if self.captures.follow(frame) {
                    self.capture_copy(Place::Port(port.id), frame, sent);
                }
                let len = self.batch.frame(frame).len();
                return self.copied(&port.counters, Egress::Port(port.id), frame, len, sent);
            }
        }
        if header.gso() != GsoType::None {
            counters.segmented.add(1);
        }
        let plain = VirtioNetHdr::none();
        for index in 0..self.segments.len() {
            let Some(segment) = self.segments.get(index) else {
                break;
            };
            let len = segment.len();
            let sent = if len > port.max_frame {
                self.too_big(port, frame, len);
                Transmitted::Dropped(DropReason::TooBig)
            } else {
                self.calls.writes.add(1);
                let sent = port.io.transmit_parts(&[
                    IoSlice::new(plain.as_bytes()),
                    IoSlice::new(segment.head),
                    IoSlice::new(segment.payload_of(self.batch.frame(frame))),
                ]);
                self.copied(&port.counters, Egress::Port(port.id), frame, len, sent);
                sent
            };
            if self.captures.follow(frame) {
                self.capture_segment(port.id, frame, index, sent);
            }
        }
    }
}
