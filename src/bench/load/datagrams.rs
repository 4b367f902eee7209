//! UDP: numbered datagrams, as many as go through.

use std::{
    fs,
    io::IoSliceMut,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{
        MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, setsockopt,
        sockopt::{RcvBuf, RcvBufForce},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Context, LoadError, Prepared, Window,
    burst::{BURST, Sender},
    sequence::Sequence,
    sleep_until, told,
};
use crate::sys::clock;

/// What a sender of datagrams counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramsSent {
    /// Datagrams that the kernel took in the window.
    pub packets: u64,
}

/// What a receiver of datagrams counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramsReceived {
    /// Datagrams that arrived in the window.
    pub packets: u64,
    /// Numbers that are missing between the first and the last of them.
    pub lost: u64,
    /// Datagrams that a later one had overtaken.
    pub late: u64,
    /// Datagrams that had come before.
    pub duplicates: u64,
    /// Datagrams that the socket had no room for, of those that are lost.
    pub socket_drops: u64,
}

/// Memory of a receiving socket: enough for the time in which its process is not on a CPU.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A tag of 4 bytes and a number of 8.
pub(super) const MARK: usize = 12;

pub(super) fn send(to: SocketAddrV4, tag: u32, size: usize) -> Result<Prepared, LoadError> {
    if size < MARK {
        let text = format!("send datagrams of {size} bytes: they need {MARK}; give more");
        return Err(LoadError::Missing(text));
    }
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let socket = UdpSocket::bind(any).context(|| "open a UDP socket".to_owned())?;
    socket
        .set_broadcast(true)
        .and_then(|()| socket.connect(to))
        .context(|| format!("connect to {to}"))?;
    let mut payload = vec![0x5a; size];
    write_mark(&mut payload, tag, 0);
    let sender = Sender::new(socket, &payload);
    Ok(Box::new(move |window| pour(sender, tag, window)))
}

fn pour(mut sender: Sender<UdpSocket>, tag: u32, window: Window) -> Result<Value, LoadError> {
    let (mut number, mut result) = (0, DatagramsSent::default());
    sleep_until(window.start);
    loop {
        let now = clock::now();
        if now >= window.end_of_sending() {
            return told(result);
        }
        for (packet, number) in sender.packets().zip(number..) {
            write_mark(packet, tag, number);
        }
        let sent = sender.send(BURST).context(|| "send datagrams".to_owned())?;
        let sent = sent as u64;
        // A number is used up only by a datagram that is out.
        number += sent;
        if window.contains(now) {
            result.packets += sent;
        }
    }
}

pub(super) fn receive(bind: SocketAddrV4, tag: u32) -> Result<Prepared, LoadError> {
    let socket = UdpSocket::bind(bind).context(|| format!("open a UDP socket at {bind}"))?;
    // Beyond the system's limit, as far as this user may.
    if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER).context(|| "set a buffer".to_owned())?;
    }
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .context(|| "set a timeout".to_owned())?;
    Ok(Box::new(move |window| take(&socket, tag, window)))
}

fn take(socket: &UdpSocket, tag: u32, window: Window) -> Result<Value, LoadError> {
    let port = socket
        .local_addr()
        .context(|| "read my address".to_owned())?
        .port();
    let (mut result, mut sequence) = (DatagramsReceived::default(), Sequence::new());
    let mut bufs = vec![[0; 2048]; BURST];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BURST, None);
    let mut drops_before = None;
    loop {
        let mut slices: Vec<_> = bufs.iter_mut().map(|buf| [IoSliceMut::new(buf)]).collect();
        let received = recvmmsg(
            socket.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        );
        let count = match received.map(Iterator::count) {
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            count => count.context(|| "receive datagrams".to_owned())?,
        };
        let now = clock::now();
        if now >= window.until {
            break;
        }
        if !window.contains(now) {
            continue;
        }
        drops_before.get_or_insert_with(|| socket_drops(port));
        let numbers = bufs.iter().take(count);
        for number in numbers.filter_map(|buf| read_mark(buf, tag)) {
            result.packets += 1;
            sequence.note(number);
        }
    }
    let drops_before = drops_before.unwrap_or_default();
    result.socket_drops = socket_drops(port).saturating_sub(drops_before);
    result.lost = sequence.lost();
    result.late = sequence.late();
    result.duplicates = sequence.duplicates();
    told(result)
}

/// How many datagrams the sockets with this port had no room for, in this namespace.
fn socket_drops(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/udp").unwrap_or_default();
    let local = format!(":{port:04X}");
    let drops = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.nth(1)?.ends_with(&local);
        is_it.then(|| words.next_back()?.parse::<u64>().ok())?
    });
    drops.sum()
}

/// Writes which run a datagram belongs to, and its number.
pub(super) fn write_mark(payload: &mut [u8], tag: u32, number: u64) {
    let mark = tag.to_be_bytes().into_iter().chain(number.to_be_bytes());
    for (to, from) in payload.iter_mut().zip(mark) {
        *to = from;
    }
}

/// The number of a datagram, if it is of this run.
pub(super) fn read_mark(payload: &[u8], tag: u32) -> Option<u64> {
    let (mine, rest) = payload.split_first_chunk()?;
    let number = rest.first_chunk()?;
    (u32::from_be_bytes(*mine) == tag).then(|| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_by_its_own_run_only() {
        let mut payload = [0; 18];
        write_mark(&mut payload, 7, 1 << 40);
        assert_eq!(read_mark(&payload, 7), Some(1 << 40));
        assert_eq!(read_mark(&payload, 8), None);
        assert_eq!(read_mark(&payload[..11], 7), None);
    }

    #[test]
    fn datagrams_too_short_for_a_mark_are_refused() {
        let to = "127.0.0.1:9".parse().unwrap();
        let error = send(to, 1, 11).err().unwrap();
        assert!(error.to_string().contains("they need 12"), "{error}");
    }
}
