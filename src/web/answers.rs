//! Answers of a node, for pages that may ask as often as they like.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout},
};

use super::Node;
use crate::control::api::{ApiError, Request, Response};

/// The last answers. One question at a time is asked, and the same again within
/// [`Self::LIFETIME`] is not.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    question: Request,
    at: Instant,
    answer: Result<Arc<Response>, ApiError>,
}

impl Answers {
    const LIFETIME: Duration = Duration::from_millis(250);
    const MOST: usize = 16;

    /// What `node` answers. The answer is kept: it must be a small one.
    pub(super) async fn ask(
        &self,
        node: &Node,
        question: Request,
    ) -> Result<Arc<Response>, ApiError> {
        let mut kept = self.turn(node).await?;
        kept.retain(|kept| kept.at.elapsed() < Self::LIFETIME);
        if let Some(known) = kept.iter().find(|kept| kept.question == question) {
            return known.answer.clone();
        }
        let answer = node.ask(question.clone()).await.map(Arc::new);
        if kept.len() >= Self::MOST {
            drop(kept.pop_front());
        }
        kept.push_back(Kept {
            question,
            at: Instant::now(),
            answer: answer.clone(),
        });
        answer
    }

    /// The same for an answer that may be large: it is not kept.
    pub(super) async fn ask_once(
        &self,
        node: &Node,
        question: Request,
    ) -> Result<Response, ApiError> {
        let _turn = self.turn(node).await?;
        node.ask(question).await
    }

    /// Waits for the questions before, but not for a node that does not answer them.
    async fn turn(&self, node: &Node) -> Result<MutexGuard<'_, VecDeque<Kept>>, ApiError> {
        timeout(QUEUE, self.kept.lock()).await.map_err(|_| {
            let name = node.name();
            ApiError::failed(format!(
                "ask node {name}: it is still busy with an earlier question; ask again later"
            ))
        })
    }
}

/// How long a question waits for those before it.
const QUEUE: Duration = Duration::from_secs(2);
