//! The live page: what the switches of one or several nodes do, in a browser.
//!
//! ```text
//!   browser --GET /--------------> assets (nothing from elsewhere, nothing inline)
//!           --GET /api/live------> events: state, counters, frames     <--+
//!           --GET .../fdb/why----> who taught a row; also the replay   <--+-- hub --- node, node
//!           --POST .../request---> with the token: a few changes       ---+     (a switch of this
//!                                                                          process, or a socket)
//! ```
//! While nobody looks, nothing is asked of any switch. While somebody does, each node runs one
//! capture that has at most [`FRAMES`] frames a second, whatever the traffic is; its counters are
//! read once a second and its state when it has changed. All browsers get the same stream from one
//! ring: whoever is too slow loses events, and nobody waits.
//!
//! What bounds clients is in [`crate::control::server`]. Beyond that a request must name this host
//! (no DNS rebinding), must not come from another site's page, and without the token can change
//! nothing. Everything that a frame or a file could have named is told as JSON, in which `<`, `>` and
//! `&` are escaped, and the page has a strict Content-Security-Policy.

mod answers;
mod assets;
mod change;
mod guard;
mod hub;
mod json;
mod listener;
mod live;
mod node;
mod refusal;
mod ring;
mod routes;
mod steps;
mod token;

use std::{future::Future, io};

use crate::control::server::serve_tcp;

pub use self::{
    hub::FRAMES,
    listener::{WebError, WebListener},
    node::Node,
    token::{Token, TokenError},
};

/// Serves the page about `nodes` on `listener` until `shutdown` is ready.
///
/// # Errors
/// The socket cannot be waited on. What clients do is never an error.
pub async fn serve(
    listener: WebListener,
    nodes: Vec<Node>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (socket, gate) = listener.into_parts();
    let hub = hub::Hub::new(nodes);
    let watching = hub.start();
    let router = |stop| routes::router(hub, gate, stop);
    let served = serve_tcp(socket, router, shutdown).await;
    drop(watching);
    served
}
