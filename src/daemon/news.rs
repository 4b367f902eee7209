//! What workers tell about the overlay, on a thread that ends when they do.

use std::{
    io, iter,
    sync::{Arc, Weak, mpsc::Receiver},
    thread,
};

use super::switch::Inner;
use crate::datapath::{OverlayNews, Pinged};

/// Starts the thread.
pub(super) fn follow(inner: &Arc<Inner>, news: Receiver<OverlayNews>) -> io::Result<()> {
    let inner = Arc::downgrade(inner);
    thread::Builder::new()
        .name("overlay".to_owned())
        .spawn(move || listen(&inner, &news))
        .map(drop)
}

fn listen(inner: &Weak<Inner>, news: &Receiver<OverlayNews>) {
    let mut strangers = Vec::new();
    for first in news {
        let Some(inner) = inner.upgrade() else { return };
        // Peers are put in force all at once: each topology costs as much as all of them.
        let more = news.try_iter().take(AT_ONCE);
        for news in iter::once(first).chain(more) {
            match news {
                OverlayNews::Pinged(pinged) => {
                    // A worker's time is that of the beginning of its round, which may have been
                    // before the question. This is late by what it takes to wake this thread.
                    let at = inner.clock.now();
                    inner.pings.hand_over(Pinged { at, ..pinged });
                }
                OverlayNews::Stranger(stranger) => strangers.push(stranger),
            }
        }
        if !strangers.is_empty() {
            inner.meet(&mut inner.state(), &strangers);
            strangers.clear();
        }
    }
}

/// News that are looked at together.
const AT_ONCE: usize = 256;
