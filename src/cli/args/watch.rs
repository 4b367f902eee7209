//! Commands that watch.

use std::time::Duration;

use clap::Args;

use crate::{cli::values::EventKind, config::units::parse_duration, names::Name};

/// Which counters, and how often.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Only this port
    pub port: Option<Name>,
    /// Show them again and again, with rates; with --json a value a line
    #[arg(long, short)]
    pub watch: bool,
    /// How often with --watch
    #[arg(long, default_value = "1s", requires = "watch", value_parser = parse_duration, value_name = "TIME")]
    pub interval: Duration,
}

/// Which events.
#[derive(Debug, Args)]
pub struct MonitorArgs {
    /// Only events of these kinds [default: all]
    #[arg(value_name = "KIND")]
    pub kinds: Vec<EventKind>,
    /// Only events of this kind; may be repeated, or a list
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub also: Vec<EventKind>,
}

/// How the screen is.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// How often it is new
    #[arg(long, short, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub interval: Duration,
}
