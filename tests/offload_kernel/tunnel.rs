//! A kernel's vxlan device, and a socket at the other end of its veth that gets what it sends.

use std::{
    fs,
    io::{IoSliceMut, Write},
    net::UdpSocket,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt::UdpGroSegment,
};
use tapswitch::{
    sys::netns::{NetnsFile, create_anonymous},
    wire::VirtioNetHdr,
};
use zerocopy::IntoBytes;

use super::{QUEUE_LEN, ip, said, tap};

/// tapC and vx0 in a bridge; what is written to the one leaves through the other.
pub(crate) struct Tunnel {
    offloading: fs::File,
    socket: UdpSocket,
    sentinels: u32,
}

/// An inner frame, and the value of `UDP_GRO` that came with it.
pub(crate) type Received = (Vec<u8>, Option<usize>);

impl Tunnel {
    /// Why there can be none here, if so.
    pub(crate) fn supported() -> Result<(), String> {
        ip("link add vx1 type vxlan id 1 dstport 4790")?;
        ip("link delete vx1")
    }

    /// Builds it in the namespace of the test, with the socket in another.
    pub(crate) fn new() -> Result<Self, String> {
        let far = create_anonymous().map_err(|error| error.to_string())?;
        let far = NetnsFile::from_file(fs::File::from(far), "far".to_owned())
            .map_err(|error| error.to_string())?;
        // So large that single frames of any length pass, too.
        ip("link add v0 mtu 65535 type veth peer name v1 mtu 65535")?;
        let inside = || {
            ip("link set v1 up")?;
            ip("address add 198.51.100.2/24 dev v1")?;
            let socket = UdpSocket::bind("198.51.100.2:4789").map_err(said("bind"))?;
            setsockopt(&socket, UdpGroSegment, &true).map_err(|errno| errno.to_string())?;
            let wait = Some(Duration::from_secs(5));
            socket.set_read_timeout(wait).map_err(said("timeout"))?;
            Ok::<_, String>(socket)
        };
        let (process, descriptor) = (std::process::id(), far.as_fd().as_raw_fd());
        ip(&format!(
            "link set v1 netns /proc/{process}/fd/{descriptor}"
        ))?;
        let socket = far.run_in(inside).map_err(|error| error.to_string())??;
        ip("link set v0 up")?;
        ip("address add 198.51.100.1/24 dev v0")?;
        ip(
            "link add vx0 type vxlan id 42 local 198.51.100.1 remote 198.51.100.2 \
            dstport 4789 dev v0",
        )?;
        let offloading = tap::open("tapC", tap::ALL_OFFLOADS).map_err(said("open tapC"))?;
        ip("link add br1 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        for device in ["tapC", "vx0"] {
            ip(&format!(
                "link set {device} mtu 65485 txqueuelen {QUEUE_LEN} master br1 up"
            ))?;
        }
        ip("link set br1 up")?;
        Ok(Self {
            offloading,
            socket,
            sentinels: 0,
        })
    }

    /// What the socket gets of `frame`.
    pub(crate) fn carry(
        &mut self,
        header: &VirtioNetHdr,
        frame: &[u8],
    ) -> Result<Vec<Received>, String> {
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(frame);
        self.offloading.write_all(&bytes).map_err(said("write"))?;
        let mut sentinel = vec![0; VirtioNetHdr::LEN];
        sentinel.extend([0xff; 6]);
        sentinel.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        self.sentinels = self.sentinels.wrapping_add(1);
        sentinel.extend(self.sentinels.to_be_bytes());
        self.offloading
            .write_all(&sentinel)
            .map_err(said("write the sentinel"))?;
        let mut frames = Vec::new();
        loop {
            let (frame, segment) = self.receive()?;
            if frame == sentinel[VirtioNetHdr::LEN..] {
                return Ok(frames);
            }
            frames.push((frame, segment));
        }
    }

    fn receive(&self) -> Result<Received, String> {
        let mut buffer = vec![0; 1 << 17];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let mut control = nix::cmsg_space!(i32);
        let flags = MsgFlags::empty();
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            flags,
        )
        .map_err(|errno| format!("receive from the tunnel: {errno}"))?;
        let len = message.bytes;
        let segment = message
            .cmsgs()
            .map_err(|errno| errno.to_string())?
            .find_map(|control| match control {
                ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
                _ => None,
            });
        buffer.truncate(len);
        // Flag I, VNI 42.
        if buffer.get(..8) != Some(&[8, 0, 0, 0, 0, 0, 42, 0]) {
            return Err(format!("no VXLAN header: {:02x?}", buffer.get(..8)));
        }
        Ok((buffer.split_off(8), segment))
    }
}
