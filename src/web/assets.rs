//! The page itself, which is part of the program.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// A file of the page: its path, its type, and what is in it.
type Asset = (&'static str, &'static str, &'static str);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: &[Asset] = &[
    ("/index.html", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
];

/// The file at `path`; `/` is the page.
pub(super) fn find(path: &str) -> Option<Response> {
    let path = if path == "/" { "/index.html" } else { path };
    let (_, kind, text) = ASSETS.iter().find(|(known, ..)| *known == path)?;
    Some(([(header::CONTENT_TYPE, *kind)], *text).into_response())
}
