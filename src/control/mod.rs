//! How operators talk to the daemon.

use tokio::sync::{broadcast, mpsc};

pub mod api;
pub mod client;
mod connection;
pub mod metrics;
mod routes;
pub mod server;
pub mod socket;
pub(crate) mod threads;

use self::api::{ApiError, CaptureRequest, Event, Request, Response};
pub(crate) use self::connection::Ticket;

/// What the server needs of a switch: it asks, and it listens.
pub trait Controller: Send + Sync + 'static {
    /// Carries `request` out and returns when it has taken effect. May block for as long as opening
    /// devices takes, so the server calls it on a thread that may.
    ///
    /// # Errors
    /// An [`ApiError`] for the client; nothing has changed then.
    fn execute(&self, request: Request) -> Result<Response, ApiError>;

    /// Everything that happens from now on. A subscriber that is too slow loses the oldest events.
    fn subscribe(&self) -> broadcast::Receiver<Event>;

    /// Starts a capture.
    ///
    /// # Errors
    /// An [`ApiError`] for the client; nothing is captured then.
    fn capture(&self, request: CaptureRequest) -> Result<Capturing, ApiError>;
}

/// The head of a capture's stream that has its number.
pub const CAPTURE_HEADER: &str = "x-capture";

/// A capture that runs, as whoever reads it has it. It ends when this is dropped.
#[derive(Debug)]
pub struct Capturing {
    /// Its number, for [`Request::CaptureStop`].
    pub id: u64,
    /// The stream, in pieces.
    pub pieces: mpsc::Receiver<Vec<u8>>,
}
