//! Durations, sizes and addresses as people write them: `300s`, `1.5h`, `10M`, `localhost:8080`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// The text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration; write a number with a unit such as 300s, 5m, 1h or 500ms")]
pub struct ParseDurationError {
    text: String,
}

/// Reads `300s`, `5m`, `1.5h`, `500ms`; a number without a unit is seconds.
///
/// # Errors
/// [`ParseDurationError`] if it is none of these or more than the machine can count.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let refuse = || ParseDurationError {
        text: text.chars().take(40).collect(),
    };
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit = match unit.trim_start() {
        "" => 1_000_000_000,
        word => UNITS
            .iter()
            .find(|(name, _)| *name == word)
            .map(|&(_, nanos)| nanos)
            .ok_or_else(refuse)?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return Err(refuse());
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| refuse())?);
    let whole: u128 = whole.parse().map_err(|_| refuse())?;
    let fraction: u128 = fraction.parse().map_err(|_| refuse())?;
    let nanos = whole
        .checked_mul(unit)
        .and_then(|nanos| nanos.checked_add(fraction * unit / scale))
        .ok_or_else(refuse)?;
    let nanos = u64::try_from(nanos).map_err(|_| refuse())?;
    Ok(Duration::from_nanos(nanos))
}

/// Writes `duration` so that [`parse_duration`] reads the same: `300s`, `1500ms`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let written_in = ["s", "ms", "us", "ns"];
    let exact = UNITS
        .iter()
        .filter(|(name, _)| written_in.contains(name))
        .find(|&&(_, unit)| nanos.is_multiple_of(unit));
    let (name, unit) = exact.copied().unwrap_or(("ns", 1));
    format!("{}{name}", nanos / unit)
}

/// Reads a number of bytes, with a unit such as `9k`, `10M` or `1GiB`, or `bare` bytes each.
pub fn parse_bytes(text: &str, bare: u64) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor: u64 = match &text[digits.len()..] {
        "" => bare,
        "B" => 1,
        "k" | "K" | "kB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// The text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write IP:PORT such as 127.0.0.1:8080, or only PORT for 127.0.0.1")]
pub struct ParseListenError;

/// Reads where to listen: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; a port alone is one of
/// 127.0.0.1.
///
/// # Errors
/// [`ParseListenError`] if it is none of these.
pub fn parse_listen(text: &str) -> Result<SocketAddr, ParseListenError> {
    let local = text.strip_prefix("localhost").unwrap_or(text);
    let port = local.strip_prefix(':').unwrap_or(local);
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_port && (local.len() == text.len() || local.len() > port.len()) {
        let port = port.parse().map_err(|_| ParseListenError)?;
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| ParseListenError)
}

const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, millis) in [
            ("300s", 300_000),
            ("300", 300_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1.5h", 5_400_000),
            ("500ms", 500),
            ("0.5 s", 500),
            ("0", 0),
        ] {
            let read = parse_duration(text);
            assert_eq!(read, Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_duration_is_refused() {
        for text in [
            "",
            "s",
            "-1s",
            "1x",
            "1.s",
            ".5s",
            "1.2.3s",
            "99999999999999999999d",
            "1,5s",
            "5 minutes",
        ] {
            assert!(parse_duration(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn sizes_have_units_and_a_bare_number_is_what_the_option_says() {
        for (text, bytes) in [
            ("10", Some(10_000_000)),
            ("10M", Some(10_000_000)),
            ("1500B", Some(1500)),
            ("100k", Some(100_000)),
            ("2MiB", Some(2 << 20)),
            ("1G", Some(1_000_000_000)),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1X", None),
            ("99999999999999999999", None),
            ("9999999999999G", None),
            ("1.5M", None),
            ("1\u{e9}", None),
        ] {
            assert_eq!(parse_bytes(text, 1_000_000), bytes, "{text}");
        }
        assert_eq!(parse_bytes("9000", 1), Some(9000));
    }

    #[test]
    fn a_port_alone_is_one_of_this_host() {
        for text in ["8080", ":8080", "localhost:8080", "127.0.0.1:8080"] {
            let address = parse_listen(text).unwrap();
            assert_eq!(address.to_string(), "127.0.0.1:8080", "{text}");
        }
        assert_eq!(parse_listen("[::1]:0").unwrap().to_string(), "[::1]:0");
        for text in [
            "",
            ":",
            "localhost",
            "localhost8080",
            "web:80",
            "70000",
            "1.2.3.4",
            "+80",
        ] {
            assert_eq!(parse_listen(text), Err(ParseListenError), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_exactly() {
        for nanos in [0, 1, 1_500, 2_000_000, 1_500_000_000, 300_000_000_000] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        assert_eq!(format_duration(Duration::from_secs(300)), "300s");
    }
}
