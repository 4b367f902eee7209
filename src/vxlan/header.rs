//! The VXLAN header (RFC 7348 §5), and what it costs.
//!
//! ```text
//!   0       1       2       3       4       5       6       7
//! +-------+-------+-------+-------+-------+-------+-------+-------+
//! |R R R R I R R R|       reserved        |          VNI          |  reserved
//! ```

use std::ops::RangeInclusive;

use crate::wire::Vni;

/// The UDP port of VXLAN (IANA; RFC 7348 §5).
pub const PORT: u16 = 4789;

/// Bytes of the VXLAN header.
pub const HEADER_LEN: usize = 8;

/// UDP source ports, to be picked by the hash of the inner flow: the dynamic ports of RFC 6335, as
/// RFC 7348 §5 recommends.
pub const SOURCE_PORTS: RangeInclusive<u16> = 49152..=65535;

/// What the header of a received datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which overlay segment the frame belongs to.
    pub vni: Vni,
    /// Whether any reserved bit is set. RFC 7348 §5: "MUST be set to zero on transmission and
    /// ignored on receipt".
    pub reserved: bool,
}

/// The datagram carries no frame of any segment: it is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDatagram {
    /// Shorter than the header.
    #[error("datagram has {got} bytes, the VXLAN header needs {HEADER_LEN}")]
    Runt {
        /// Bytes in the datagram.
        got: usize,
    },
    /// The I flag is not set. RFC 7348 §5: "the I flag MUST be set to 1 for a valid VNI".
    #[error("the I flag is not set, so the datagram names no VNI")]
    NoVni,
}

/// Reads the header of a UDP payload; the rest is the inner frame, which may be of any length.
///
/// # Errors
/// [`BadDatagram`] says why there is no frame in it.
#[inline]
pub fn parse(datagram: &[u8]) -> Result<(Header, &[u8]), BadDatagram> {
    let Some((head, frame)) = datagram.split_first_chunk::<HEADER_LEN>() else {
        let got = datagram.len();
        return Err(BadDatagram::Runt { got });
    };
    let word = u64::from_be_bytes(*head);
    if word & FLAG_I == 0 {
        return Err(BadDatagram::NoVni);
    }
    let [.., a, b, c, _] = *head;
    // Three bytes always are a VNI.
    let vni = Vni::new(u32::from_be_bytes([0, a, b, c])).ok_or(BadDatagram::NoVni)?;
    let reserved = word & RESERVED != 0;
    Ok((Header { vni, reserved }, frame))
}

/// The header to put before a frame of segment `vni`.
#[inline]
pub const fn header(vni: Vni) -> [u8; HEADER_LEN] {
    (FLAG_I | (vni.get() as u64) << 8).to_be_bytes()
}

/// What the underlay's MTU has to exceed the inner one by: 50 over IPv4, 70 over IPv6.
///
/// Outer IP, UDP and VXLAN headers, and the inner Ethernet header, which an MTU does not count. An
/// inner VLAN tag is 4 bytes more.
pub const fn overhead(is_v6: bool) -> u32 {
    let [.., (_, ethernet)] = headers(is_v6);
    encap_len(is_v6) + ethernet
}

/// Bytes in front of an inner frame: outer IP, UDP and VXLAN headers.
pub const fn encap_len(is_v6: bool) -> u32 {
    let [_, _, (_, vxlan), _] = headers(is_v6);
    ip_udp_len(is_v6) + vxlan
}

/// Bytes in front of the payload of a UDP datagram.
pub const fn ip_udp_len(is_v6: bool) -> u32 {
    let [(_, ip), (_, udp), ..] = headers(is_v6);
    ip + udp
}

/// What [`overhead()`] is made of, outermost first.
pub const fn headers(is_v6: bool) -> [(&'static str, u32); 4] {
    let outer_ip = match is_v6 {
        true => ("outer IPv6", 40),
        false => ("outer IPv4", 20),
    };
    [
        outer_ip,
        ("UDP", UDP),
        ("VXLAN", VXLAN),
        ("inner Ethernet", ETHERNET),
    ]
}

const UDP: u32 = 8;
const VXLAN: u32 = 8;
const ETHERNET: u32 = 14;
/// The flag that says that the VNI is valid.
const FLAG_I: u64 = 0x08 << 56;
/// All bits that are neither the I flag nor the VNI.
const RESERVED: u64 = !(FLAG_I | 0xff_ffff << 8);

#[cfg(test)]
mod tests {
    use super::*;

    fn vni(number: u32) -> Vni {
        Vni::new(number).unwrap()
    }

    #[test]
    fn the_header_is_the_i_flag_and_24_bits_of_vni() {
        for (number, bytes) in [
            (0, [8, 0, 0, 0, 0, 0, 0, 0]),
            (1, [8, 0, 0, 0, 0, 0, 1, 0]),
            (0x12_3456, [8, 0, 0, 0, 0x12, 0x34, 0x56, 0]),
            (0xff_ffff, [8, 0, 0, 0, 0xff, 0xff, 0xff, 0]),
        ] {
            assert_eq!(header(vni(number)), bytes);
            let expected = Header {
                vni: vni(number),
                reserved: false,
            };
            assert_eq!(parse(&bytes), Ok((expected, &[][..])));
        }
    }

    #[test]
    fn only_the_i_flag_makes_a_vni_valid() {
        for flags in 0..=u8::MAX {
            let bytes = [flags, 0, 0, 0, 0, 0, 42, 0];
            let parsed = parse(&bytes);
            if flags & 0x08 == 0 {
                assert_eq!(parsed, Err(BadDatagram::NoVni), "flags {flags:#04x}");
            } else {
                let (header, _) = parsed.unwrap();
                assert_eq!(header.vni, vni(42), "flags {flags:#04x}");
                assert_eq!(header.reserved, flags != 0x08, "flags {flags:#04x}");
            }
        }
    }

    #[test]
    fn each_reserved_bit_is_told_and_changes_nothing_else() {
        let clean = header(vni(0xabc_def));
        let bits = (0..64).filter(|bit| bit / 8 != 4 && bit / 8 != 5 && bit / 8 != 6);
        let reserved = bits.filter(|bit| *bit != 4);
        let mut count = 0;
        for bit in reserved {
            let mut bytes = clean;
            bytes[bit / 8] |= 0x80 >> (bit % 8);
            let (header, _) = parse(&bytes).unwrap();
            assert!(header.reserved, "bit {bit}");
            assert_eq!(header.vni, vni(0xabc_def), "bit {bit}");
            count += 1;
        }
        assert_eq!(count, 39);
    }

    #[test]
    fn a_datagram_shorter_than_the_header_is_a_runt_and_any_rest_is_the_frame() {
        let mut datagram = header(vni(7)).to_vec();
        datagram.extend(1..=14);
        for len in 0..=22 {
            match parse(&datagram[..len]) {
                Err(error) => {
                    assert!(len < 8, "length {len}");
                    assert_eq!(error, BadDatagram::Runt { got: len });
                }
                Ok((_, frame)) => {
                    assert!(len >= 8, "length {len}");
                    assert_eq!(frame, &datagram[8..len]);
                }
            }
        }
    }

    #[test]
    fn the_overhead_is_that_of_rfc_7348() {
        assert_eq!((overhead(false), overhead(true)), (50, 70));
    }
}
