//! Numbers as DynamoDB keeps them: 38 digits, in one form whatever form they came in.

/// DynamoDB keeps this many significant digits.
const MAX_DIGITS: usize = 38;

/// Beyond this many zeros after the point, a number may come back with an exponent.
const MAX_LEADING_ZEROS: usize = 5;

/// Whether a JSON number comes back from DynamoDB with the very same text.
///
/// An exponent, a trailing zero after the point, `-0` and more than 38 digits do not.
pub(super) fn is_kept(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if unsigned == "0" {
        return text == "0";
    }
    let (whole, fraction) = match unsigned.split_once('.') {
        None => (unsigned, ""),
        Some((_, fraction)) if fraction.is_empty() || fraction.ends_with('0') => return false,
        Some(parts) => parts,
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || (whole.len() > 1 && whole.starts_with('0'))
    {
        return false;
    }
    if whole.len() + fraction.len() > MAX_DIGITS {
        return false;
    }
    whole != "0" || fraction.len() - fraction.trim_start_matches('0').len() <= MAX_LEADING_ZEROS
}

/// Whether `text` is a number in JSON (RFC 8259 section 6).
pub(super) fn is_json(text: &str) -> bool {
    let number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    number
        && text.ends_with(|last: char| last.is_ascii_digit())
        && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_form_is_kept() {
        for text in
            ["0", "1", "-1", "100", "1.5", "-0.125", "0.000001", &"9".repeat(38), "18446744073709551616"]
        {
            assert!(is_kept(text) && is_json(text), "{text}");
        }
        for text in ["-0", "0.0", "-0.0", "1.0", "1.50", "1e5", "1E5", "1.5e-3", "0.0000001", &"9".repeat(39)]
        {
            assert!(!is_kept(text) && is_json(text), "{text}");
        }
        for text in
            ["", "-", "01", "1.", ".5", "+1", "NaN", "Infinity", "1 ", " 1", "true", "0x10", "1e", "--1"]
        {
            assert!(!is_kept(text) && !is_json(text), "{text}");
        }
    }
}
