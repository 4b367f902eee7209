//! The buffers of one worker: all memory that frames ever need, taken at the start.

use crate::wire::VirtioNetHdr;

/// A batch of frames, each with its virtio-net header in front, packed densely: a batch of small
/// frames then lies in a few pages, which the TLB holds.
#[derive(Debug)]
pub struct Batch {
    arena: Box<[u8]>,
    spans: [Span; Self::FRAMES],
    filled: usize,
    /// Where the next frame goes.
    next: usize,
}

/// Where one frame is.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    end: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// Frames in a full batch.
    pub const FRAMES: usize = 64;
    /// The longest frame with its header: 64 KiB of IP, two VLAN tags, Ethernet and virtio-net
    /// headers fit. A TAP truncates silently, so no frame is offered less room.
    pub const CAPACITY: usize = 68 * 1024;
    /// Room for 64 frames of 4 KiB, or for fewer long ones.
    const ARENA: usize = Self::FRAMES * 4096 + Self::CAPACITY;
    /// Frames start on cache lines of their own.
    const ALIGNMENT: usize = 64;

    /// An empty batch.
    pub fn new() -> Self {
        Self {
            arena: vec![0; Self::ARENA].into_boxed_slice(),
            spans: [Span::default(); Self::FRAMES],
            filled: 0,
            next: 0,
        }
    }

    /// Forgets all frames.
    #[inline]
    pub fn clear(&mut self) {
        self.filled = 0;
        self.next = 0;
    }

    /// Number of frames.
    #[inline]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The room behind the last frame; `None` if the batch is full.
    #[inline]
    pub fn vacant(&mut self) -> Option<&mut [u8]> {
        if self.filled == Self::FRAMES {
            return None;
        }
        self.arena.get_mut(self.next..self.next + Self::CAPACITY)
    }

    /// Makes the first `len` bytes of the vacant room the next frame. Shorter than a header means
    /// that the sender gave no frame at all: the header is completed and the frame is empty.
    #[inline]
    pub fn push(&mut self, len: usize) {
        debug_assert!(self.filled < Self::FRAMES, "push follows vacant");
        if let Some(span) = self.spans.get_mut(self.filled) {
            let start = self.next;
            let end = start + len.clamp(VirtioNetHdr::LEN, Self::CAPACITY);
            *span = Span { start, end };
            self.filled += 1;
            self.next = end.next_multiple_of(Self::ALIGNMENT);
        }
    }

    /// Copies `frame` in behind `header`; false if it does not fit.
    pub fn push_frame(&mut self, header: &VirtioNetHdr, frame: &[u8]) -> bool {
        use zerocopy::IntoBytes;
        let len = VirtioNetHdr::LEN + frame.len();
        let Some(slot) = self.vacant().filter(|slot| slot.len() >= len) else {
            return false;
        };
        slot[..VirtioNetHdr::LEN].copy_from_slice(header.as_bytes());
        slot[VirtioNetHdr::LEN..len].copy_from_slice(frame);
        self.push(len);
        true
    }

    /// Header and frame number `index`, as they go to a file descriptor.
    #[inline]
    pub fn bytes(&self, index: usize) -> &[u8] {
        let Span { start, end } = self.spans[index];
        &self.arena[start..end]
    }

    /// Frame number `index`, and its header unless that asks for nothing.
    #[inline(always)]
    pub fn parts(&self, index: usize) -> (Option<VirtioNetHdr>, &[u8]) {
        let bytes = self.bytes(index);
        let frame = bytes.get(VirtioNetHdr::LEN..).unwrap_or_default();
        if VirtioNetHdr::is_plain_at(bytes) {
            return (None, frame);
        }
        (VirtioNetHdr::read(bytes), frame)
    }

    /// Frame number `index`.
    #[inline]
    pub fn frame(&self, index: usize) -> &[u8] {
        &self.bytes(index)[VirtioNetHdr::LEN..]
    }

    /// The header of frame number `index`.
    #[inline]
    pub fn header(&self, index: usize) -> VirtioNetHdr {
        VirtioNetHdr::read(self.bytes(index)).unwrap_or_default()
    }

    /// Replaces the header of frame number `index`; the frame stays as it is.
    pub fn set_header(&mut self, index: usize, header: &VirtioNetHdr) {
        use zerocopy::IntoBytes;
        let Span { start, .. } = self.spans[index];
        self.arena[start..start + VirtioNetHdr::LEN].copy_from_slice(header.as_bytes());
    }
}
