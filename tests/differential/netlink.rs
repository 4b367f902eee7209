//! As much rtnetlink as a bridge needs: one message out, its answer in, no round trip through a
//! program. See netlink(7) and rtnetlink(7).

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// A socket to the rtnetlink of the namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// Attributes: number and content.
pub(crate) type Attributes<'a> = Vec<(u16, &'a [u8])>;

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self {
            socket,
            buffer: vec![0; 1 << 16],
        })
    }

    /// Does what `message` says.
    pub(crate) fn execute(&mut self, message: Message) -> io::Result<()> {
        self.request(message, NLM_F_ACK, |_, _| ())
    }

    /// Asks what `message` says and shows each answer: its fixed part and everything behind it.
    pub(crate) fn dump(
        &mut self,
        message: Message,
        each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.request(message, NLM_F_DUMP, each)
    }

    /// The answer to a question about one object.
    pub(crate) fn get(&mut self, message: Message) -> io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        self.request(message, NLM_F_ACK, |_, payload| answer = payload.to_vec())?;
        Ok(answer)
    }

    fn request(
        &mut self,
        message: Message,
        flags: u16,
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        send(fd, &message.finish(flags), MsgFlags::empty())?;
        loop {
            let len = recv(fd, &mut self.buffer, MsgFlags::empty())?;
            let mut rest = &self.buffer[..len];
            while rest.len() >= 16 {
                let len = number(&rest[..4]);
                let kind = number16(&rest[4..6]);
                let payload = rest.get(16..len).ok_or(io::ErrorKind::InvalidData)?;
                match kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        let code = payload.first_chunk().map_or(0, |c| i32::from_ne_bytes(*c));
                        if code < 0 {
                            return Err(io::Error::from_raw_os_error(-code));
                        }
                        return Ok(());
                    }
                    _ => each(kind, payload),
                }
                rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// A request under construction.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    flags: u16,
}

impl Message {
    /// A request of this kind with this fixed part.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend(fixed);
        Self { bytes, flags }
    }

    /// With one more attribute.
    pub(crate) fn with(mut self, kind: u16, content: &[u8]) -> Self {
        self.bytes.extend(attribute(kind, content));
        self
    }

    fn finish(mut self, flags: u16) -> Vec<u8> {
        const NLM_F_REQUEST: u16 = 1;
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        let flags = NLM_F_REQUEST | self.flags | flags;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes
    }
}

/// One attribute, padded.
pub(crate) fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(usize::from(len) + 3);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes in `bytes`.
pub(crate) fn attributes(mut bytes: &[u8]) -> Attributes<'_> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let len = usize::from(number16(&bytes[..2]));
        let kind = number16(&bytes[2..4]) & !NLA_F_NESTED;
        let Some(content) = bytes.get(4..len) else {
            break;
        };
        found.push((kind, content));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The content of attribute `kind` in `bytes`.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .into_iter()
        .find(|&(k, _)| k == kind)
        .map(|(_, content)| content)
}

fn number(bytes: &[u8]) -> usize {
    let number = bytes.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
    usize::try_from(number).unwrap_or(0)
}

fn number16(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |b| u16::from_ne_bytes(*b))
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// `flags` of a message that makes something.
pub(crate) const NLM_F_CREATE: u16 = 0x400;
/// `flags` of a message that replaces something.
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
/// Goes with the number of an attribute that holds attributes.
pub(crate) const NLA_F_NESTED: u16 = 0x8000;
