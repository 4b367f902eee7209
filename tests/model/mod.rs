//! A bridge written down as simply as its rules are, to compare a fast one with.
//!
//! One HashMap and one Vec, and nothing of the code under test: addresses are byte arrays, time is
//! whole seconds, and what a frame meets is read from its bytes here again. Any test binary that
//! drives some bridge can include this with `mod model;`.
//!
//! Time goes in steps of [`TICK`](steps::TICK) seconds, longer than an entry may go without being
//! written down again, so whether an entry is alive is never a matter of rounding.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary that includes this uses its part"
)]

pub mod generator;
pub mod reference;
pub mod steps;
