//! What the clauses write: documents, puts and sessions with times that a reader can work out.

use std::path::Path;

use serde_json::json;

use crate::domain::document::{Encoded, encode};
use crate::domain::lease::{Claim, Lease, LeaseToken};
use crate::domain::session::{SessionId, SessionRecord, Status};
use crate::domain::{Entry, Key, Meta, Namespace, Timestamp, Validators, Version};
use crate::store::{
    Condition, GetOptions, Holder, ListQuery, Put, PutSession, ResultStore, SessionCondition, SessionQuery,
    SessionStore, sqlite,
};

/// How long an entry of [`put`] lives, in seconds.
pub(crate) const LIFE: u64 = 1000;

/// Small settings for a database in `directory`.
pub(crate) fn options(directory: &Path) -> sqlite::Options {
    sqlite::Options {
        data_dir: directory.to_owned(),
        readers: 2,
        cache_bytes: 1 << 20,
        max_bytes: 0,
        queue: 1024,
        encryption_key: crate::config::EncryptionKey::default(),
        tombstone_seconds: 0,
        outbox_rows: 0,
        is_routed: true,
    }
}

pub(crate) fn namespace(name: &str) -> Namespace {
    Namespace::new(name).expect("a namespace")
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// The default variant of a url in the default namespace.
pub(crate) fn key(url: &str) -> Key {
    Key::new(&Namespace::default(), url, "").expect("a key")
}

pub(crate) fn variant(url: &str, variant: &str) -> Key {
    Key::new(&Namespace::default(), url, variant).expect("a key")
}

/// A document that says `text`.
pub(crate) fn document(text: &str) -> Encoded {
    let raw = json!({"url": "https://example.com/", "success": true, "markdown": text, "html": format!("<p>{text}")});
    encode(&serde_json::to_vec(&raw).expect("JSON"), 1).expect("a document")
}

/// A put of a document that says `text`, at `second`: the time of its version, its creation and its update.
pub(crate) fn put(key: &Key, text: &str, second: u64) -> Put {
    let encoded = document(text);
    let meta = Meta {
        key: key.clone(),
        version: Version::first_of(at(second)),
        etag: encoded.etag,
        created_at: at(second),
        updated_at: at(second),
        expires_at: at(second + LIFE),
        status_code: Some(200),
        success: Some(true),
        validators: Validators { etag: Some(format!("\"{second}\"")), ..Validators::default() },
        layout: encoded.layout,
    };
    Put { meta, frame: Some(encoded.frame), condition: Condition::Any }
}

/// The same put under a condition.
pub(crate) fn given(condition: Condition, put: Put) -> Put {
    Put { condition, ..put }
}

/// The same put without its body.
pub(crate) fn bodiless(put: Put) -> Put {
    Put { frame: None, ..put }
}

/// What the document of an entry says.
pub(crate) fn text_of(entry: &Entry) -> String {
    let raw = entry.document().decode().expect("an intact document");
    let parsed: serde_json::Value = serde_json::from_slice(&raw).expect("JSON");
    parsed["markdown"].as_str().expect("text").to_owned()
}

/// All there is to know about an entry, to be compared.
pub(crate) fn facts(meta: &Meta) -> String {
    format!("{meta:?}")
}

/// What is stored under a key.
pub(crate) async fn stored(store: &dyn ResultStore, key: &Key) -> Option<std::sync::Arc<Entry>> {
    let found = store.get(key, GetOptions::default()).await;
    found.unwrap_or_else(|error| panic!("{store}: {error}")).map(|hit| hit.entry)
}

/// What the document under a key says; `None` without one.
pub(crate) async fn said(store: &dyn ResultStore, key: &Key) -> Option<String> {
    stored(store, key).await.map(|entry| text_of(&entry))
}

/// How long a lease of [`claim`] lasts, in seconds.
const LEASE: u64 = 30;

/// A claim of a page under a secret, at a second that is also its version's.
pub(crate) fn claim(key: &Key, secret: u8, second: u64) -> Claim {
    Claim {
        namespace: key.namespace().clone(),
        token: LeaseToken::new(key.id(), [secret; 16]),
        fence: Version::first_of(at(second)),
        now: at(second),
        until: at(second + LEASE),
    }
}

/// Who has made a claim.
pub(crate) fn holder(claim: &Claim) -> Holder {
    Holder { namespace: claim.namespace.clone(), token: claim.token }
}

/// The lease that a claim wins where nothing is remembered.
pub(crate) fn granted(claim: &Claim) -> Lease {
    Lease::grant(claim, None).expect("nobody holds it")
}

/// All pages of a listing, each no longer than the query's limit, as metadata.
pub(crate) async fn all_pages(store: &dyn ResultStore, query: &ListQuery) -> Vec<Meta> {
    let (mut query, mut metas) = (query.clone(), Vec::new());
    for _ in 0..10_000 {
        let page = store.list(&query).await.unwrap_or_else(|error| panic!("{store}: {error}"));
        assert!(
            page.items.len() <= query.limit,
            "{store}: a page of {} for {}",
            page.items.len(),
            query.limit
        );
        metas.extend(page.items);
        match page.next {
            None => return metas,
            next => query.after = next,
        }
    }
    panic!("{store}: a listing that does not end: {query:?}");
}

/// The urls (and variants, behind a space) that a listing holds, in its order.
pub(crate) async fn listed(store: &dyn ResultStore, query: &ListQuery) -> Vec<String> {
    let name = |meta: &Meta| format!("{} {}", meta.key.url(), meta.key.variant()).trim_end().to_owned();
    all_pages(store, query).await.iter().map(name).collect()
}

pub(crate) fn id(name: &str) -> SessionId {
    SessionId::new(name).expect("an id")
}

/// A session of project `p` in the status ACTIVE, created at `second`, its version of the same time.
pub(crate) fn session(name: &str, second: u64) -> SessionRecord {
    let session = json!({
        "id": name, "profile": "browser", "project_id": "p", "status": "ACTIVE", "created_at": second,
        "updated_at": second, "expires_at": second + LIFE, "ttl": {"mode": "fixed", "seconds": LIFE},
        "version": Version::first_of(at(second)).as_u64(), "state": {"note": name}, "unknown": [1, null, "é"],
    });
    let event = json!({"index": 0, "event_type": "created", "timestamp": second, "detail": {"by": name}});
    serde_json::from_value(json!({"session": session, "events": [event]})).expect("a record")
}

/// The same session in another status.
pub(crate) fn in_status(mut record: SessionRecord, status: Status) -> SessionRecord {
    record.session.status = status;
    record
}

pub(crate) fn put_session(record: SessionRecord, condition: SessionCondition) -> PutSession {
    PutSession { namespace: Namespace::default(), record, condition }
}

/// The ids that a listing of sessions holds, in its order, over all pages.
pub(crate) async fn listed_sessions(store: &dyn SessionStore, query: &SessionQuery) -> Vec<String> {
    let (mut query, mut ids) = (query.clone(), Vec::new());
    for _ in 0..10_000 {
        let page = store.list(&query).await.unwrap_or_else(|error| panic!("{store}: {error}"));
        assert!(
            page.items.len() <= query.limit,
            "{store}: a page of {} for {}",
            page.items.len(),
            query.limit
        );
        ids.extend(page.items.iter().map(|record| record.session.id.to_string()));
        match page.next {
            None => return ids,
            next => query.after = next,
        }
    }
    panic!("{store}: a listing that does not end: {query:?}");
}
