//! Forgetting who is where: `ip neigh flush`.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::neighbour::{NeighbourMessage, NeighbourState};

use super::{LinkError, with_socket};
use crate::sys::netns::NetnsFile;

/// Forgets the MAC addresses that a namespace has found out, so that it asks again.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn forget_neighbours(netns: &NetnsFile) -> Result<(), LinkError> {
    with_socket(Some(netns), async |handle| {
        let failed = |error| LinkError::step("read neighbours", error);
        let mut known: Vec<NeighbourMessage> = Vec::new();
        let mut messages = Box::pin(handle.neighbours().get().execute());
        while let Some(message) = messages.try_next().await.map_err(failed)? {
            let is_found_out = !matches!(
                message.header.state,
                NeighbourState::Permanent | NeighbourState::Noarp
            );
            if is_found_out {
                known.push(message);
            }
        }
        for message in known {
            // It may have gone by itself meanwhile.
            drop(handle.neighbours().del(message).execute().await);
        }
        Ok(())
    })
}
