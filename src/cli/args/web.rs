//! The arguments of the live page: of `tapswitch web`, and of the demo.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::Args;

use crate::config::units::parse_listen;

/// The demo.
#[derive(Debug, Args)]
#[command(after_help = READERS)]
pub struct DemoArgs {
    /// Show it in a browser, with some traffic, until Ctrl-C; every user of this host can look
    #[arg(
        long,
        value_name = "[IP:]PORT",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:0",
        value_parser = parse_listen
    )]
    pub web: Option<SocketAddr>,
    /// Let whoever knows the word in this file change something from the page
    #[arg(long, value_name = "FILE", requires = "web")]
    pub web_token: Option<PathBuf>,
}

/// The live page of daemons that run already.
#[derive(Debug, Args)]
#[command(after_help = format!("\
{READERS}

Example:
  tapswitch web --node one=/run/one.sock --node two=/run/two.sock --listen 127.0.0.1:8080"))]
pub struct WebArgs {
    /// A daemon: a name for it, and its control socket; may be repeated [default: the one at
    /// --socket]
    #[arg(long = "node", value_name = "NAME=SOCKET")]
    pub nodes: Vec<NodeArg>,
    /// Where browsers find the page; port 0: any that is free
    #[arg(long, value_name = "[IP:]PORT", default_value = "127.0.0.1:0", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// Let whoever knows the word in this file change something from the page
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
}

/// Who sees what the page shows.
const READERS: &str = "\
Every user of this host can read the live page, and with it what frames contain; with another address \
everybody who reaches it, which takes a token file. The token guards changes only, and it and all else \
is sent in clear. Nobody but its owner may read the file: (umask 077; head -c 24 /dev/urandom | base64 \
> FILE)";

/// A node of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeArg {
    /// What it is called there.
    pub name: String,
    /// Its control socket.
    pub socket: PathBuf,
}

impl FromStr for NodeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, socket)) if !name.is_empty() && !socket.is_empty() && name.len() <= 64 => {
                Ok(Self {
                    name: name.to_owned(),
                    socket: socket.into(),
                })
            }
            _ => Err("write a name and a socket, such as one=/run/one.sock".to_owned()),
        }
    }
}
