//! How operators talk to the daemon.

use tokio::sync::broadcast;

pub mod api;
pub mod client;
mod connection;
pub mod metrics;
mod routes;
pub mod server;
pub mod socket;

use self::api::{ApiError, Event, Request, Response};

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
}
