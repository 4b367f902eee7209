//! A sender whose device takes no superframes.

use std::os::fd::AsFd;

use crate::{
    bench::topology::Pod,
    names::IfName,
    sys::{
        ethtool::{Offload, set_offload},
        netns::NetnsFile,
    },
};

/// A pod whose `eth0` takes no superframes, until this is dropped.
#[derive(Debug)]
pub(super) struct WithoutTso {
    netns: NetnsFile,
    /// What to turn on again.
    on: Vec<Offload>,
}

impl WithoutTso {
    pub(super) fn new(pod: &Pod) -> Result<Self, String> {
        let copy = pod.netns.as_fd().try_clone_to_owned();
        let copy = copy.map_err(|error| format!("open the namespace again: {error}"))?;
        let netns = NetnsFile::from_file(copy.into(), pod.netns.label().to_owned());
        let mut this = Self {
            netns: netns.map_err(|error| error.to_string())?,
            on: Vec::new(),
        };
        for offload in [Offload::Tso, Offload::Gso] {
            if this.set(offload, false)? {
                this.on.push(offload);
            }
        }
        Ok(this)
    }

    fn set(&self, offload: Offload, on: bool) -> Result<bool, String> {
        let done = self
            .netns
            .run_in(|| set_offload(&IfName::eth0(), offload, on));
        let done = done.map_err(|error| error.to_string())?;
        done.map_err(|error| {
            let netns = self.netns.label();
            format!("turn {offload:?} of eth0 in the {netns} off: {error}; leave the case out")
        })
    }
}

impl Drop for WithoutTso {
    fn drop(&mut self) {
        // GSO first: without it there is no TSO. What fails goes with the namespace.
        for &offload in self.on.iter().rev() {
            drop(self.set(offload, true));
        }
    }
}
