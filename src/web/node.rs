//! A node: the switch of this process, or one behind a control socket.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::timeout,
};

use crate::control::{
    Capturing, Controller,
    api::{ApiError, CaptureRequest, Event, Request, Response},
    client::{Client, ClientError, Pieces},
    threads::Threads,
};

/// A switch with a name.
#[derive(Clone)]
pub struct Node {
    name: String,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Here(Arc<dyn Controller>, Threads),
    There(Client),
}

impl Node {
    /// The switch that `controller` is.
    pub fn here(name: impl Into<String>, controller: Arc<dyn Controller>) -> Self {
        Self {
            name: name.into(),
            place: Place::Here(controller, Threads::at_most(MOST_THREADS)),
        }
    }

    /// The switch that `client` asks.
    pub fn there(name: impl Into<String>, client: Client) -> Self {
        Self {
            name: name.into(),
            place: Place::There(client),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn ask(&self, request: Request) -> Result<Response, ApiError> {
        let asked = async {
            match &self.place {
                Place::Here(controller, threads) => {
                    let controller = Arc::clone(controller);
                    blocking(threads, move || controller.execute(request)).await
                }
                Place::There(client) => client.ask(&request).await.map_err(told),
            }
        };
        self.soon(asked).await
    }

    /// What comes of `asked`, unless it takes too long: a process that is stopped still has its
    /// socket, and would never answer.
    async fn soon<T>(
        &self,
        asked: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let answer = timeout(PATIENCE, asked).await;
        answer.unwrap_or_else(|_| {
            let (name, seconds) = (&self.name, PATIENCE.as_secs());
            Err(ApiError::failed(format!(
                "ask node {name}: no answer within {seconds} s; look at the log of its daemon"
            )))
        })
    }

    /// All events from now on.
    pub(super) async fn events(&self) -> Result<Events, ApiError> {
        Ok(match &self.place {
            Place::Here(controller, _) => Events::Here(controller.subscribe()),
            Place::There(client) => {
                let opened = async { client.follow_events().await.map_err(told) };
                Events::There(Lines::new(Stream::There(self.soon(opened).await?)))
            }
        })
    }

    /// The lines of a capture.
    pub(super) async fn capture(&self, request: CaptureRequest) -> Result<Lines, ApiError> {
        let stream = match &self.place {
            Place::Here(controller, threads) => {
                let controller = Arc::clone(controller);
                Stream::Here(blocking(threads, move || controller.capture(request)).await?)
            }
            Place::There(client) => {
                let opened = async { client.follow_capture(&request).await.map_err(told) };
                Stream::There(self.soon(opened).await?)
            }
        };
        Ok(Lines::new(stream))
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

async fn blocking<T: Send + 'static>(
    threads: &Threads,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    threads.run("page", work).await.unwrap_or_else(|error| {
        tracing::error!("ask the switch: {error}");
        Err(ApiError::failed(format!(
            "ask the switch: {error}; see the log"
        )))
    })
}

fn told(error: ClientError) -> ApiError {
    match error {
        ClientError::Api(error) => error,
        other => ApiError::failed(other.to_string()),
    }
}

/// Events of a node.
pub(super) enum Events {
    Here(broadcast::Receiver<Event>),
    There(Lines),
}

impl Events {
    /// The next one; `None`: no more will come.
    pub(super) async fn next(&mut self) -> Option<Event> {
        match self {
            Self::Here(receiver) => match receiver.recv().await {
                Ok(event) => Some(event),
                Err(RecvError::Lagged(count)) => Some(Event::Lost { count }),
                Err(RecvError::Closed) => None,
            },
            Self::There(lines) => loop {
                let line = lines.next().await?;
                // Another version may know other events.
                if let Ok(event) = serde_json::from_slice(&line) {
                    return Some(event);
                }
            },
        }
    }
}

/// Lines of a stream.
pub(super) struct Lines {
    stream: Stream,
    rest: Vec<u8>,
    /// Bytes of `rest` that are known to have no end of a line.
    searched: usize,
}

enum Stream {
    Here(Capturing),
    There(Pieces),
}

impl Lines {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            rest: Vec::new(),
            searched: 0,
        }
    }

    /// The next one; `None`: the stream has ended. To be dropped while it waits costs nothing.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let unknown = self.rest.get(self.searched..).unwrap_or_default();
            if let Some(end) = unknown.iter().position(|&byte| byte == b'\n') {
                let line = self.rest.drain(..=self.searched + end).collect();
                self.searched = 0;
                return Some(line);
            }
            self.searched = self.rest.len();
            if self.rest.len() > LONGEST_LINE {
                return None;
            }
            match &mut self.stream {
                Stream::Here(capturing) => {
                    let piece = capturing.pieces.recv().await?;
                    self.rest.extend_from_slice(&piece);
                }
                Stream::There(pieces) => {
                    let piece = pieces.next().await.ok()??;
                    self.rest.extend_from_slice(&piece);
                }
            }
        }
    }
}

/// For pages, which ask little and often.
const MOST_THREADS: usize = 16;
/// Longer than what any request takes that the page makes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Much more than a frame takes.
const LONGEST_LINE: usize = 1 << 20;
