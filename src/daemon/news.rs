//! What workers tell about the overlay, on a thread that ends when they do.

use std::{
    io,
    sync::{Arc, Weak, mpsc::Receiver},
    thread,
};

use super::switch::Inner;
use crate::datapath::OverlayNews;

/// Starts the thread.
pub(super) fn follow(inner: &Arc<Inner>, news: Receiver<OverlayNews>) -> io::Result<()> {
    let inner = Arc::downgrade(inner);
    thread::Builder::new()
        .name("overlay".to_owned())
        .spawn(move || listen(&inner, &news))
        .map(drop)
}

fn listen(inner: &Weak<Inner>, news: &Receiver<OverlayNews>) {
    for news in news {
        let Some(inner) = inner.upgrade() else { return };
        match news {
            OverlayNews::Pinged(pinged) => inner.pings.hand_over(pinged),
            OverlayNews::Stranger(stranger) => inner.meet(&mut inner.state(), stranger),
        }
    }
}
