//! Builds frames and superframes for the offload tests, with smoltcp's checksums and none of ours.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod joiner;
pub(crate) mod packet;
pub(crate) mod recipe;

use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Address, Ipv6Address, checksum};
use tapswitch::{
    offload::Segments,
    wire::{GsoType, VirtioNetHdr},
};

/// What to build. The defaults are an ordinary TCP superframe.
#[derive(Clone, Debug)]
pub(crate) struct Superframe {
    /// Type fields of the tags, outermost first.
    pub(crate) tags: Vec<u16>,
    pub(crate) v6: bool,
    pub(crate) udp: bool,
    /// Words of IPv4 options, 0..=10.
    pub(crate) ip_options: u8,
    /// Numbers of the IPv6 extension headers, and their length in units of 8 bytes less one.
    pub(crate) extensions: Vec<(u8, u8)>,
    /// Words of TCP options, 0..=10.
    pub(crate) tcp_options: u8,
    pub(crate) tcp_flags: u8,
    pub(crate) urgent: u16,
    pub(crate) seq: u32,
    pub(crate) ip_id: u16,
    /// TOS or traffic class.
    pub(crate) traffic_class: u8,
    pub(crate) payload: usize,
    /// Fills everything that may be random.
    pub(crate) salt: u64,
    pub(crate) gso: bool,
    pub(crate) gso_size: u16,
    pub(crate) ecn: bool,
    pub(crate) needs_csum: bool,
    pub(crate) hdr_len: u16,
    /// Ethernet padding behind the packet.
    pub(crate) padding: usize,
}

impl Default for Superframe {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            v6: false,
            udp: false,
            ip_options: 0,
            extensions: Vec::new(),
            tcp_options: 0,
            tcp_flags: 0x10,
            urgent: 0,
            seq: 1,
            ip_id: 1,
            traffic_class: 0,
            payload: 200,
            salt: 1,
            gso: true,
            gso_size: 100,
            ecn: false,
            needs_csum: true,
            hdr_len: 0,
            padding: 0,
        }
    }
}

impl Superframe {
    pub(crate) fn l3(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    pub(crate) fn l4(&self) -> usize {
        let extensions = self.extensions.iter().map(|e| 8 + 8 * usize::from(e.1));
        self.l3()
            + if self.v6 {
                40 + extensions.sum::<usize>()
            } else {
                20 + 4 * usize::from(self.ip_options)
            }
    }

    pub(crate) fn headers(&self) -> usize {
        self.l4()
            + if self.udp {
                8
            } else {
                20 + 4 * usize::from(self.tcp_options)
            }
    }

    pub(crate) fn checksum_offset(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    pub(crate) fn header(&self) -> VirtioNetHdr {
        let mut header = VirtioNetHdr::none();
        if self.gso {
            header.set_gso(match (self.udp, self.v6) {
                (true, _) => GsoType::UdpL4,
                (false, false) => GsoType::TcpV4,
                (false, true) => GsoType::TcpV6,
            });
            if self.ecn {
                header.gso_type |= VirtioNetHdr::GSO_ECN;
            }
            header.set_gso_size(self.gso_size);
        }
        if self.needs_csum {
            let start = u16::try_from(self.l4()).unwrap();
            header.set_csum(start, u16::try_from(self.checksum_offset()).unwrap());
        }
        header.set_hdr_len(self.hdr_len);
        header
    }

    /// The frame, with the pseudo-header sum in the checksum field if it is left to complete.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut noise = Noise(self.salt);
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        for (i, tag) in self.tags.iter().enumerate() {
            frame.extend(tag.to_be_bytes());
            frame.extend([0x20, 10 + u8::try_from(i).unwrap()]);
        }
        let l4_len = self.headers() - self.l4() + self.payload;
        if self.v6 {
            frame.extend([0x86, 0xdd]);
            self.ipv6(&mut frame, l4_len, &mut noise);
        } else {
            frame.extend([0x08, 0x00]);
            self.ipv4(&mut frame, l4_len, &mut noise);
        }
        assert_eq!(frame.len(), self.l4());
        let ports = [0x30, 0x39, 0x01, 0xbb];
        frame.extend(ports);
        if self.udp {
            frame.extend(low(l4_len).to_be_bytes());
            frame.extend([0, 0]);
        } else {
            frame.extend(self.seq.to_be_bytes());
            frame.extend([0, 0, 0, 9]);
            frame.extend([(5 + self.tcp_options) << 4, self.tcp_flags, 0x20, 0, 0, 0]);
            frame.extend(self.urgent.to_be_bytes());
            noise.extend(&mut frame, 4 * usize::from(self.tcp_options));
        }
        assert_eq!(frame.len(), self.headers());
        noise.extend(&mut frame, self.payload);

        let pseudo = pseudo(&frame, self.l3(), self.udp, l4_len);
        let field = if self.needs_csum {
            pseudo
        } else {
            !checksum::combine(&[pseudo, checksum::data(&frame[self.l4()..])])
        };
        let at = self.l4() + self.checksum_offset();
        frame[at..at + 2].copy_from_slice(&field.to_be_bytes());
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    fn ipv4(&self, frame: &mut Vec<u8>, l4_len: usize, noise: &mut Noise) {
        let start = frame.len();
        let len = 20 + 4 * usize::from(self.ip_options);
        frame.extend([0x45 + self.ip_options, self.traffic_class]);
        frame.extend(low(len + l4_len).to_be_bytes());
        frame.extend(self.ip_id.to_be_bytes());
        frame.extend([0x40, 0, 64, if self.udp { 17 } else { 6 }, 0, 0]);
        frame.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        noise.extend(frame, 4 * usize::from(self.ip_options));
        let check = !checksum::data(&frame[start..]);
        frame[start + 10..start + 12].copy_from_slice(&check.to_be_bytes());
    }

    fn ipv6(&self, frame: &mut Vec<u8>, l4_len: usize, noise: &mut Noise) {
        let last = if self.udp { 17 } else { 6 };
        let mut next = self.extensions.iter().map(|e| e.0).chain([last]);
        let class = self.traffic_class;
        frame.extend([0x60 | class >> 4, class << 4 | 0x5, 0x12, 0x34]);
        frame.extend(low(self.l4() - self.l3() - 40 + l4_len).to_be_bytes());
        frame.extend([next.next().unwrap(), 64]);
        for host in [1, 2] {
            frame.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        }
        for &(_, len) in &self.extensions {
            frame.extend([next.next().unwrap(), len]);
            noise.extend(frame, 6 + 8 * usize::from(len));
        }
    }
}

/// The segments of `frame`, each in one piece.
pub(crate) fn whole(segments: &Segments, frame: &[u8]) -> Vec<Vec<u8>> {
    segments
        .iter()
        .map(|segment| segment.to_frame(frame))
        .collect()
}

/// The folded pseudo-header sum of the packet at `l3`.
pub(crate) fn pseudo(frame: &[u8], l3: usize, udp: bool, l4_len: usize) -> u16 {
    let ip = &frame[l3..];
    let (src, dst) = if ip[0] >> 4 == 6 {
        let address = |at: usize| {
            IpAddress::Ipv6(Ipv6Address::from(
                <[u8; 16]>::try_from(&ip[at..at + 16]).unwrap(),
            ))
        };
        (address(8), address(24))
    } else {
        let address = |at: usize| {
            IpAddress::Ipv4(Ipv4Address::from(
                <[u8; 4]>::try_from(&ip[at..at + 4]).unwrap(),
            ))
        };
        (address(12), address(16))
    };
    let next = if udp {
        IpProtocol::Udp
    } else {
        IpProtocol::Tcp
    };
    checksum::pseudo_header(&src, &dst, next, u32::from(low(l4_len)))
}

/// A small generator (splitmix64): the same salt always makes the same bytes.
#[derive(Clone, Debug)]
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether a thing happens that happens once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn extend(&mut self, bytes: &mut Vec<u8>, count: usize) {
        let end = bytes.len() + count;
        while bytes.len() < end {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(end);
    }
}

/// A length as a 16-bit field holds it.
pub(crate) fn low(len: usize) -> u16 {
    u16::try_from(len & 0xffff).unwrap()
}
