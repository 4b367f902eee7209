//! TCP: one stream, as much as goes through.

use std::{
    io::{Read, Write},
    net::{SocketAddrV4, TcpListener, TcpStream},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use socket2::SockRef;

use super::{Context, LoadError, Prepared, Window, patience, sleep_until, told, would_block};
use crate::sys::clock;

/// What a receiver of a stream counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReceived {
    /// Bytes of payload in the window.
    pub bytes: u64,
}

const WRITE: usize = 128 << 10;
const READ: usize = 256 << 10;
/// How long a call may block before the clock is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(3);

pub(super) fn receive(bind: SocketAddrV4) -> Result<Prepared, LoadError> {
    let listener = TcpListener::bind(bind).context(|| format!("listen at {bind}"))?;
    Ok(Box::new(move |window| take(&listener, window)))
}

fn take(listener: &TcpListener, window: Window) -> Result<Value, LoadError> {
    let mut stream = accept(listener, window)?;
    stream
        .set_read_timeout(Some(LOOK))
        .context(|| "set a timeout".to_owned())?;
    let (mut buf, mut result) = (vec![0; READ], StreamReceived::default());
    loop {
        let read = stream.read(&mut buf);
        let now = clock::now();
        if now >= window.until {
            return told(result);
        }
        match read {
            Ok(0) => {
                return Err(LoadError::Missing(
                    "receive stream: the sender closed it too early; see its own message"
                        .to_owned(),
                ));
            }
            Ok(len) if window.contains(now) => result.bytes += len as u64,
            Err(error) if !would_block(&error) => {
                return Err(error).context(|| "receive stream".to_owned());
            }
            _ => {}
        }
    }
}

/// The first connection, which has been made before the times were told.
fn accept(listener: &TcpListener, window: Window) -> Result<TcpStream, LoadError> {
    let what = || "accept a connection".to_owned();
    SockRef::from(listener)
        .set_read_timeout(Some(patience(window.until)))
        .context(what)?;
    let (stream, _) = listener.accept().context(what)?;
    Ok(stream)
}

/// A connection to `to`.
fn connect(to: SocketAddrV4) -> Result<TcpStream, LoadError> {
    TcpStream::connect_timeout(&to.into(), HANDSHAKE).context(|| format!("connect to {to}"))
}

pub(super) fn send(to: SocketAddrV4) -> Result<Prepared, LoadError> {
    let stream = connect(to)?;
    Ok(Box::new(move |window| fill(&stream, window)))
}

fn fill(mut stream: &TcpStream, window: Window) -> Result<Value, LoadError> {
    stream
        .set_write_timeout(Some(LOOK))
        .context(|| "set a timeout".to_owned())?;
    let buf = vec![0x5a; WRITE];
    sleep_until(window.start);
    while clock::now() < window.end_of_sending() {
        match stream.write(&buf) {
            Ok(_) => {}
            Err(error) if would_block(&error) => {}
            // The receiver is done first, and closes.
            Err(_) if clock::now() >= window.until => break,
            Err(error) => return Err(error).context(|| "send stream".to_owned()),
        }
    }
    Ok(Value::Null)
}
