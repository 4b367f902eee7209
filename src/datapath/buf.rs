//! The buffers of one worker: all memory that frames ever need, taken at the start.

use std::ops::Range;

use zerocopy::IntoBytes;

use crate::wire::VirtioNetHdr;

/// A batch of frames, each with a virtio-net header, packed densely: a batch of small frames then
/// lies in a few pages, which the TLB holds.
///
/// Frames come from a port one by one, with their headers in front of them in the same bytes; or
/// from the underlay many in one message, which stays where it was received.
#[derive(Debug)]
pub struct Batch {
    arena: Box<[u8]>,
    spans: Vec<Span>,
    /// Where the next frame or message goes.
    next: usize,
    /// Bytes of all frames.
    bytes: usize,
}

/// Where one frame is.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    /// Of its virtio-net header.
    header: u32,
    start: u32,
    end: u32,
    /// The header asks for nothing.
    is_plain: bool,
}

impl Span {
    /// `end` lies in the arena, which is much shorter than 4 GiB, and nothing lies behind it.
    #[expect(clippy::cast_possible_truncation, reason = "as said above")]
    fn new(header: usize, start: usize, end: usize, is_plain: bool) -> Self {
        Self {
            header: header as u32,
            start: start as u32,
            end: end as u32,
            is_plain,
        }
    }

    #[inline(always)]
    fn header(self) -> Range<usize> {
        let start = self.header as usize;
        start..start + VirtioNetHdr::LEN
    }

    #[inline(always)]
    fn frame(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// Frames in a full batch from a port.
    pub const FRAMES: usize = 64;
    /// Frames in a full batch from the underlay.
    pub const DATAGRAMS: usize = 1024;
    /// The longest frame with its header: 64 KiB of IP, two VLAN tags, Ethernet and virtio-net
    /// headers fit. A TAP truncates silently, so no frame is offered less room.
    pub const CAPACITY: usize = 68 * 1024;
    /// Most datagrams that the kernel hands over in one message (`UDP_MAX_SEGMENTS`).
    const MOST_IN_MESSAGE: usize = 128;
    /// Room for 64 frames of 4 KiB, or for fewer long ones.
    const ARENA: usize = Self::FRAMES * 4096 + Self::CAPACITY;
    /// Frames start on cache lines of their own.
    const ALIGNMENT: usize = 64;
    /// The arena starts with a header that asks for nothing, for all frames that are complete;
    /// behind the frames there is a header for each frame that is not.
    const PLAIN: usize = 0;
    const FIRST: usize = Self::ALIGNMENT;
    const HEADERS: usize = Self::FIRST + Self::ARENA;
    const SIZE: usize = Self::HEADERS + Self::DATAGRAMS * VirtioNetHdr::LEN;

    /// An empty batch.
    pub fn new() -> Self {
        Self {
            arena: vec![0; Self::SIZE].into_boxed_slice(),
            spans: Vec::with_capacity(Self::DATAGRAMS),
            next: Self::FIRST,
            bytes: 0,
        }
    }

    /// Forgets all frames.
    #[inline]
    pub fn clear(&mut self) {
        self.spans.clear();
        self.next = Self::FIRST;
        self.bytes = 0;
    }

    /// Bytes of all frames together.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of frames.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The room behind the last frame; `None` if the batch is full.
    #[inline]
    pub fn vacant(&mut self) -> Option<&mut [u8]> {
        if self.spans.len() >= Self::FRAMES {
            return None;
        }
        self.room()
    }

    /// Room for a message from the underlay; `None` if the batch is full.
    pub fn vacant_message(&mut self) -> Option<&mut [u8]> {
        if self.spans.len() + Self::MOST_IN_MESSAGE > Self::DATAGRAMS {
            return None;
        }
        self.room()
    }

    #[inline]
    fn room(&mut self) -> Option<&mut [u8]> {
        let end = self.next + Self::CAPACITY;
        if end > Self::HEADERS {
            return None;
        }
        self.arena.get_mut(self.next..end)
    }

    /// Makes the first `len` bytes of the vacant room the next frame. Shorter than a header means
    /// that the sender gave no frame at all: the header is completed and the frame is empty.
    #[inline]
    pub fn push(&mut self, len: usize) {
        let header = self.next;
        let end = header + len.clamp(VirtioNetHdr::LEN, Self::CAPACITY);
        let is_plain = self
            .arena
            .get(header..)
            .is_none_or(VirtioNetHdr::is_plain_at);
        let start = header + VirtioNetHdr::LEN;
        self.bytes += end - start;
        self.spans.push(Span::new(header, start, end, is_plain));
        self.next = end.next_multiple_of(Self::ALIGNMENT);
    }

    /// How many segments the last frame stands for, going by its header; 0 for an ordinary one.
    #[inline]
    pub fn segments_of_last(&self) -> usize {
        let last = match self.spans.last() {
            Some(span) if !span.is_plain => self.spans.len() - 1,
            _ => return 0,
        };
        let header = self.header(last);
        if header.gso_type == 0 {
            return 0;
        }
        let size = usize::from(header.gso_size()).max(1);
        self.frame(last).len().div_ceil(size)
    }

    /// The bytes of the message in the vacant room.
    pub fn message(&mut self, len: usize) -> &mut [u8] {
        let end = self.next + len.min(Self::CAPACITY);
        self.arena.get_mut(self.next..end).unwrap_or_default()
    }

    /// The bytes in `range` of the message in the vacant room.
    pub fn waiting(&self, range: Range<usize>) -> &[u8] {
        let place = |offset: usize| self.next + offset.min(Self::CAPACITY);
        let range = place(range.start)..place(range.end);
        self.arena.get(range).unwrap_or_default()
    }

    /// Makes the bytes in `range` of the message in the vacant room the next frame, which `header`
    /// asks to finish; false if there are too many.
    pub fn push_part(&mut self, range: Range<usize>, header: &VirtioNetHdr) -> bool {
        let index = self.spans.len();
        if index >= Self::DATAGRAMS {
            return false;
        }
        let is_plain = header.is_plain();
        let header = if is_plain {
            Self::PLAIN
        } else {
            let at = Self::HEADERS + index * VirtioNetHdr::LEN;
            self.arena[at..at + VirtioNetHdr::LEN].copy_from_slice(header.as_bytes());
            at
        };
        let place = |offset: usize| self.next + offset.min(Self::CAPACITY);
        let (start, end) = (place(range.start), place(range.end));
        let end = end.max(start);
        self.bytes += end - start;
        self.spans.push(Span::new(header, start, end, is_plain));
        true
    }

    /// Leaves a message of `len` bytes behind, whose frames have been pushed.
    pub fn end_message(&mut self, len: usize) {
        self.next = (self.next + len.min(Self::CAPACITY)).next_multiple_of(Self::ALIGNMENT);
    }

    /// Copies `frame` in behind `header`; false if it does not fit.
    pub fn push_frame(&mut self, header: &VirtioNetHdr, frame: &[u8]) -> bool {
        let len = VirtioNetHdr::LEN + frame.len();
        let Some(slot) = self.vacant().filter(|slot| slot.len() >= len) else {
            return false;
        };
        slot[..VirtioNetHdr::LEN].copy_from_slice(header.as_bytes());
        slot[VirtioNetHdr::LEN..len].copy_from_slice(frame);
        self.push(len);
        true
    }

    /// Header and frame number `index` in one piece, as they go to a file descriptor; `None` if
    /// they do not lie together.
    #[inline]
    pub fn whole(&self, index: usize) -> Option<&[u8]> {
        let span = self.spans[index];
        let (header, frame) = (span.header(), span.frame());
        if header.end == frame.start {
            self.arena.get(header.start..frame.end)
        } else {
            None
        }
    }

    /// Frame number `index`, and its header unless that asks for nothing.
    #[inline(always)]
    pub fn parts(&self, index: usize) -> (Option<VirtioNetHdr>, &[u8]) {
        let span = self.spans[index];
        let frame = &self.arena[span.frame()];
        if span.is_plain {
            return (None, frame);
        }
        (VirtioNetHdr::read(&self.arena[span.header()]), frame)
    }

    /// Frame number `index`.
    #[inline]
    pub fn frame(&self, index: usize) -> &[u8] {
        &self.arena[self.spans[index].frame()]
    }

    /// All frames.
    #[inline]
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.frame(index))
    }

    /// The header of frame number `index`.
    #[inline]
    pub fn header(&self, index: usize) -> VirtioNetHdr {
        self.arena
            .get(self.spans[index].header())
            .and_then(VirtioNetHdr::read)
            .unwrap_or_default()
    }

    /// Replaces the header of frame number `index`, which must not be complete without; the frame
    /// stays as it is.
    pub fn set_header(&mut self, index: usize, header: &VirtioNetHdr) {
        let span = &mut self.spans[index];
        let at = span.header();
        if at.start != Self::PLAIN {
            span.is_plain = header.is_plain();
            self.arena[at].copy_from_slice(header.as_bytes());
        }
    }
}
