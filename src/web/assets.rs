//! The page itself, which is part of the program.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// A file of the page: its path, its type, and what is in it.
type Asset = (&'static str, &'static str, &'static str);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: &[Asset] = &[
    ("/index.html", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/classes.js", SCRIPT, include_str!("page/classes.js")),
    ("/details.js", SCRIPT, include_str!("page/details.js")),
    ("/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/draw.js", SCRIPT, include_str!("page/draw.js")),
    ("/hexview.js", SCRIPT, include_str!("page/hexview.js")),
    ("/i18n.js", SCRIPT, include_str!("page/i18n.js")),
    ("/layout.js", SCRIPT, include_str!("page/layout.js")),
    ("/live.js", SCRIPT, include_str!("page/live.js")),
    ("/log.js", SCRIPT, include_str!("page/log.js")),
    ("/model.js", SCRIPT, include_str!("page/model.js")),
    ("/panel.js", SCRIPT, include_str!("page/panel.js")),
    ("/phrases.js", SCRIPT, include_str!("page/phrases.js")),
    ("/player.js", SCRIPT, include_str!("page/player.js")),
    ("/plot.js", SCRIPT, include_str!("page/plot.js")),
    ("/routes.js", SCRIPT, include_str!("page/routes.js")),
    ("/scenes.js", SCRIPT, include_str!("page/scenes.js")),
    ("/stage.js", SCRIPT, include_str!("page/stage.js")),
    ("/told.js", SCRIPT, include_str!("page/told.js")),
    ("/told-zh.js", SCRIPT, include_str!("page/told-zh.js")),
    ("/views.js", SCRIPT, include_str!("page/views.js")),
    ("/words-en.js", SCRIPT, include_str!("page/words-en.js")),
    ("/words-zh.js", SCRIPT, include_str!("page/words-zh.js")),
];

/// The file at `path`; `/` is the page.
pub(super) fn find(path: &str) -> Option<Response> {
    let path = if path == "/" { "/index.html" } else { path };
    let (_, kind, text) = ASSETS.iter().find(|(known, ..)| *known == path)?;
    Some(([(header::CONTENT_TYPE, *kind)], *text).into_response())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/page");
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = names.map(|name| format!("/{name}")).collect();
        let mut served: Vec<String> = ASSETS.iter().map(|(path, ..)| (*path).to_owned()).collect();
        files.sort();
        served.sort();
        assert_eq!(served, files);
    }

    #[test]
    fn nothing_in_the_page_is_inline_or_from_elsewhere() {
        for (path, _, text) in ASSETS {
            for word in [
                " style=",
                "<style",
                "javascript:",
                "innerHTML",
                "eval(",
                "https://",
                "url(",
            ] {
                assert!(!text.contains(word), "{path} has {word}");
            }
        }
    }
}
