//! How programs talk to the switch: HTTP and JSON on a unix socket, by hand and with the library.
//!
//! Here the daemon is a thread of the same program; mostly it is `tapswitch run`, and everything
//! else stays the same. A bridge without ports needs no privileges.
//!
//! Run: `cargo run --example 17_control_socket` (no root)
//!
//! ```text
//! By hand, as curl does it:
//!   200 {"kind":"done"}
//!   400 {"kind":"invalid","message":"read request: name \"no/slash\" contains '/'; use letters, digits, '.', '_' and '-'"}
//! With types, which the compiler checks:
//!   Done
//!   Done
//!   br0: Switch, mtu 1500, ageing 30s
//!   br1: Switch, mtu 1500, ageing 300s
//! What cannot be done says why, and leaves everything as it was:
//!   get fdb: no bridge "br7"; there is br0, br1; add it: tapswitch bridge add br7
//! After its end the socket is gone: true
//! ```

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader, Read, Write, pipe},
    os::unix::net::UnixStream,
    path::Path,
    process, thread,
    time::Duration,
};

use nix::sys::signal::{Signal, raise};
use tapswitch::{
    config::BridgeSpec,
    control::{
        api::{BridgeChange, EntrySelector, Request, Response},
        client::Client,
    },
    daemon::{DaemonOptions, run},
    names::Name,
};

fn main() -> Result<(), Box<dyn Error>> {
    let socket = env::temp_dir().join(format!("tapswitch-example-{}.sock", process::id()));
    let daemon = start(&socket)?;

    println!("By hand, as curl does it:");
    let answer = post(&socket, r#"{"op":"bridge-add","name":"br0"}"#)?;
    println!("  {answer}");
    println!(
        "  {}",
        post(&socket, r#"{"op":"bridge-add","name":"no/slash"}"#)?
    );

    println!("With types, which the compiler checks:");
    let client = Client::new(&socket);
    let mut change = BridgeChange::new(Name::new("br0")?);
    change.ageing_s = Some(30.0);
    println!("  {:?}", client.request(&Request::BridgeSet(change))?);
    let second = Request::BridgeAdd(BridgeSpec::new(Name::new("br1")?));
    println!("  {:?}", client.request(&second)?);
    let Response::Bridges(bridges) = client.request(&Request::BridgeShow { name: None })? else {
        return Err(client.unexpected().into());
    };
    for bridge in bridges {
        let spec = bridge.spec;
        println!(
            "  {}: {:?}, mtu {}, ageing {:?}",
            spec.name, spec.mode, bridge.effective_mtu, spec.ageing
        );
    }

    println!("What cannot be done says why, and leaves everything as it was:");
    let missing = Request::FdbGet(EntrySelector::new(
        Some(Name::new("br7")?),
        "02:00:00:00:00:01".parse()?,
    ));
    if let Err(error) = client.request(&missing) {
        println!("  {error}");
    }

    // The way in which `systemctl stop` ends it.
    raise(Signal::SIGTERM)?;
    daemon.join().map_err(|_| "the daemon panicked")?;
    println!("After its end the socket is gone: {}", !socket.exists());
    Ok(())
}

/// Starts a daemon, and waits until it is ready.
fn start(socket: &Path) -> Result<thread::JoinHandle<()>, Box<dyn Error>> {
    let options = DaemonOptions::new(socket);
    let (reader, mut writer) = pipe()?;
    let daemon = thread::spawn(move || {
        if let Err(error) = run(&options, &mut writer) {
            eprintln!("{error}");
        }
    });
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    Ok(daemon)
}

/// One request over HTTP/1.1 (RFC 9112); returns the status line's code and the body.
fn post(socket: &Path, body: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "POST /v1/request HTTP/1.1\r\nhost: tapswitch\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let code = answer.split(' ').nth(1).unwrap_or_default();
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    Ok(format!("{code} {body}"))
}
