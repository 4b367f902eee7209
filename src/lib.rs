//! tapswitch: a userspace virtual switch.

#![warn(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

pub mod attach;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod demo;
pub mod names;
pub mod netlink;
pub mod offload;
pub mod sim;
pub mod sys;
pub mod time;
pub mod wire;
