//! What listings share: filters, opaque cursors bound to their query, and one line a result.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::params::bounded;
use super::problem::{Problem, Result};
use super::state::Api;
use crate::domain::quality::{Guard, Quality};
use crate::domain::{Freshness, Meta, Namespace, Timestamp};
use crate::store::{Cursor, ListFilter, ListOrder, ListQuery};

/// The longest page.
pub(super) const MAX_LIMIT: u64 = 1000;

/// Which results.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only those of this host.
    host: Option<String>,
    /// Only those whose url begins so, such as `https://example.com/docs/`.
    prefix: Option<String>,
    /// All variants of this url.
    url: Option<String>,
    /// Only those stored or confirmed at or after this time: RFC 3339 (`2026-01-15T10:30:00Z`) or Unix seconds.
    since: Option<String>,
    /// Only those stored or confirmed before this time: RFC 3339 or Unix seconds.
    until: Option<String>,
    /// Only those whose document has this `status_code`.
    status: Option<u16>,
    /// Expired ones too, as long as they are kept.
    #[serde(default)]
    expired: bool,
    /// At most so many a page, 1 to 1000; 100 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// Where the last page ended.
    cursor: Option<String>,
}

impl ListParams {
    /// The query, with its cursor checked.
    pub(super) fn query(&self, api: &Api, namespace: &Namespace, order: ListOrder) -> Result<ListQuery> {
        let limit = bounded("limit", self.limit, 1..=MAX_LIMIT, 100)?;
        let mut query = ListQuery {
            filter: filter(api, self.host.as_deref(), self.prefix.as_deref(), self.url.as_deref())?,
            since: time("since", self.since.as_deref())?,
            until: time("until", self.until.as_deref())?,
            status_code: self.status,
            live_at: (!self.expired).then(|| api.clock.now()),
            order,
            ..ListQuery::all(namespace, usize::try_from(limit).unwrap_or(1000))
        };
        query.after = self.cursor.as_deref().map(|cursor| read_cursor(&query, cursor)).transpose()?;
        Ok(query)
    }
}

/// At most one of host, prefix and url.
pub(super) fn filter(
    api: &Api,
    host: Option<&str>,
    prefix: Option<&str>,
    url: Option<&str>,
) -> Result<ListFilter> {
    match (host, prefix, url) {
        (None, None, None) => Ok(ListFilter::All),
        (Some(host), None, None) if !host.is_empty() => Ok(ListFilter::Host(host.to_ascii_lowercase())),
        (None, Some(prefix), None) if !prefix.is_empty() => Ok(ListFilter::Prefix(prefix.to_owned())),
        (None, None, Some(url)) if !url.is_empty() => {
            Ok(ListFilter::Url(api.config.results.canonical_urls.apply(url)?.into_owned()))
        }
        (Some(_), None, None) => Err(Problem::parameter("host", "must not be empty")),
        (None, Some(_), None) => Err(Problem::parameter("prefix", "must not be empty")),
        (None, None, Some(_)) => Err(Problem::parameter("url", "must not be empty")),
        _ => Err(Problem::new("invalid_parameter", "host, prefix and url exclude each other")),
    }
}

/// A time parameter.
pub(super) fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>> {
    text.map(|text| Timestamp::parse(text).map_err(|error| Problem::parameter(name, error))).transpose()
}

/// The first bytes of a cursor: a hash of the query that it belongs to.
fn fingerprint(query: &ListQuery) -> u64 {
    let stable = ListQuery {
        after: None,
        limit: 0,
        live_at: query.live_at.map(|_| Timestamp::default()),
        ..query.clone()
    };
    xxhash_rust::xxh3::xxh3_64(format!("{stable:?}").as_bytes())
}

fn read_cursor(query: &ListQuery, text: &str) -> Result<Cursor> {
    unbind(fingerprint(query), text).map(Cursor)
}

/// The opaque text of a cursor.
pub(super) fn cursor_text(query: &ListQuery, cursor: &Cursor) -> String {
    bind(fingerprint(query), &cursor.0)
}

/// A position as text that only the query of that fingerprint accepts.
pub(super) fn bind(fingerprint: u64, position: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([&fingerprint.to_le_bytes(), position].concat())
}

/// The position in a text that [`bind`] made for the same fingerprint.
pub(super) fn unbind(fingerprint: u64, text: &str) -> Result<Vec<u8>> {
    let foreign = || {
        Problem::new("invalid_cursor", "the cursor does not belong to this listing").with("field", "cursor")
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| foreign())?;
    let (mark, position) = bytes.split_at_checked(8).ok_or_else(foreign)?;
    if *mark != fingerprint.to_le_bytes() {
        return Err(foreign());
    }
    Ok(position.to_vec())
}

/// What is known about a result, without its body.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Summary {
    /// The url.
    #[schema(example = "https://example.com/")]
    url: String,
    /// The variant; empty for the default one.
    variant: String,
    /// `failed` for a failed result, which is kept beside the good one; missing for good ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "failed")]
    quality: Option<&'static str>,
    /// The hash of the content.
    #[schema(example = "af1349b9f5f9a1a6a0404dea36dcc949")]
    etag: String,
    /// The document's `status_code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 200)]
    status_code: Option<u16>,
    /// The document's `success`.
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    /// When the key was first stored.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the document was last stored or confirmed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When it stops being fresh.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// Seconds since it was stored or confirmed.
    age: u64,
    /// Seconds until it expires; negative once it has.
    ttl: i64,
    /// The document's size in bytes.
    raw_bytes: u64,
    /// Its size as stored, in bytes.
    stored_bytes: u64,
    /// The origin's validators.
    #[serde(skip_serializing_if = "KnownValidators::is_empty")]
    validators: KnownValidators,
    /// The names of its top-level fields that are not blank.
    fields: Vec<String>,
}

/// How listings and lines show a quality: only the failed one has a word.
pub(super) fn shown(quality: Quality) -> Option<&'static str> {
    quality.why().map(|_| quality.as_str())
}

/// What the origin said that lets a crawler ask whether the page has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct KnownValidators {
    /// The origin's `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    /// The origin's `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_modified: Option<String>,
    /// The fingerprint of the page's head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) head_fingerprint: Option<String>,
}

impl KnownValidators {
    pub(super) fn of(meta: &Meta) -> Self {
        let known = meta.validators.clone();
        Self {
            etag: known.etag,
            last_modified: known.last_modified,
            head_fingerprint: known.head_fingerprint,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Summary {
    pub(super) fn of(meta: &Meta, guard: &Guard, now: Timestamp) -> Self {
        let Freshness { age, ttl } = Freshness::of(meta, now);
        Self {
            url: meta.key.url().to_owned(),
            variant: meta.key.caller_variant().to_owned(),
            quality: shown(guard.of(meta)),
            etag: meta.etag.to_string(),
            status_code: meta.status_code,
            success: meta.success,
            created_at: meta.created_at,
            updated_at: meta.updated_at,
            expires_at: meta.expires_at,
            age,
            ttl,
            raw_bytes: meta.layout.raw_size(),
            stored_bytes: meta.layout.stored_size(),
            validators: KnownValidators::of(meta),
            fields: meta
                .layout
                .fields()
                .filter(|field| !field.blank)
                .map(|field| field.name.to_owned())
                .collect(),
        }
    }
}
