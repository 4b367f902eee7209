//! Builds single frames, right and wrong, with smoltcp's checksums and none of ours.

use smoltcp::wire::checksum;
use tapswitch::wire::VirtioNetHdr;

use super::{low, pseudo};

/// A TCP segment or UDP datagram. The default is an ordinary segment of 100 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// Type and control field of the tags, outermost first.
    pub(crate) tags: Vec<[u16; 2]>,
    /// Last bytes of the MAC addresses, destination first.
    pub(crate) macs: [u8; 2],
    pub(crate) v6: bool,
    pub(crate) udp: bool,
    /// Last bytes of the IP addresses, source first.
    pub(crate) hosts: [u8; 2],
    /// TOS or traffic class.
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) flow_label: u32,
    pub(crate) id: u16,
    /// The IPv4 flags and fragment offset.
    pub(crate) fragment: u16,
    /// Words of IPv4 options.
    pub(crate) ip_options: u8,
    /// Numbers of the IPv6 extension headers, 8 bytes each.
    pub(crate) extensions: Vec<u8>,
    /// Instead of TCP's or UDP's number.
    pub(crate) protocol: Option<u8>,
    pub(crate) ports: [u16; 2],
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// Flags of TCP, with the bits next to the offset.
    pub(crate) flags: u16,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    /// A multiple of four bytes.
    pub(crate) tcp_options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// What follows the packet.
    pub(crate) trailer: Vec<u8>,
    pub(crate) checksum: Checksum,
}

/// What is in the checksum field of layer 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    Complete,
    /// The sum of the pseudo header.
    Partial,
    Is(u16),
}

impl Default for Packet {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            macs: [2, 1],
            v6: false,
            udp: false,
            hosts: [1, 2],
            tos: 0,
            ttl: 64,
            flow_label: 0x5_1234,
            id: 0xfffe,
            fragment: DF,
            ip_options: 0,
            extensions: Vec::new(),
            protocol: None,
            ports: [12345, 443],
            seq: 0xffff_ff80,
            ack: 9,
            flags: ACK,
            window: 0x2000,
            urgent: 0,
            tcp_options: Vec::new(),
            payload: (0..100).collect(),
            trailer: Vec::new(),
            checksum: Checksum::Complete,
        }
    }
}

impl Packet {
    pub(crate) fn tcp4() -> Self {
        Self::default()
    }

    pub(crate) fn udp4() -> Self {
        Self {
            udp: true,
            ..Self::default()
        }
    }

    /// TCP and UDP over both families.
    pub(crate) fn four_kinds() -> [Self; 4] {
        [(false, false), (false, true), (true, false), (true, true)].map(|(v6, udp)| Self {
            v6,
            udp,
            ..Self::default()
        })
    }

    /// The packet that its sender sends after this one, with as much payload.
    #[must_use]
    pub(crate) fn next(&self) -> Self {
        let sent = u32::try_from(self.payload.len()).unwrap();
        Self {
            seq: self.seq.wrapping_add(sent),
            id: self.id.wrapping_add(1),
            payload: self.payload.iter().map(|byte| byte ^ 0x55).collect(),
            ..self.clone()
        }
    }

    /// This packet and those that follow it.
    pub(crate) fn burst(&self, count: usize) -> Vec<Self> {
        std::iter::successors(Some(self.clone()), |last| Some(last.next()))
            .take(count)
            .collect()
    }

    pub(crate) fn l3(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    pub(crate) fn l4(&self) -> usize {
        self.l3()
            + if self.v6 {
                40 + 8 * self.extensions.len()
            } else {
                20 + 4 * usize::from(self.ip_options)
            }
    }

    pub(crate) fn headers(&self) -> usize {
        self.l4()
            + if self.udp {
                8
            } else {
                20 + self.tcp_options.len()
            }
    }

    pub(crate) fn checksum_offset(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    /// A header that asks for the checksum.
    pub(crate) fn ask(&self) -> VirtioNetHdr {
        let mut header = VirtioNetHdr::none();
        header.set_csum(low(self.l4()), low(self.checksum_offset()));
        header
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, self.macs[0], 2, 0, 0, 0, 0, self.macs[1]];
        for field in self.tags.iter().flatten() {
            frame.extend(field.to_be_bytes());
        }
        let l4_len = self.headers() - self.l4() + self.payload.len();
        if self.v6 {
            frame.extend([0x86, 0xdd]);
            self.ipv6(&mut frame, l4_len);
        } else {
            frame.extend([0x08, 0x00]);
            self.ipv4(&mut frame, l4_len);
        }
        for port in self.ports {
            frame.extend(port.to_be_bytes());
        }
        if self.udp {
            frame.extend(low(l4_len).to_be_bytes());
            frame.extend([0, 0]);
        } else {
            frame.extend(self.seq.to_be_bytes());
            frame.extend(self.ack.to_be_bytes());
            let words = u16::try_from(5 + self.tcp_options.len() / 4).unwrap();
            frame.extend((words << 12 | self.flags).to_be_bytes());
            frame.extend(self.window.to_be_bytes());
            frame.extend([0, 0]);
            frame.extend(self.urgent.to_be_bytes());
            frame.extend(&self.tcp_options);
        }
        assert_eq!(frame.len(), self.headers());
        frame.extend(&self.payload);

        let pseudo = pseudo(&frame, self.l3(), self.udp, l4_len);
        let complete = !checksum::combine(&[pseudo, checksum::data(&frame[self.l4()..])]);
        let field = match self.checksum {
            Checksum::Complete if self.udp && complete == 0 => 0xffff,
            Checksum::Complete => complete,
            Checksum::Partial => pseudo,
            Checksum::Is(field) => field,
        };
        let at = self.l4() + self.checksum_offset();
        frame[at..at + 2].copy_from_slice(&field.to_be_bytes());
        frame.extend(&self.trailer);
        frame
    }

    fn number(&self) -> u8 {
        self.protocol.unwrap_or(if self.udp { 17 } else { 6 })
    }

    fn ipv4(&self, frame: &mut Vec<u8>, l4_len: usize) {
        let start = frame.len();
        let len = self.l4() - self.l3();
        frame.extend([0x45 + self.ip_options, self.tos]);
        frame.extend(low(len + l4_len).to_be_bytes());
        frame.extend(self.id.to_be_bytes());
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([self.ttl, self.number(), 0, 0]);
        for host in self.hosts {
            frame.extend([192, 0, 2, host]);
        }
        // No operation, which needs no length.
        frame.resize(start + len, 1);
        let check = !checksum::data(&frame[start..]);
        frame[start + 10..start + 12].copy_from_slice(&check.to_be_bytes());
    }

    fn ipv6(&self, frame: &mut Vec<u8>, l4_len: usize) {
        let mut next = self.extensions.iter().copied().chain([self.number()]);
        let word = 0x6000_0000 | u32::from(self.tos) << 20 | self.flow_label & 0xf_ffff;
        frame.extend(word.to_be_bytes());
        frame.extend(low(8 * self.extensions.len() + l4_len).to_be_bytes());
        frame.extend([next.next().unwrap(), self.ttl]);
        for host in self.hosts {
            frame.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        }
        for _ in &self.extensions {
            // Six bytes of padding (RFC 8200 §4.2).
            frame.extend([next.next().unwrap(), 0, 1, 4, 0, 0, 0, 0]);
        }
    }
}

pub(crate) const DF: u16 = 0x4000;
pub(crate) const FIN: u16 = 0x01;
pub(crate) const SYN: u16 = 0x02;
pub(crate) const RST: u16 = 0x04;
pub(crate) const PSH: u16 = 0x08;
pub(crate) const ACK: u16 = 0x10;
pub(crate) const URG: u16 = 0x20;
pub(crate) const ECE: u16 = 0x40;
pub(crate) const CWR: u16 = 0x80;
/// The bit of accurate ECN, next to the offset.
pub(crate) const AE: u16 = 0x100;
