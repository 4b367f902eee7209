//! `tapswitch web`: the live page of daemons that run already.

use std::{collections::BTreeSet, future::Future, io, io::Write, sync::Arc};

use tokio::{runtime, sync::Notify};

use super::{CliError, args::WebArgs, interrupt::Interrupt};
use crate::{
    control::client::Client,
    web::{self, Node, Token, WebError, WebListener},
};

/// Serves until somebody says that it is enough.
pub(super) fn run(args: WebArgs, own: &Client, out: &mut impl Write) -> Result<(), CliError> {
    let mut names = BTreeSet::new();
    if let Some(twice) = args.nodes.iter().find(|node| !names.insert(&node.name)) {
        let name = &twice.name;
        let text =
            format!("serve the live page: there are two nodes {name}; give each its own name");
        return Err(CliError::Usage(text));
    }
    let nodes = match args.nodes.is_empty() {
        true => vec![Node::there("switch", own.clone())],
        false => {
            let there =
                |node: super::args::NodeArg| Node::there(node.name, Client::new(node.socket));
            args.nodes.into_iter().map(there).collect()
        }
    };
    let token = args.token.as_deref().map(Token::read).transpose();
    let listener = token
        .map_err(WebError::from)
        .and_then(|token| WebListener::bind(args.listen, token))
        .map_err(|error| match error.is_usage() {
            true => CliError::Usage(error.to_string()),
            false => CliError::Failed(error.to_string()),
        })?;
    let ended = ended()?;
    writeln!(out, "live page: {}", listener.url())?;
    out.flush()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.and_then(|runtime| runtime.block_on(web::serve(listener, nodes, ended)));
    served.map_err(|error| CliError::Failed(format!("serve the live page: {error}")))
}

/// Ready at the first Ctrl-C or SIGTERM.
pub(super) fn ended() -> io::Result<impl Future<Output = ()>> {
    let wish = Arc::new(Notify::new());
    let told = Arc::clone(&wish);
    Interrupt::tell(move || told.notify_one())?;
    Ok(async move { wish.notified().await })
}
