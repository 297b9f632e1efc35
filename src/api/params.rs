//! Query parameters: unknown ones are refused, and every mistake names its parameter.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use super::query;

/// For routes that take no parameters: one that belongs into the body must not be lost without a word.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParams {}

/// The query string as a typed struct, which denies unknown fields.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parse(parts.uri.query().unwrap_or_default()).map(Params)
    }
}

/// Reads a query string.
fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    if let Some(params) = query::read(query) {
        return Ok(params);
    }
    // What is wrong with it is worth the time to say it well.
    // The form decoder replaces what is not UTF-8, which would give two urls one key.
    if query.contains('%')
        && let Some(pair) = query.split('&').find(|pair| !is_utf8(pair))
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = if is_utf8(value) { name.to_owned() } else { decoded(name) };
        return Err(Problem::parameter(&name, "it is not UTF-8 once percent-decoded"));
    }
    serde_urlencoded::from_str(query).map_err(|error| refused::<T>(query, &error))
}

fn is_utf8(text: &str) -> bool {
    percent_encoding::percent_decode_str(text).decode_utf8().is_ok()
}

fn decoded(name: &str) -> String {
    percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned()
}

/// The problem of a query string that does not fit, which is read once more to find out where.
fn refused<T: DeserializeOwned>(query: &str, error: &serde_urlencoded::de::Error) -> Problem {
    let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(query.as_bytes()));
    let path = serde_path_to_error::deserialize::<_, T>(pairs).err().map(|error| error.path().to_string());
    let detail = error.to_string();
    match field_of(path, &detail) {
        Some(name) => Problem::parameter(&name, detail),
        None => Problem::new("invalid_parameter", detail),
    }
}

/// The name of what is wrong: where the reader stood, or what its words quote.
pub(super) fn field_of(path: Option<String>, detail: &str) -> Option<String> {
    let quoted = || detail.split('`').nth(1).map(str::to_owned);
    path.filter(|path| path != "." && !path.contains('?')).or_else(quoted)
}

/// A comma-separated list of names; `None` when the parameter is missing.
pub(super) fn names(parameter: &str, text: Option<&str>) -> Result<Option<Vec<String>>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err(Problem::parameter(parameter, "an empty name; give names separated by commas"));
    }
    Ok(Some(names))
}

/// A number within bounds, or the default.
pub(super) fn bounded(
    parameter: &str,
    value: Option<u64>,
    bounds: std::ops::RangeInclusive<u64>,
    default: u64,
) -> Result<u64, Problem> {
    let value = value.unwrap_or(default);
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(Problem::parameter(
        parameter,
        format!("{value} is not between {} and {}", bounds.start(), bounds.end()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        url: String,
        max_age: Option<u64>,
    }

    #[test]
    fn reads_what_is_known_and_names_what_is_not() {
        let sample: Sample = parse("url=https%3A%2F%2Fa%2F%3Fx%3D1%262&max_age=5").expect("valid");
        assert_eq!((sample.url.as_str(), sample.max_age), ("https://a/?x=1&2", Some(5)));
        for (query, field) in
            [("url=a&unknown=1", Some("unknown")), ("max_age=1", Some("url")), ("url=a&url=b", Some("url"))]
        {
            let problem = parse::<Sample>(query).unwrap_err();
            assert_eq!(
                problem.to_json().get("field").and_then(|it| it.as_str()),
                field,
                "{}",
                problem.detail()
            );
        }
        for (query, field) in [
            ("url=a&max_age=-1", "max_age"),
            ("url=a&max_age=x", "max_age"),
            ("max_age=&url=a", "max_age"),
            ("url=%ff", "url"),
            ("url=a&%ff=1", "%ff"),
        ] {
            let problem = parse::<Sample>(query).unwrap_err();
            assert_eq!(problem.code(), "invalid_parameter", "{query}");
            assert_eq!(problem.to_json()["field"], field, "{query}");
        }
        assert_eq!(parse::<NoParams>("").map(drop).map_err(|problem| problem.code()), Ok(()));
        assert_eq!(parse::<NoParams>("ttl=1").unwrap_err().to_json()["field"], "ttl");
    }
}
