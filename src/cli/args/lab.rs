//! The arguments of `tapswitch lab`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::values::{LangArg, SystemArg};

/// What to do with lessons.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// List the lessons
    #[command(aliases = ["ls"])]
    List {
        /// List the rows of the tutorials, and which lessons teach each
        #[arg(long)]
        rows: bool,
        /// The language.
        #[command(flatten)]
        lang: LangOption,
    },
    /// Tell what a lesson teaches, and what it types, without running it
    Show {
        /// Its name, or a file
        #[arg(value_name = "ID|FILE")]
        lesson: String,
        /// The language.
        #[command(flatten)]
        lang: LangOption,
    },
    /// Run a lesson: type its commands, tell its frames, and check what it asserts
    Run(LabRunArgs),
    /// Break the network of a lesson, for you to find out what is wrong
    Break(LabBreakArgs),
    /// Check the file of a lesson and print every error with line and column
    Check {
        /// The file, or - for standard input
        file: PathBuf,
    },
    /// Print the JSON Schema of a lesson's file
    Schema,
}

/// The language of what is told.
#[derive(Clone, Copy, Debug, Args)]
pub struct LangOption {
    /// The language [default: that of LC_ALL, LC_MESSAGES or LANG]
    #[arg(long)]
    pub lang: Option<LangArg>,
}

/// Which lesson, and how.
#[derive(Debug, Args)]
pub struct LabRunArgs {
    /// Its name, or a file
    #[arg(value_name = "ID|FILE")]
    pub lesson: String,
    /// What it runs on
    #[arg(
        long,
        value_name = "tapswitch|kernel",
        default_value = "tapswitch",
        hide_possible_values = true
    )]
    pub on: SystemArg,
    /// Wait at every frame, until you press Enter
    #[arg(long, conflicts_with = "json")]
    pub step: bool,
    /// The language.
    #[command(flatten)]
    pub lang: LangOption,
    /// Write the frames to this file, for Wireshark and tapswitch explain; what is there is replaced
    /// [default: if there are any, ID.pcapng, or ID-2.pcapng and so on where that is there already]
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Write the sequence diagram to this file, and do not print it
    #[arg(long, value_name = "FILE")]
    pub mermaid: Option<PathBuf>,
}

/// Which lesson, and what is to be broken.
#[derive(Debug, Args)]
pub struct LabBreakArgs {
    /// Its name, or a file
    #[arg(value_name = "ID|FILE")]
    pub lesson: String,
    /// Break this, and not what the seed says
    #[arg(long, value_name = "NAME")]
    pub fault: Option<String>,
    /// The same seed breaks the same [default: another one each time]
    #[arg(long, value_name = "N", conflicts_with = "fault")]
    pub seed: Option<u64>,
    /// What it runs on
    #[arg(
        long,
        value_name = "tapswitch|kernel",
        default_value = "tapswitch",
        hide_possible_values = true
    )]
    pub on: SystemArg,
    /// Give the hint at once
    #[arg(long)]
    pub hint: bool,
    /// Repair it as the lesson says, instead of opening a shell
    #[arg(long)]
    pub solve: bool,
    /// The language.
    #[command(flatten)]
    pub lang: LangOption,
}
