//! `/v1/results/lookup`: the frontier filter. Up to 10,000 keys in, one state each out, no bodies.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::body::{Accepts, Sent, read_json, receive};
use super::caller::Reader;
use super::leases;
use super::listing::shown;
use super::lookup::{Accepted, Missed, count_miss, count_state, is_news, json_type, wanted};
use super::params::{NoParams, Params};
use super::problem::{Problem, Result};
use super::state::Api;
use crate::domain::document::MAX_FIELDS;
use crate::domain::quality::{Quality, Wanted};
use crate::domain::{Freshness, Key, Meta, MissReason};
use crate::store::{Look, Seen, Source};

/// The most keys in one request.
const MAX_KEYS: usize = 10_000;

/// The largest request, decoded: 10,000 keys of more than 3 KiB.
const MAX_DECODED_BYTES: u64 = 32 << 20;

/// Which keys, and what counts as fresh.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LookupRequest<'a> {
    /// The keys, at most 10,000: a url, or an object with `url` and `variant`.
    #[serde(borrow)]
    #[schema(value_type = Vec<KeyText<'a>>, example = json!(["https://example.com/", {"url": "https://example.com/a", "variant": "mobile"}]))]
    keys: AtMost<KeyText<'a>, MAX_KEYS>,
    /// The greatest age in seconds.
    max_age: Option<u64>,
    /// How many seconds past expiry still count as stale rather than absent.
    stale: Option<u64>,
    /// Fields that must be there and not blank.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    require: Names,
    /// `best`: the good result if it is acceptable, else the failed one; `good` or `failed`: only that one.
    #[serde(default)]
    #[schema(schema_with = wanted)]
    quality: Wanted,
}

/// A list of which no more than `N` items are kept: the rest is only counted, however long it is.
#[derive(Debug)]
pub(super) struct AtMost<T, const N: usize> {
    items: Vec<T>,
    count: usize,
}

/// Names of fields: more than a document can have are of no use.
pub(super) type Names = AtMost<String, MAX_FIELDS>;

impl<T, const N: usize> Default for AtMost<T, N> {
    fn default() -> Self {
        Self { items: Vec::new(), count: 0 }
    }
}

impl<T, const N: usize> AtMost<T, N> {
    /// The items, unless there are more than `N`; `what` they are is said in the problem, as `limit_{what}`.
    pub(super) fn within(self, what: &str) -> Result<Vec<T>> {
        let count = self.count;
        if count <= N {
            return Ok(self.items);
        }
        Err(Problem::new(
            "body_too_large",
            format!("{count} {what}; at most {N} are accepted in one request"),
        )
        .with(&format!("limit_{what}"), N))
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Items<T, N> {
            type Value = AtMost<T, N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AtMost<T, N>, A::Error> {
                let mut kept = AtMost::default();
                while kept.count < N
                    && let Some(item) = list.next_element()?
                {
                    kept.items.push(item);
                    kept.count += 1;
                }
                while kept.count >= N && list.next_element::<IgnoredAny>()?.is_some() {
                    kept.count += 1;
                }
                Ok(kept)
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// A key: a url, or an object with `url` and `variant`.
#[derive(Debug)]
pub(super) enum KeyText<'a> {
    /// The default variant of a url.
    Url(Text<'a>),
    /// A variant of a url.
    Variant(KeyObject<'a>),
}

/// Read by hand: what serde derives for an untagged enum holds the value parsed first, in many times its size.
impl<'de: 'a, 'a> Deserialize<'de> for KeyText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = KeyText<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a url, or an object with `url` and `variant`")
            }
            fn visit_borrowed_str<E: serde::de::Error>(self, url: &'de str) -> Result<KeyText<'de>, E> {
                Ok(KeyText::Url(Text(Cow::Borrowed(url))))
            }
            fn visit_str<E: serde::de::Error>(self, url: &str) -> Result<KeyText<'de>, E> {
                Ok(KeyText::Url(Text(Cow::Owned(url.to_owned()))))
            }
            fn visit_map<A: MapAccess<'de>>(self, key: A) -> Result<KeyText<'de>, A::Error> {
                KeyObject::deserialize(MapAccessDeserializer::new(key)).map(KeyText::Variant)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl PartialSchema for KeyText<'_> {
    fn schema() -> RefOr<Schema> {
        let url =
            ObjectBuilder::new().schema_type(Type::String).description(Some("The default variant of a url."));
        OneOfBuilder::new()
            .item(url)
            .item(KeyObject::schema())
            .description(Some("A key: a url, or an object with `url` and `variant`."))
            .into()
    }
}

impl ToSchema for KeyText<'_> {}

/// A string, borrowed unless it has escapes.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A key with its parts named.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyObject<'a> {
    /// The url.
    #[serde(borrow)]
    #[schema(value_type = String)]
    url: Text<'a>,
    /// The variant; the default one when missing.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    variant: Option<Text<'a>>,
}

impl KeyText<'_> {
    /// The url and the variant.
    pub(super) fn parts(&self) -> (&str, Option<&str>) {
        match self {
            Self::Url(url) => (&url.0, None),
            Self::Variant(key) => (&key.url.0, key.variant.as_ref().map(|variant| &*variant.0)),
        }
    }
}

/// One state a key, in the order of the keys.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LookupResponse {
    /// How many keys are in each state.
    counts: Counts,
    /// The states.
    results: Vec<KeyState>,
}

/// How many keys are in each state.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Counts {
    fresh: usize,
    stale: usize,
    absent: usize,
    /// Absent, and somebody has the lease to fetch it.
    leased: usize,
    invalid: usize,
    /// What there is cannot be told: the store that may have it could not be asked.
    unknown: usize,
}

/// The state of one key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyState {
    /// `fresh` and `stale` can be read, `absent` cannot, `leased` cannot yet, `invalid` is no key. `unknown`: the store that
    /// may have it could not be asked just now.
    #[schema(example = "fresh")]
    state: &'static str,
    /// Why it is absent: `absent`, `expired`, `too_old`, `field_missing`, `failed`, `damaged`; what is unknown: `result`, or,
    /// of an absent one, whether somebody fetches it (`lease`); or what is wrong with the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'static, str>>,
    /// Seconds since it was stored or confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<u64>,
    /// Seconds until it expires; negative once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<i64>,
    /// The hash of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// `failed` where what can be read is a failed result.
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<&'static str>,
}

impl KeyState {
    fn without(state: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { state, reason: Some(reason.into()), age: None, ttl: None, etag: None, quality: None }
    }

    fn readable(meta: &Meta, freshness: Freshness, quality: Quality) -> Self {
        Self {
            state: if freshness.is_stale() { "stale" } else { "fresh" },
            reason: None,
            age: Some(freshness.age),
            ttl: Some(freshness.ttl),
            etag: Some(meta.etag.to_string()),
            quality: shown(quality),
        }
    }
}

/// Ask for the state of many keys.
///
/// A bad key is `invalid` and does not fail the others.
#[utoipa::path(post, path = "/v1/results/lookup", tag = "results", operation_id = "lookup_results",
    request_body(content = LookupRequest<'static>, content_type = "application/json",
        example = json!({"keys": ["https://example.com/", {"url": "https://example.com/a", "variant": "mobile"}]})),
    responses((status = 200, description = "One state a key, in their order", body = LookupResponse)))]
pub(super) async fn lookup(
    State(api): State<Api>,
    caller: Reader,
    _: Params<NoParams>,
    Sent { headers, body }: Sent,
) -> Result<Response> {
    let upload = receive(&api, &headers, body, Accepts::Json).await?.at_most(MAX_DECODED_BYTES);
    let raw = upload.source.read_whole(MAX_DECODED_BYTES)?.unwrap_or_default();
    let request: LookupRequest<'_> = read_json(&raw)?;
    let asked = request.keys.within("keys")?;
    let accepted = Accepted {
        limits: crate::domain::FreshnessLimits {
            max_age: request.max_age,
            stale: request.stale.unwrap_or(0),
        },
        require: request.require.within("names")?,
        quality: request.quality,
    };
    let mut results = Vec::with_capacity(asked.len());
    let mut keys: Vec<Key> = Vec::with_capacity(asked.len());
    let mut places = Vec::with_capacity(asked.len());
    for text in &asked {
        let (url, variant) = text.parts();
        match api.key(caller.namespace(), url, variant) {
            Ok(key) => {
                places.push(results.len());
                keys.push(key);
                results.push(KeyState::without("absent", MissReason::Absent.as_str()));
            }
            Err(problem) => results.push(KeyState::without("invalid", problem.detail().to_owned())),
        }
    }
    for (place, state) in places.iter().copied().zip(states_of(&api, &accepted, &keys).await?) {
        results[place] = state;
    }
    let absent: Vec<(usize, &Key)> =
        places.iter().copied().zip(&keys).filter(|(place, _)| results[*place].state == "absent").collect();
    match leases::held(&api, &absent.iter().map(|(_, key)| *key).collect::<Vec<_>>()).await {
        Some(held) => {
            for ((place, _), _) in absent.iter().zip(held).filter(|(_, held)| *held) {
                results[*place].state = "leased";
            }
        }
        None => absent.iter().for_each(|(place, _)| results[*place] = KeyState::without("unknown", "lease")),
    }
    let mut counts = Counts::default();
    for result in &results {
        match result.state {
            "fresh" => counts.fresh += 1,
            "stale" => counts.stale += 1,
            "absent" => counts.absent += 1,
            "leased" => counts.leased += 1,
            "unknown" => counts.unknown += 1,
            _ => counts.invalid += 1,
        }
    }
    let body = serde_json::to_vec(&LookupResponse { counts, results })
        .map_err(|error| Problem::new("internal_error", format!("the answer cannot be written: {error}")))?;
    Ok(([json_type()], body).into_response())
}

/// The states of keys, in their order, counted. Only where the one result of a key is no answer the other is looked at.
async fn states_of(api: &Api, accepted: &Accepted, keys: &[Key]) -> Result<Vec<KeyState>> {
    let judge = |key: &Key, seen: &Seen| -> std::result::Result<KeyState, Missed> {
        let version = seen.meta().map(|meta| meta.version);
        if api.shared().damaged.has(key.id(), version) {
            return Err(Missed { version, ..Missed::DAMAGED });
        }
        let (meta, place) = match seen {
            Seen::Told(Look::Entry(meta)) => (meta, None),
            Seen::Unconfirmed(meta, place) => (&**meta, Some(*place)),
            Seen::Told(Look::Deleted(_) | Look::Absent) => return Err(Missed::ABSENT),
            Seen::Unknown => return Err(Missed::UNKNOWN),
        };
        let judged = accepted.judge(api.guard(), meta, api.clock.now());
        let (freshness, quality) = judged.map_err(|missed| match place {
            None => missed,
            // Its owner may have one that is an answer.
            Some(_) => Missed { version: missed.version, ..Missed::UNKNOWN },
        })?;
        count_state(
            api,
            match quality {
                _ if place == Some(Source::Memory) => "hit_outage",
                Quality::Failed(_) => "hit_failed",
                Quality::Good if freshness.is_stale() => "stale",
                Quality::Good if place == Some(Source::Sqlite) => "hit_sqlite",
                Quality::Good => api.lookup_hit(key),
            },
        );
        Ok(KeyState::readable(meta, freshness, quality))
    };
    let first: Cow<'_, [Key]> = match accepted.quality {
        Wanted::Failed => keys.iter().map(Key::failed).collect(),
        Wanted::Best | Wanted::Good => Cow::Borrowed(keys),
    };
    let seen = api.results.survey(&first).await?;
    let mut states: Vec<_> = first.iter().zip(&seen).map(|(key, seen)| judge(key, seen)).collect();
    let (places, second): (Vec<usize>, Vec<Key>) = keys
        .iter()
        .enumerate()
        .filter(|(place, _)| states[*place].is_err())
        .filter_map(|(place, key)| Some((place, accepted.second(api.guard(), key)?)))
        .unzip();
    if !second.is_empty() {
        let seen = match api.results.survey(&second).await {
            Ok(seen) => seen,
            Err(error) if error.is_away() => vec![Seen::Unknown; second.len()],
            Err(error) => return Err(error.into()),
        };
        for ((place, key), seen) in places.into_iter().zip(&second).zip(&seen) {
            let state = &mut states[place];
            let first = state.as_ref().err().and_then(|missed| missed.version);
            // A failed result that is no answer need not be known.
            let is_needless = matches!(seen, Seen::Unknown) && accepted.quality == Wanted::Good;
            if is_needless || seen.meta().is_some_and(|meta| !is_news(meta, first)) {
                continue;
            }
            let beside = judge(key, seen);
            *state = match (&*state, beside) {
                (Err(missed), Err(beside)) => Err(missed.and(beside)),
                (_, found) => found,
            };
        }
    }
    let counted = |missed: Missed| {
        count_miss(api, "lookup", missed.reason);
        match missed.reason {
            MissReason::Unknown => KeyState::without("unknown", "result"),
            reason => KeyState::without("absent", reason.as_str()),
        }
    };
    Ok(states.into_iter().map(|state| state.unwrap_or_else(counted)).collect())
}
