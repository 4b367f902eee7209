//! `tapswitch web`: the live page of daemons that run already.

use std::{collections::BTreeSet, future::Future, io, io::Write, sync::Arc};

use tokio::{runtime, sync::Notify};

use super::{CliError, args::WebArgs, interrupt::Interrupt};
use crate::{
    control::{api::Request, client::Client},
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
    let nodes: Vec<(String, Client)> = match args.nodes.is_empty() {
        true => vec![("switch".to_owned(), own.clone())],
        false => {
            let there = |node: super::args::NodeArg| (node.name, Client::new(node.socket));
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
    let served = runtime.and_then(|runtime| {
        for (name, client) in nodes.clone() {
            runtime.spawn(tell_if_silent(name, client));
        }
        let nodes = nodes.into_iter();
        let nodes = nodes.map(|(name, client)| Node::there(name, client));
        runtime.block_on(web::serve(listener, nodes.collect(), ended))
    });
    served.map_err(|error| CliError::Failed(format!("serve the live page: {error}")))
}

/// Says so if nobody answers for a node. The page shows it when somebody does.
async fn tell_if_silent(name: String, client: Client) {
    if let Err(error) = client.ask(&Request::VtepShow).await {
        let text = format!("show node {name}: {error}; it appears as soon as it answers");
        drop(writeln!(io::stderr(), "tapswitch: {text}"));
    }
}

/// Ready at the first Ctrl-C or SIGTERM.
pub(super) fn ended() -> io::Result<impl Future<Output = ()>> {
    let wish = Arc::new(Notify::new());
    let told = Arc::clone(&wish);
    Interrupt::tell(move || told.notify_one())?;
    Ok(async move { wish.notified().await })
}
