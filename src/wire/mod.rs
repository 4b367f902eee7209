//! What bytes mean: addresses, headers and checksums.
//!
//! A view checks once, in `new_checked`, and its accessors cannot fail afterwards. A frame that
//! does not pass the check is a counted drop, never an error and never a panic. Frames come from
//! strangers: nothing here indexes by a number that the bytes themselves supplied without checking.

mod describe;
mod ethernet;
mod hosts;
mod mac;
mod virtio;
mod vni;

pub mod checksum;

pub(crate) use self::describe::bytes;
pub use self::{
    describe::describe,
    ethernet::{EtherType, Frame, Truncated},
    hosts::hosts,
    mac::{MacAddr, ParseMacError, group_address},
    virtio::{GsoType, VirtioNetHdr},
    vni::{ParseVniError, Vni},
};
