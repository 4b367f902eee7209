//! Where metrics are served over TCP, and to whom.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

/// A TCP socket for those who may read the metrics.
#[derive(Debug)]
pub struct MetricsListener {
    socket: TcpListener,
    audience: Audience,
}

impl MetricsListener {
    /// Listens on `address`, which must be a loopback one unless `remote` ones may read too.
    ///
    /// # Errors
    /// [`MetricsError`] says what stands in the way.
    pub fn bind(address: SocketAddr, audience: Audience) -> Result<Self, MetricsError> {
        if audience == Audience::Local && !address.ip().is_loopback() {
            return Err(MetricsError::Exposed { address });
        }
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        listen()
            .map(|socket| Self { socket, audience })
            .map_err(|source| MetricsError::Listen { address, source })
    }

    /// Where it listens: port 0 has become a real one.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(in crate::control) fn audience(&self) -> Audience {
        self.audience
    }

    pub(in crate::control) fn into_std(self) -> TcpListener {
        self.socket
    }
}

/// Who may read the metrics over TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Processes of this host.
    #[default]
    Local,
    /// Whoever reaches the address.
    Anybody,
}

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The address is not a loopback one.
    #[error(
        "serve metrics on {address}: whoever reaches this address could read them; take 127.0.0.1 or [::1], or allow it with --metrics-remote"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// The kernel refused.
    #[error("serve metrics on {address}: {source}; {}", advice(source, *address))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What it said.
        source: io::Error,
    },
}

impl MetricsError {
    /// Whether the address itself is wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Exposed { .. })
    }
}

fn advice(source: &io::Error, address: SocketAddr) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port();
            format!("choose another port, or see who has it: ss -ltnp sport = :{port}")
        }
        io::ErrorKind::AddrNotAvailable => "no interface has it; see: ip address".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 are for root".to_owned(),
        _ => "choose another address".to_owned(),
    }
}
