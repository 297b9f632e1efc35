//! RFC 7396 merge patches that keep every digit and every byte they do not change.

use super::DocumentError;
use super::split::{Members, check_names, split};

/// Objects nested deeper than this are replaced whole where a patch would merge them.
const MAX_DEPTH: usize = 64;

/// Applies a JSON merge patch to a JSON object: members are replaced, `null` removes, objects merge.
///
/// # Errors
/// [`DocumentError`] unless both are JSON objects whose members have distinct names.
pub fn merge_patch(target: &[u8], patch: &[u8]) -> Result<Vec<u8>, DocumentError> {
    let patch = split(patch)?;
    check_names(patch.iter().map(|(name, _)| name.as_ref()))?;
    let mut merged = Vec::with_capacity(target.len());
    merge(&split(target)?, &patch, 0, &mut merged)?;
    Ok(merged)
}

fn merge(
    target: &Members<'_>,
    patch: &Members<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), DocumentError> {
    let change_of = |name: &str| patch.iter().find(|(changed, _)| changed == name).map(|(_, value)| *value);
    out.push(b'{');
    for (name, value) in target {
        match change_of(name) {
            None => member(name, value, out)?,
            Some("null") => {}
            Some(change) => merged_member(name, Some(value), change, depth, out)?,
        }
    }
    for (name, change) in patch {
        let is_new = !target.iter().any(|(known, _)| known == name);
        if is_new && *change != "null" {
            merged_member(name, None, change, depth, out)?;
        }
    }
    out.push(b'}');
    Ok(())
}

fn merged_member(
    name: &str,
    value: Option<&str>,
    change: &str,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), DocumentError> {
    if !change.starts_with('{') || depth >= MAX_DEPTH {
        return member(name, change, out);
    }
    // What is no object counts as an empty one (RFC 7396 section 2).
    let inner = match value {
        Some(value) if value.starts_with('{') => split(value.as_bytes())?,
        _ => Members::new(),
    };
    begin_member(name, out)?;
    merge(&inner, &split(change.as_bytes())?, depth + 1, out)
}

fn member(name: &str, value: &str, out: &mut Vec<u8>) -> Result<(), DocumentError> {
    begin_member(name, out)?;
    out.extend_from_slice(value.as_bytes());
    Ok(())
}

fn begin_member(name: &str, out: &mut Vec<u8>) -> Result<(), DocumentError> {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, name).map_err(|error| DocumentError::Syntax(error.to_string()))?;
    out.push(b':');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(target: &str, patch: &str) -> String {
        String::from_utf8(merge_patch(target.as_bytes(), patch.as_bytes()).expect("objects")).expect("UTF-8")
    }

    /// The rows of RFC 7396 appendix A in which both sides are objects.
    #[test]
    fn the_examples_of_the_rfc() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merged(target, patch), result, "{target} + {patch}");
        }
    }

    #[test]
    fn keeps_what_it_does_not_change_to_the_byte() {
        assert_eq!(
            merged(r#"{"n":1.500,"o":{"x":1e2,"y":2}}"#, r#"{"o":{"y":3}}"#),
            r#"{"n":1.500,"o":{"x":1e2,"y":3}}"#
        );
    }

    #[test]
    fn a_patch_that_is_no_object_is_refused() {
        assert_eq!(merge_patch(b"{}", b"[1]").unwrap_err(), DocumentError::NotAnObject);
    }
}
