//! Durations as people write them: `300s`, `5m`, `1.5h`.

use std::time::Duration;

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
    fn what_is_written_is_read_back_exactly() {
        for nanos in [0, 1, 1_500, 2_000_000, 1_500_000_000, 300_000_000_000] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        assert_eq!(format_duration(Duration::from_secs(300)), "300s");
    }
}
