//! A port whose cable ends in memory.

use std::{
    collections::VecDeque,
    io::IoSlice,
    sync::{Mutex, MutexGuard, PoisonError},
};

use zerocopy::IntoBytes;

use crate::{
    bridge::DropReason,
    datapath::{PortIo, Received, Transmitted},
    offload::Offloads,
    wire::VirtioNetHdr,
};

/// A [`PortIo`] made of two bounded queues: what a host sent and the switch has not read yet, and
/// what the switch delivered and nobody has taken yet. Any thread may use either end.
///
/// ```
/// use tapswitch::sim::{Lab, MemState, frames};
///
/// let (mut lab, [a, b]) = Lab::switch(["podA", "podB"]);
/// let frame = frames::broadcast(frames::mac(1));
/// assert!(lab.io(a).inject(&frame));
/// assert_eq!(lab.run(), 1);
/// assert_eq!(lab.io(b).take(), Some(frame.clone()));
///
/// // What a port can do to the switch, it can be told to do.
/// lab.io(b).set_state(MemState::Full);
/// assert_eq!(lab.relay(a, &frame), []);
/// ```
#[derive(Debug)]
pub struct MemPort {
    offloads: Offloads,
    capacity: usize,
    queues: Mutex<Queues>,
}

/// What a [`MemPort`] does with the switch's reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemState {
    /// Both work.
    #[default]
    Open,
    /// Every write finds the queue full; reads work.
    Full,
    /// The interface inside is down: writes fail, and there is nothing to read.
    Down,
    /// Every write is refused for no better reason; reads work.
    Refusing,
    /// The device is gone for good.
    Gone,
}

#[derive(Debug, Default)]
struct Queues {
    state: MemState,
    /// Towards the switch.
    sent: VecDeque<Vec<u8>>,
    /// From the switch.
    delivered: VecDeque<Vec<u8>>,
    /// Buffers for further frames, so that a port in steady state allocates nothing.
    spare: Vec<Vec<u8>>,
    received_by_switch: u64,
    accepted_from_switch: u64,
    loss: Option<Loss>,
    lost: u64,
}

/// A cable that loses frames.
#[derive(Debug)]
struct Loss {
    one_in: u64,
    random: u64,
}

impl Default for MemPort {
    fn default() -> Self {
        Self::new()
    }
}

impl MemPort {
    /// Frames that each queue holds unless [`Self::with_capacity`] says otherwise.
    pub const DEFAULT_CAPACITY: usize = 4096;

    /// A port that takes only complete frames.
    pub fn new() -> Self {
        Self::with_capacity(Self::DEFAULT_CAPACITY)
    }

    /// A port whose queues hold `capacity` frames each.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            offloads: Offloads::NONE,
            capacity,
            queues: Mutex::default(),
        }
    }

    /// The same port, which takes frames that still need these offloads.
    #[must_use]
    pub fn with_offloads(mut self, offloads: Offloads) -> Self {
        self.offloads = offloads;
        self
    }

    /// Changes what the port does from now on.
    pub fn set_state(&self, state: MemState) {
        self.queues().state = state;
    }

    /// What the port does at present.
    pub fn state(&self) -> MemState {
        self.queues().state
    }

    /// From now on the cable loses one frame in `one_in` on average, in either direction; 0 is none.
    /// The same `seed` loses the same ones. The switch does not notice, so its counters do not tell.
    ///
    /// ```
    /// use tapswitch::sim::{Lab, frames};
    ///
    /// let (mut lab, [a, b]) = Lab::switch(["podA", "podB"]);
    /// lab.io(b).lose(10, 1);
    /// for _ in 0..1000 {
    ///     lab.relay(a, &frames::broadcast(frames::mac(1)));
    /// }
    /// assert_eq!(lab.totals(b).tx_frames, 1000);
    /// assert_eq!(lab.io(b).lost(), 93);
    /// ```
    pub fn lose(&self, one_in: u32, seed: u64) {
        self.queues().loss = (one_in > 0).then(|| Loss {
            one_in: one_in.into(),
            // Xorshift stays at zero for ever.
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        });
    }

    /// Frames that the cable has lost.
    pub fn lost(&self) -> u64 {
        self.queues().lost
    }

    /// The host sends `frame`; false if the queue towards the switch is full, and it is lost.
    pub fn inject(&self, frame: &[u8]) -> bool {
        self.inject_with(&VirtioNetHdr::none(), frame)
    }

    /// The host sends `frame` and leaves done what `header` says.
    pub fn inject_with(&self, header: &VirtioNetHdr, frame: &[u8]) -> bool {
        let mut queues = self.queues();
        if queues.sent.len() >= self.capacity {
            return false;
        }
        if queues.loses_one() {
            return true;
        }
        let mut bytes = queues.buffer();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(frame);
        queues.sent.push_back(bytes);
        true
    }

    /// Takes the oldest frame that the switch delivered, without its virtio-net header.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut bytes = self.take_with_header()?;
        bytes.drain(..VirtioNetHdr::LEN.min(bytes.len()));
        Some(bytes)
    }

    /// Takes the oldest delivered frame with its virtio-net header in front.
    pub fn take_with_header(&self) -> Option<Vec<u8>> {
        self.queues().delivered.pop_front()
    }

    /// Shows each delivered frame to `see`, oldest first, and keeps the memory for later ones.
    pub fn drain(&self, mut see: impl FnMut(&[u8])) {
        let mut queues = self.queues();
        while let Some(bytes) = queues.delivered.pop_front() {
            see(bytes.get(VirtioNetHdr::LEN..).unwrap_or_default());
            queues.recycle(bytes);
        }
    }

    /// Frames that the switch delivered and nobody has taken.
    pub fn waiting(&self) -> usize {
        self.queues().delivered.len()
    }

    /// Frames that the switch has not read yet.
    pub fn backlog(&self) -> usize {
        self.queues().sent.len()
    }

    /// Frames that the switch ever read here, as the port saw it.
    pub fn received_by_switch(&self) -> u64 {
        self.queues().received_by_switch
    }

    /// Frames that the switch ever delivered here, as the port saw it.
    pub fn accepted_from_switch(&self) -> u64 {
        self.queues().accepted_from_switch
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        // Each change of the queues is one push or pop: a panic elsewhere leaves them whole.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortIo for MemPort {
    fn receive(&self, buf: &mut [u8]) -> Received {
        let mut queues = self.queues();
        match queues.state {
            MemState::Gone => return Received::Gone,
            MemState::Down => return Received::Empty,
            MemState::Open | MemState::Full | MemState::Refusing => {}
        }
        let Some(bytes) = queues.sent.pop_front() else {
            return Received::Empty;
        };
        // A TAP truncates too.
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        queues.recycle(bytes);
        queues.received_by_switch += 1;
        Received::Frame(len)
    }

    fn transmit(&self, buf: &[u8]) -> Transmitted {
        self.transmit_parts(&[IoSlice::new(buf)])
    }

    fn transmit_parts(&self, parts: &[IoSlice<'_>]) -> Transmitted {
        let mut queues = self.queues();
        if let Some(reason) = queues.refusal(self.capacity) {
            return Transmitted::Dropped(reason);
        }
        queues.accepted_from_switch += 1;
        if queues.loses_one() {
            return Transmitted::Sent;
        }
        let mut bytes = queues.buffer();
        for part in parts {
            bytes.extend_from_slice(part);
        }
        queues.delivered.push_back(bytes);
        Transmitted::Sent
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn obstacle(&self) -> Option<DropReason> {
        self.queues().refusal(self.capacity)
    }
}

impl Queues {
    /// Why the switch's next frame would not be taken.
    fn refusal(&self, capacity: usize) -> Option<DropReason> {
        match self.state {
            MemState::Open if self.delivered.len() < capacity => None,
            MemState::Open | MemState::Full => Some(DropReason::EgressFull),
            MemState::Down => Some(DropReason::EgressDown),
            MemState::Refusing => Some(DropReason::EgressRefused),
            MemState::Gone => Some(DropReason::EgressGone),
        }
    }

    /// Whether the cable loses the next frame.
    fn loses_one(&mut self) -> bool {
        let is_lost = self.loss.as_mut().is_some_and(Loss::takes_one);
        self.lost += u64::from(is_lost);
        is_lost
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn recycle(&mut self, mut bytes: Vec<u8>) {
        const KEPT: usize = 1024;
        if self.spare.len() < KEPT {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

impl Loss {
    fn takes_one(&mut self) -> bool {
        // Xorshift64 (Marsaglia 2003); its upper bits are the better ones.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32).is_multiple_of(self.one_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_out_as_it_went_in() {
        let port = MemPort::new();
        assert!(port.inject(b"frame"));
        let mut buf = [0xa5; 64];

        assert_eq!(
            port.receive(&mut buf),
            Received::Frame(VirtioNetHdr::LEN + 5)
        );
        let end = VirtioNetHdr::LEN + 5;
        assert_eq!(&buf[VirtioNetHdr::LEN..end], b"frame");
        assert_eq!(port.receive(&mut buf), Received::Empty);

        assert_eq!(port.transmit(&buf[..end]), Transmitted::Sent);
        assert_eq!(port.take().unwrap(), b"frame");
        assert_eq!(port.take(), None);
        assert_eq!(
            (port.received_by_switch(), port.accepted_from_switch()),
            (1, 1)
        );
    }

    #[test]
    fn a_queue_ends_where_its_capacity_does() {
        let port = MemPort::with_capacity(1);
        assert!(port.inject(b"a"));
        assert!(!port.inject(b"b"));

        assert_eq!(port.transmit(&[0; 20]), Transmitted::Sent);
        assert_eq!(
            port.transmit(&[0; 20]),
            Transmitted::Dropped(DropReason::EgressFull)
        );
    }

    #[test]
    fn each_state_has_its_own_refusal() {
        let port = MemPort::new();
        for (state, reason) in [
            (MemState::Full, DropReason::EgressFull),
            (MemState::Down, DropReason::EgressDown),
            (MemState::Refusing, DropReason::EgressRefused),
            (MemState::Gone, DropReason::EgressGone),
        ] {
            port.set_state(state);
            assert_eq!(
                port.transmit(&[0; 20]),
                Transmitted::Dropped(reason),
                "{state:?}"
            );
        }
        assert_eq!(port.receive(&mut [0; 64]), Received::Gone);
    }
}
