//! Who may ask at all, and what every answer says to the browser.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Token, refusal::Refusal};
use crate::control::Ticket;

/// What it takes to come in.
#[derive(Debug)]
pub(super) struct Gate {
    listens: IpAddr,
    token: Option<Token>,
}

impl Gate {
    pub(super) fn new(listens: IpAddr, token: Option<Token>) -> Self {
        Self { listens, token }
    }

    /// Whether anybody can change anything.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request is for this host. A page of another site can let that site's name stand for
    /// 127.0.0.1 (DNS rebinding), and would then read what is for this host only.
    fn is_for_us(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let name = authority.host();
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        match bare.unwrap_or(name).parse::<IpAddr>() {
            // On all addresses it does not know which are its own; a name it never is.
            Ok(ip) => ip.is_loopback() || ip == self.listens || self.listens.is_unspecified(),
            Err(_) => name.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Refuses whoever may not change anything.
    pub(super) fn check_change(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "change something: this page is read-only; start it with a token file (--web-token, \
                 or --token of tapswitch web)",
            ));
        };
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        // RFC 6454: with a request that changes something, a browser tells whose page made it.
        let own = text(header::HOST).map(|host| format!("http://{host}"));
        if text(header::ORIGIN) != own.as_deref() {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "change something: the header Origin is not this page's own; only the page itself \
                 may ask",
            ));
        }
        let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        match given {
            Some(word) if token.is(word.as_bytes()) => Ok(()),
            _ => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "change something: that is not the token; it is in the file that the server was \
                 started with",
            )),
        }
    }
}

/// Lets a request in that is for this host and not from another site's page, and tells the browser
/// with every answer what the page may do.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    // The head of such a request is all of it.
    if matches!(*request.method(), Method::GET | Method::HEAD)
        && let Some(ticket) = request.extensions().get::<Arc<Ticket>>()
    {
        ticket.request_is_complete();
    }
    let mut response = match refused(&gate, request.uri().path(), request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        let value = HeaderValue::from_static(value);
        drop(response.headers_mut().insert(name, value));
    }
    response
}

fn refused(gate: &Gate, path: &str, headers: &HeaderMap) -> Option<Refusal> {
    let host = headers.get(header::HOST);
    if !host.is_some_and(|host| host.to_str().is_ok_and(|host| gate.is_for_us(host))) {
        return Some(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "read the live page: the header Host names somebody else; ask for 127.0.0.1, [::1], \
             localhost or the address that it listens on",
        ));
    }
    // https://www.w3.org/TR/fetch-metadata/: who has not this header is no browser of today.
    let site = headers.get("sec-fetch-site");
    let is_alien = site.is_some_and(|site| site != "same-origin" && site != "none");
    // A link to the page is fine; one to what it asks is not.
    let is_visit = !path.starts_with("/api/")
        && headers
            .get("sec-fetch-mode")
            .is_some_and(|mode| mode == "navigate");
    (is_alien && !is_visit).then(|| {
        Refusal::new(
            StatusCode::FORBIDDEN,
            "read the live page: another site's page asks; open it by itself",
        )
    })
}

/// Everything from here, nothing inline, nowhere else to go.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_this_host() {
        let is_for =
            |listens: &str, host: &str| Gate::new(listens.parse().unwrap(), None).is_for_us(host);
        for host in [
            "127.0.0.1:80",
            "localhost:80",
            "LOCALHOST",
            "[::1]:80",
            "127.0.0.2",
        ] {
            assert!(is_for("127.0.0.1", host), "{host}");
        }
        for host in [
            "example.com",
            "127.0.0.1.example.com",
            "",
            "192.0.2.1",
            "a b",
            "@",
            "[::1",
        ] {
            assert!(!is_for("127.0.0.1", host), "{host}");
        }
        assert!(is_for("192.0.2.1", "192.0.2.1:80"));
        assert!(!is_for("192.0.2.1", "192.0.2.2:80"));
        assert!(is_for("0.0.0.0", "192.0.2.2:80"));
        assert!(!is_for("0.0.0.0", "example.com"));
    }
}
