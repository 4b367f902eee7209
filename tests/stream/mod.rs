//! Bytes through the switch, compared at the other end.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use crate::common::Netns;

/// Sends some megabytes from `from` to `to` in writes of `chunk` bytes, and compares every byte.
pub(crate) fn tcp(from: &Netns, to: &Netns, address: IpAddr, chunk: usize, seed: u64) {
    let total = if chunk < 64 {
        64 * 1024
    } else {
        8 * 1024 * 1024
    } + 12_345;
    let listener = to.run(|| TcpListener::bind((address, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream =
                from.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap());
            stream.set_nodelay(chunk < 64).unwrap();
            let mut bytes = Pattern(seed);
            let mut left = total;
            let mut buf = vec![0; chunk];
            while left > 0 {
                let part = &mut buf[..chunk.min(left)];
                bytes.fill(part);
                stream.write_all(part).unwrap();
                left -= part.len();
            }
        });
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut expected = Pattern(seed);
        let (mut got, mut want) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut received = 0;
        loop {
            let len = stream.read(&mut got).unwrap();
            if len == 0 {
                break;
            }
            expected.fill(&mut want[..len]);
            assert!(
                got[..len] == want[..len],
                "bytes {received}..{} differ (seed {seed}, chunk {chunk}, {address})",
                received + len
            );
            received += len;
        }
        assert_eq!(received, total, "seed {seed}, chunk {chunk}, {address}");
    });
}

/// Sends datagrams of many lengths; each must arrive as it was, in order.
pub(crate) fn udp(from: &Netns, to: &Netns, address: IpAddr) {
    let receiver = to.run(|| UdpSocket::bind((address, 0)).unwrap());
    receiver
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let target = receiver.local_addr().unwrap();
    let any: SocketAddr = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    }
    .parse()
    .unwrap();
    let sender = from.run(|| UdpSocket::bind(any).unwrap());
    let mut buf = vec![0; 65_536];
    // 3000 and 20000 are fragmented by the sender.
    for len in [0, 1, 17, 18, 512, 1471, 1472, 1473, 3000, 20_000] {
        let mut datagram = vec![0; len];
        Pattern(len as u64 + 1).fill(&mut datagram);
        sender.send_to(&datagram, target).unwrap();
        let (received, _) = receiver
            .recv_from(&mut buf)
            .unwrap_or_else(|error| panic!("datagram of {len} bytes: {error}"));
        assert!(
            buf[..received] == datagram,
            "datagram of {len} bytes over {address}"
        );
    }
}

/// Segments and datagrams that the stack of `netns` has thrown away for a wrong checksum.
pub(crate) fn checksum_errors(netns: &Netns) -> u64 {
    let snmp = netns
        .run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))
        .unwrap();
    let lines: Vec<Vec<&str>> = snmp
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let errors = |pair: &[Vec<&str>]| -> u64 {
        let named = pair[0].iter().zip(&pair[1]);
        named
            .filter(|(key, _)| **key == "InCsumErrors")
            .filter_map(|(_, value)| value.parse::<u64>().ok())
            .sum()
    };
    lines.chunks_exact(2).map(errors).sum()
}

/// Bytes that anybody can make again from a seed (splitmix64).
struct Pattern(u64);

impl Pattern {
    fn fill(&mut self, buf: &mut [u8]) {
        for byte in buf {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = (mixed >> 56) as u8;
        }
    }
}
