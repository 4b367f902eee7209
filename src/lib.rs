//! tapswitch: a userspace virtual switch.

#![warn(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

pub mod bridge;
pub mod config;
pub mod control;
pub mod datapath;
pub mod names;
pub mod offload;
pub mod sim;
pub mod time;
pub mod wire;
