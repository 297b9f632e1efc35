//! Spans of time as arguments: `3600`, `90s`, `30m`, `12h`, `90d`, `2w`.

/// The seconds in a span: a whole number of seconds, or of the unit that its last letter names.
///
/// # Errors
/// A sentence that says what is accepted.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86_400),
        Some((at, 'w')) => (&text[..at], 7 * 86_400),
        _ => (text, 1),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let whole = if digits { number.parse::<u64>().ok() } else { None };
    whole.and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
        "give seconds, or a whole number with a unit (s, m, h, d, w), such as 3600, 90s or 30d".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units() {
        for (text, expected) in [
            ("0", 0),
            ("3600", 3600),
            ("90s", 90),
            ("30m", 1800),
            ("12h", 43_200),
            ("90d", 7_776_000),
            ("2w", 1_209_600),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in
            ["", "d", "-1", "+1", "1.5h", "1 d", "1é", "1y", "99999999999999999999", "99999999999999999w"]
        {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
