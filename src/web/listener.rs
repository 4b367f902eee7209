//! Where the page is served, and to whom.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
};

use super::{Token, TokenError, guard::Gate};

/// A TCP socket for browsers.
#[derive(Debug)]
pub struct WebListener {
    socket: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
}

impl WebListener {
    /// Listens on `address`. Without a token it must be a loopback one, and nobody can change
    /// anything.
    ///
    /// # Errors
    /// [`WebError`] says what stands in the way.
    pub fn bind(address: SocketAddr, token: Option<Token>) -> Result<Self, WebError> {
        check_audience(address, token.as_ref())?;
        let failed = |source| WebError::Listen { address, source };
        let socket = TcpListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            address: socket.local_addr().map_err(failed)?,
            socket,
            token,
        })
    }

    /// The same for a socket that listens already.
    ///
    /// # Errors
    /// As of [`Self::bind`].
    pub fn new(socket: TcpListener, token: Option<Token>) -> Result<Self, WebError> {
        let failed = |source| WebError::Inherit { source };
        let address = socket.local_addr().map_err(failed)?;
        check_audience(address, token.as_ref())?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            socket,
            address,
            token,
        })
    }

    /// Where it listens: port 0 has become a real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket itself.
    pub fn socket(&self) -> &TcpListener {
        &self.socket
    }

    /// What to type into a browser of this host; on all addresses, what others type is said too.
    pub fn url(&self) -> impl fmt::Display + use<> {
        let mut address = self.address;
        let port = address.port();
        let own = match address {
            _ if !address.ip().is_unspecified() => return format!("http://{address}/"),
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(own);
        format!("http://{address}/ (elsewhere: http://ADDRESS-OF-THIS-HOST:{port}/)")
    }

    pub(super) fn into_parts(self) -> (TcpListener, Gate) {
        let gate = Gate::new(self.address.ip(), self.token);
        (self.socket, gate)
    }
}

fn check_audience(address: SocketAddr, token: Option<&Token>) -> Result<(), WebError> {
    match token.is_some() || address.ip().is_loopback() {
        true => Ok(()),
        false => Err(WebError::Exposed { address }),
    }
}

/// Why the page is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address is not a loopback one, and there is no token.
    #[error(
        "serve the live page on {address}: whoever reaches this address could read all frames; \
         take 127.0.0.1 or [::1], or, if that is what you want, give a token too"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// There is no such token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The socket that was handed over is of no use.
    #[error("serve the live page: use the socket that was left open: {source}; start it again")]
    Inherit {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("serve the live page on {address}: {source}; {}", advice(source, *address))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What it said.
        source: io::Error,
    },
}

impl WebError {
    /// Whether what the caller wrote is wrong.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Exposed { .. } => true,
            Self::Token(error) => error.is_usage(),
            Self::Inherit { .. } | Self::Listen { .. } => false,
        }
    }
}

fn advice(source: &io::Error, address: SocketAddr) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port();
            format!("take port 0 for any that is free, or see who has it: ss -ltnp sport = :{port}")
        }
        io::ErrorKind::AddrNotAvailable => "no interface has it; see: ip address".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 are for root".to_owned(),
        _ => "choose another address".to_owned(),
    }
}
