//! The arguments of `tapswitch bench`.

use std::path::PathBuf;

use clap::Args;

/// What to measure, and how long.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A short list of cases and systems, in less than two minutes
    #[arg(long)]
    pub quick: bool,
    /// Only these cases; see --list
    #[arg(long, value_name = "CASE,...", value_delimiter = ',')]
    pub cases: Vec<String>,
    /// What to compare: kernel, tapswitch, ovs, ovs-tso, vde; the first is what the others are
    /// compared with [default: all that are installed]
    #[arg(long, value_name = "SYSTEM,...", value_delimiter = ',')]
    pub systems: Vec<String>,
    /// One more tapswitch, run with these options, such as "--coalesce off"; may be repeated. With
    /// "--web 127.0.0.1:8080" somebody looks at the live page of each node
    #[arg(long, value_name = "RUN OPTIONS", allow_hyphen_values = true)]
    pub with: Vec<String>,
    /// One more switch: a program that joins interfaces eth0 of namespaces; may be repeated
    #[arg(long, value_name = "CMD")]
    pub program: Vec<String>,
    /// The congestion control of TCP, such as cubic [default: the system's]
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<String>,
    /// How often each system meets each case [default: 7, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: Option<u16>,
    /// How long each measurement counts [default: 2, with --quick 0.3]
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    pub seconds: Option<f64>,
    /// Only between pods of one node
    #[arg(long, conflicts_with = "overlay")]
    pub one_node: bool,
    /// Only between pods of two nodes
    #[arg(long)]
    pub overlay: bool,
    /// Draw the ratios as a picture, too
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Only list cases and systems
    #[arg(long)]
    pub list: bool,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds, 0.05 to 3600".to_owned()),
    }
}
