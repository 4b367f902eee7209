//! What holds for every switch: frames arrive as they were sent, and nothing stays behind.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use tapswitch::bench::topology::Pod;

use crate::common::{links, open_fds};

/// What could stay behind.
#[derive(Debug, PartialEq)]
pub(crate) struct Before {
    links: Vec<String>,
    files: Vec<String>,
    children: String,
    descriptors: usize,
}

impl Before {
    pub(crate) fn look() -> Self {
        let files = ["/run", "/run/netns"].map(|directory| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string())
        });
        let children = fs::read_dir("/proc/self/task").unwrap().flatten();
        let children = children
            .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        Self {
            links: links(),
            files: files.into_iter().flatten().collect(),
            children: children.collect(),
            descriptors: open_fds(),
        }
    }

    #[track_caller]
    pub(crate) fn check(self) {
        let after = Self::look();
        assert_eq!(after, self);
    }
}

pub(crate) fn check_forwarding(pods: &[Pod]) {
    for (from, sender) in pods.iter().enumerate() {
        for (to, receiver) in pods.iter().enumerate() {
            if from != to {
                check_datagrams(sender, receiver);
                check_stream(sender, receiver);
            }
        }
    }
}

/// Packets of up to 1400 bytes that may not be fragmented (Linux's default), there and back.
#[track_caller]
pub(crate) fn check_datagrams(sender: &Pod, receiver: &Pod) {
    check_datagrams_of(&[1, 18, 1372], sender, receiver);
}

#[track_caller]
pub(crate) fn check_datagrams_of(lengths: &[usize], sender: &Pod, receiver: &Pod) {
    let [sender, receiver] = [sender, receiver].map(|pod| {
        let open = || UdpSocket::bind((pod.address, 0)).unwrap();
        let socket = pod.netns.run_in(open).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    for &len in lengths {
        let sent = bytes(len);
        let mut got = vec![0; 10_000];
        sender
            .send_to(&sent, receiver.local_addr().unwrap())
            .unwrap();
        let (there, from) = receiver.recv_from(&mut got).unwrap();
        assert_eq!(
            (&got[..there], from),
            (&sent[..], sender.local_addr().unwrap())
        );
        receiver.send_to(&sent, from).unwrap();
        let (back, _) = sender.recv_from(&mut got).unwrap();
        assert_eq!(got[..back], sent);
    }
}

/// A few megabytes of TCP: unfinished checksums or lost superframes would stop it.
#[track_caller]
pub(crate) fn check_stream(sender: &Pod, receiver: &Pod) {
    let sent = bytes(4 << 20);
    let listen = || TcpListener::bind((receiver.address, 0)).unwrap();
    let listener = receiver.netns.run_in(listen).unwrap();
    let to = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    let mut stream = sender.netns.run_in(connect).unwrap();
    let (mut taken, _) = listener.accept().unwrap();
    taken.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let got = thread::scope(|scope| {
        scope.spawn(|| {
            stream.write_all(&sent).unwrap();
            drop(stream);
        });
        let mut got = Vec::new();
        taken.read_to_end(&mut got).unwrap();
        got
    });
    assert!(
        got == sent,
        "{} of {} bytes, or wrong ones",
        got.len(),
        sent.len()
    );
}

/// Bytes without a pattern, always the same.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

const PATIENCE: Duration = Duration::from_secs(5);
