//! The running switch: state, threads, and the way from a request to its effect.

mod apply;
mod capture;
mod clock;
mod directory;
mod doctor;
mod engine;
mod events;
mod fdb;
mod fdb_story;
mod history;
mod housekeeping;
mod knock;
mod losses;
mod moderation;
mod news;
mod options;
mod overlay;
mod patience;
mod ping;
mod place;
mod ports;
mod report;
mod rules;
mod run;
mod state;
mod switch;
mod tap_port;
mod trace;
mod underlay;
mod why;
mod worker;

pub use self::{
    clock::Clock,
    options::{DaemonOptions, Pin, Tuning},
    run::{RunError, load, run},
    switch::{Switch, SwitchOptions, default_name},
    underlay::{UdpAnswer, Underlay, UnderlayError, UnderlayOptions},
};
