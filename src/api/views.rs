//! `/v1/result/markdown` and its like: one field, as its own media type.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use utoipa::IntoParams;

use super::answers::{Answer, encode, sent_in_turn};
use super::body::{Sent, blocking};
use super::caller::Reader;
use super::lookup::{Accepted, Found, find, number, wanted};
use super::negotiate;
use super::params::Params;
use super::problem::{Problem, Result};
use super::state::Api;
use crate::domain::MissReason;
use crate::domain::document::Coding;
use crate::domain::quality::Wanted;
use crate::store::GetOptions;

/// The fields whose views are text, and are sent in the coding that the client prefers.
const TEXTS: [&str; 2] = ["markdown", "html"];

/// Views that need no more than this of the document, decoded, are made where they are asked for.
const INLINE_BYTES: u64 = 256 << 10;

/// Which result, and what counts as an answer.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ViewParams {
    /// The absolute url, percent-encoded; at most 8192 bytes.
    #[param(example = "https://example.com/", min_length = 1, max_length = 8192)]
    url: String,
    /// The variant; the default one when missing. At most 256 characters without white space.
    #[param(max_length = 256)]
    variant: Option<String>,
    /// The greatest age in seconds.
    max_age: Option<u64>,
    /// How many seconds past expiry are still acceptable.
    stale: Option<u64>,
    /// `best`: the good result if it is acceptable, else the failed one; `good` or `failed`: only that one.
    #[serde(default)]
    #[param(schema_with = wanted)]
    quality: Wanted,
    /// For markdown that was stored in several forms, which one, such as `fit_markdown`; `raw_markdown` when missing.
    form: Option<String>,
}

/// The markdown of a page.
#[utoipa::path(get, path = "/v1/result/markdown", tag = "results", operation_id = "get_result_markdown", params(ViewParams), responses(
    (status = 200, description = "The field `markdown`", body = String, content_type = "text/markdown"),
    (status = 304, description = "The client has it already"),
    (status = 404, description = "No such result, or it has no such field"),
    (status = 406, description = "None of the codings zstd, gzip and identity is acceptable"),
))]
pub(super) async fn markdown(
    State(api): State<Api>,
    caller: Reader,
    Params(params): Params<ViewParams>,
    Sent { headers, .. }: Sent,
) -> Result<Response> {
    let form = params.form.clone().unwrap_or_else(|| "raw_markdown".to_owned());
    view(&api, &caller, params, &headers, "markdown", move |raw| {
        let text = text("markdown", &raw, Some(&form))?;
        Ok(("text/markdown; charset=utf-8", text.into_bytes()))
    })
    .await
}

/// The html of a page, sandboxed: it runs no script and loads nothing.
#[utoipa::path(get, path = "/v1/result/html", tag = "results", operation_id = "get_result_html", params(ViewParams), responses(
    (status = 200, description = "The field `html`", body = String, content_type = "text/html"),
    (status = 304, description = "The client has it already"),
    (status = 404, description = "No such result, or it has no such field"),
    (status = 406, description = "None of the codings zstd, gzip and identity is acceptable"),
))]
pub(super) async fn html(
    State(api): State<Api>,
    caller: Reader,
    Params(params): Params<ViewParams>,
    Sent { headers, .. }: Sent,
) -> Result<Response> {
    view(&api, &caller, params, &headers, "html", |raw| {
        Ok(("text/html; charset=utf-8", text("html", &raw, None)?.into_bytes()))
    })
    .await
}

/// The screenshot of a page.
#[utoipa::path(get, path = "/v1/result/screenshot", tag = "results", operation_id = "get_result_screenshot", params(ViewParams), responses(
    (status = 200, description = "The field `screenshot`, decoded from base64", body = [u8], content_type = "image/png"),
    (status = 304, description = "The client has it already"),
    (status = 404, description = "No such result, or it has no such field"),
))]
pub(super) async fn screenshot(
    State(api): State<Api>,
    caller: Reader,
    Params(params): Params<ViewParams>,
    Sent { headers, .. }: Sent,
) -> Result<Response> {
    view(&api, &caller, params, &headers, "screenshot", |raw| {
        let image = binary("screenshot", raw)?;
        Ok((image_type(&image), image))
    })
    .await
}

/// The page as a PDF.
#[utoipa::path(get, path = "/v1/result/pdf", tag = "results", operation_id = "get_result_pdf", params(ViewParams), responses(
    (status = 200, description = "The field `pdf`, decoded from base64", body = [u8], content_type = "application/pdf"),
    (status = 304, description = "The client has it already"),
    (status = 404, description = "No such result, or it has no such field"),
))]
pub(super) async fn pdf(
    State(api): State<Api>,
    caller: Reader,
    Params(params): Params<ViewParams>,
    Sent { headers, .. }: Sent,
) -> Result<Response> {
    view(&api, &caller, params, &headers, "pdf", |raw| Ok(("application/pdf", binary("pdf", raw)?))).await
}

async fn view(
    api: &Api,
    caller: &Reader,
    params: ViewParams,
    headers: &HeaderMap,
    field: &'static str,
    render: impl FnOnce(Vec<u8>) -> Result<(&'static str, Vec<u8>)> + Send + 'static,
) -> Result<Response> {
    let key = api.key(caller.namespace(), &params.url, params.variant.as_deref())?;
    let mut accepted = Accepted::new(params.max_age, params.stale, None, params.quality)?;
    // A result without the field is no answer here, and is not counted as one.
    accepted.require.push(field.to_owned());
    let options = GetOptions::consistent(negotiate::wants_consistent(headers));
    let found = match find(api, &key, options, &accepted, "field").await? {
        Ok(found) => found,
        Err(missed) if missed.reason == MissReason::FieldMissing => return Err(no_field(field)),
        Err(missed) => return Err(missed.problem(&key)),
    };
    let entry = &found.hit.entry;
    // Images and PDFs are compressed already.
    let coding = if TEXTS.contains(&field) { negotiate::coding(headers)? } else { Coding::Identity };
    if negotiate::not_modified(headers, entry.meta.etag)? {
        return Ok(found.not_modified(coding));
    }
    let entry = Arc::clone(entry);
    let size = entry.meta.layout.field(field).map_or(0, |field| field.raw_end);
    let turn = api.shared().answers.turn(size).await?;
    let make = move || {
        let raw = entry.document().value(field)?.ok_or_else(|| no_field(field))?;
        let (media_type, bytes) = render(raw)?;
        // The turn goes along: the work goes on even when nobody waits for it any more.
        Ok((media_type, encode(bytes, coding)?, turn))
    };
    let (media_type, bytes, turn) = if size <= INLINE_BYTES { make()? } else { blocking(make).await? };
    let length = Some(bytes.len() as u64);
    Ok(response(&found, media_type, Answer { body: sent_in_turn(bytes, turn), length, coding }))
}

fn response(found: &Found, media_type: &'static str, answer: Answer) -> Response {
    let mut response = Response::new(answer.body);
    let headers = response.headers_mut();
    headers.extend(found.headers(answer.coding));
    if answer.coding != Coding::Identity {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(answer.coding.as_str()));
    }
    if let Some(length) = answer.length {
        headers.insert(CONTENT_LENGTH, number(length));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A stored page is somebody else's: it must not run with this service's origin.
    let policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

fn no_field(field: &str) -> Problem {
    Problem::new("field_not_found", format!("the result has no `{field}` that can be shown"))
        .with("reason", "field_missing")
        .with("field", field)
}

/// The string that a field is, or the one of that form in the object that it is. Nothing else is parsed into
/// memory: a field may be most of a large document.
fn text(field: &str, raw: &[u8], form: Option<&str>) -> Result<String> {
    let unreadable = |error: serde_json::Error| {
        Problem::new("field_not_found", format!("{field} cannot be shown as text: {error}"))
            .with("field", field)
    };
    match (raw.first(), form) {
        (Some(b'"'), _) => serde_json::from_slice(raw).map_err(unreadable),
        (Some(b'{'), Some(form)) => Form(form)
            .deserialize(&mut serde_json::Deserializer::from_slice(raw))
            .map_err(unreadable)?
            .ok_or_else(|| no_field(&format!("{field}.{form}"))),
        _ => Err(no_field(field)),
    }
}

/// Finds the string of that name in an object.
struct Form<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for Form<'_> {
    type Value = Option<String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Form<'_> {
    type Value = Option<String>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut forms: A) -> Result<Option<String>, A::Error> {
        let mut found = None;
        while let Some(name) = forms.next_key::<String>()? {
            if name == self.0 {
                let value: &RawValue = forms.next_value()?;
                found = value.get().starts_with('"').then_some(value);
            } else {
                forms.next_value::<IgnoredAny>()?;
            }
        }
        let text = found.map(|value| serde_json::from_str(value.get())).transpose();
        text.map_err(serde::de::Error::custom)
    }
}

fn binary(field: &str, raw: Vec<u8>) -> Result<Vec<u8>> {
    let text = text(field, &raw, None)?;
    drop(raw);
    let data = text.split_once("base64,").map_or(text.as_str(), |(_, data)| data);
    base64::engine::general_purpose::STANDARD.decode(data.trim()).map_err(|error| {
        Problem::new("field_not_found", format!("`{field}` is not base64: {error}")).with("field", field)
    })
}

fn image_type(image: &[u8]) -> &'static str {
    match image {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        _ => "application/octet-stream",
    }
}
