//! Answers of a node, for pages that may ask as often as they like.

use std::{collections::VecDeque, time::Duration};

use axum::body::Bytes;
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use super::{Node, json};
use crate::control::api::{ApiError, Request};

/// The last answers. One question at a time is asked, and the same again within
/// [`Self::LIFETIME`] is not: reading counters holds the workers still for a moment.
#[derive(Debug, Default)]
pub(super) struct Answers {
    quick: Mutex<VecDeque<Kept>>,
    /// Of examinations, which take their time.
    slow: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    question: Vec<u8>,
    at: Instant,
    answer: Bytes,
}

impl Answers {
    const LIFETIME: Duration = Duration::from_millis(250);
    const MOST: usize = 16;

    /// The bare value that `node` answers, as JSON.
    pub(super) async fn ask(&self, node: &Node, request: Request) -> Result<Bytes, ApiError> {
        let question = json::text(&request);
        let slot = match request {
            Request::Doctor(_) => &self.slow,
            _ => &self.quick,
        };
        let mut kept = slot.lock().await;
        kept.retain(|kept| kept.at.elapsed() < Self::LIFETIME);
        if let Some(known) = kept.iter().find(|kept| kept.question == question) {
            return Ok(known.answer.clone());
        }
        let answer = node.ask(request).await?;
        let value = serde_json::to_value(&answer).unwrap_or_default();
        let bare = value.get("value").unwrap_or(&Value::Null);
        let answer = Bytes::from(json::text(bare));
        if kept.len() >= Self::MOST {
            drop(kept.pop_front());
        }
        kept.push_back(Kept {
            question,
            at: Instant::now(),
            answer: answer.clone(),
        });
        Ok(answer)
    }
}
