//! Settings: what people write, checked, and what it means.
//!
//! A file becomes a [`SwitchSpec`] in [`parse`], [`check()`](check::check) holds it against the rules,
//! and [`plan`](plan::plan) says how to get from the running switch to it.

pub mod check;
pub(crate) mod diagnostic;
mod file;
mod overlay;
pub mod plan;
pub(crate) mod reader;
pub mod spec;
mod text;
pub mod units;
mod write;

pub use self::{
    diagnostic::Diagnostic,
    file::{Cidr, ParseCidrError, parse},
    overlay::{Accept, ParsePeerError, ParseTosError, PeerAddr, Tos, VtepSpec},
    spec::{
        AtLimit, BridgeSpec, Mode, OffloadMode, Place, PortFlagsSpec, PortSpec, ReservedMask,
        RouteSpec, StaticSpec, SwitchSpec,
    },
    text::{TextError, read_text},
    write::write,
};

#[cfg(test)]
mod arbitrary;
