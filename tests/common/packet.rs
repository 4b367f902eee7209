//! Bare frames, as a host sends and takes them, and as files have them.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
    },
};
use tapswitch::sys::netns::NetnsFile;

/// A packet socket at the `eth0` of a namespace.
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    #[track_caller]
    pub fn inside(netns: &NetnsFile) -> Self {
        let opened = netns.run_in(|| {
            let all = SockProtocol::EthAll;
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, all).unwrap();
            let links = getifaddrs().unwrap();
            let eth0 = links
                .filter(|link| link.interface_name == "eth0")
                .find_map(|link| link.address?.as_link_addr().copied())
                .unwrap();
            bind(socket.as_raw_fd(), &eth0).unwrap();
            socket
        });
        Self(opened.unwrap())
    }

    /// How many bytes the interface took.
    pub fn send(&self, frame: &[u8]) -> nix::Result<usize> {
        send(self.0.as_raw_fd(), frame, MsgFlags::empty())
    }

    /// The next frame that comes, if there is one now.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut room = vec![0; 70_000];
        let len = recv(self.0.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT).ok()?;
        room.truncate(len);
        Some(room)
    }
}

/// A classic pcap file (draft-ietf-opsawg-pcap) of Ethernet frames. The time of each, in seconds, is
/// its number.
pub fn pcap<'a>(frames: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0x0004_0000, 1] {
        file.extend(word.to_le_bytes());
    }
    for (number, frame) in (0_u32..).zip(frames) {
        let len = u32::try_from(frame.len()).unwrap();
        for word in [number, 0, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}
