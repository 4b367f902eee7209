//! Somebody who looks at the live page of a daemon, so that what that costs can be measured.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::Unavailable;
use crate::{config::units::parse_listen, netlink, sys::netns::NetnsFile};

/// Reads the stream of events until it is dropped.
#[derive(Debug)]
pub(super) struct Browser {
    stream: TcpStream,
    reader: Option<JoinHandle<()>>,
}

impl Browser {
    /// Opens the page that `options` let a daemon serve in `netns`, if they do, and waits until
    /// frames are shown.
    pub(super) fn open(netns: &NetnsFile, options: &[String]) -> Result<Option<Self>, Unavailable> {
        let Some(at) = options.iter().position(|option| option == "--web") else {
            return Ok(None);
        };
        let address = options.get(at + 1).and_then(|text| parse_listen(text).ok());
        let Some(address) = address.filter(|address| address.port() != 0) else {
            let text = "look at the live page: give --web an address and a port, such as \
                        127.0.0.1:8080";
            return Err(Unavailable::Failed(text.to_owned()));
        };
        netlink::set_up(Some(netns), LOOPBACK).map_err(Unavailable::failed)?;
        let opened = netns.run_in(move || look(address));
        let stream = opened.map_err(Unavailable::failed)?;
        let stream = stream.map_err(|error| {
            Unavailable::Failed(format!("look at the live page on {address}: {error}"))
        })?;
        let reader = stream.try_clone().map_err(Unavailable::failed)?;
        let reader = thread::Builder::new()
            .name("browser".to_owned())
            .spawn(move || read(&reader))
            .map_err(Unavailable::failed)?;
        Ok(Some(Self {
            stream,
            reader: Some(reader),
        }))
    }
}

/// The page's stream, when the first state has been told.
fn look(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /api/live HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while !text.windows(STATE.len()).any(|window| window == STATE) {
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => text.extend_from_slice(&piece[..len]),
        }
    }
    stream.set_read_timeout(None)?;
    Ok(stream)
}

fn read(mut stream: &TcpStream) {
    let mut piece = [0; 4096];
    while matches!(stream.read(&mut piece), Ok(len) if len > 0) {}
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Whoever reads then reads the end.
        drop(self.stream.shutdown(Shutdown::Both));
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

/// The index of `lo`, which is the first link of every namespace.
const LOOPBACK: u32 = 1;
const STATE: &[u8] = b"event: state";
const PATIENCE: Duration = Duration::from_secs(5);
