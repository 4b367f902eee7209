//! The stream of events to one browser.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::timeout,
};

use super::{
    hub::{Hub, Listening, NodeInfo, event_text},
    refusal::Refusal,
    ring::{Next, Reader},
};

/// What a browser still gets.
struct Stream {
    first: VecDeque<Bytes>,
    ring: Reader,
    stop: watch::Receiver<bool>,
    _listening: Listening,
    _place: OwnedSemaphorePermit,
}

#[derive(Serialize)]
struct Hello {
    nodes: Vec<NodeInfo>,
    /// Whether whoever has the token can change something.
    token: bool,
}

#[derive(Serialize)]
struct Missed {
    count: u64,
}

/// Everything from now on, and before it what holds now.
pub(super) fn live(
    hub: Arc<Hub>,
    has_token: bool,
    stop: watch::Receiver<bool>,
) -> Result<Response, Refusal> {
    let place = Arc::clone(&hub.places).try_acquire_owned().map_err(|_| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "open the live page: too many browsers show it already; close one",
        )
    })?;
    let nodes = hub.infos();
    // Before what is known is read: nothing falls in between.
    let (ring, listening) = hub.listen();
    let hello = Hello {
        nodes,
        token: has_token,
    };
    let mut first = VecDeque::from([
        Bytes::from_static(b"retry: 1000\n\n"),
        event_text("hello", &hello),
    ]);
    first.extend(hub.last());
    let stream = Stream {
        first,
        ring,
        stop,
        _listening: listening,
        _place: place,
    };
    let events = stream::unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((headers, Body::from_stream(events)).into_response())
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(event) = self.first.pop_front() {
            return Some(event);
        }
        let next = tokio::select! {
            next = timeout(SILENCE, self.ring.next()) => next,
            _ = self.stop.wait_for(|stop| *stop) => return None,
        };
        match next {
            Ok(Next::Event(event)) => Some(event),
            Ok(Next::Missed(count)) => Some(event_text("missed", &Missed { count })),
            Ok(Next::End) => None,
            // A comment, so that a browser that has gone is noticed.
            Err(_) => Some(Bytes::from_static(b":\n\n")),
        }
    }
}

/// How long a browser hears nothing, at most.
const SILENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_browser_that_is_too_slow_is_told_how_many_events_it_missed() {
        let hub = Hub::new(Vec::new());
        let (_stop, stopped) = watch::channel(false);
        let response = live(Arc::clone(&hub), false, stopped);
        let mut body = response.unwrap().into_body().into_data_stream();
        let mut next = async || {
            let piece = futures_util::StreamExt::next(&mut body).await;
            String::from_utf8(piece.unwrap().unwrap().to_vec()).unwrap()
        };
        assert_eq!(next().await, "retry: 1000\n\n");
        assert!(next().await.starts_with("event: hello\n"));
        for number in 0..300 {
            hub.send(event_text("event", &number));
        }
        assert_eq!(next().await, "event: missed\ndata: {\"count\":44}\n\n");
        assert_eq!(next().await, "event: event\ndata: 44\n\n");
    }
}
