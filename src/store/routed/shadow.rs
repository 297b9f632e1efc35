//! Compares both sides after some of the reads, and counts what differs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Inner;
use super::remote::Patience;
use crate::domain::routing::Policy;
use crate::domain::{Entry, Key};
use crate::store::{GetOptions, Look, Result};

/// How long a write may take to be on both sides before it counts as a difference.
const SETTLING: Duration = Duration::from_secs(2);

/// Bodies above this size are not compared field by field.
const LARGEST: u64 = 4 << 20;

/// The fields of a document that are counted by name: any other may be named by whoever stored it.
const FIELDS: [&str; 29] = [
    "url",
    "html",
    "fit_html",
    "success",
    "cleaned_html",
    "media",
    "links",
    "downloaded_files",
    "js_execution_result",
    "screenshot",
    "pdf",
    "mhtml",
    "extracted_content",
    "metadata",
    "error_message",
    "session_id",
    "response_headers",
    "status_code",
    "ssl_certificate",
    "dispatch_result",
    "redirected_url",
    "network_requests",
    "console_messages",
    "tables",
    "head_fingerprint",
    "cached_at",
    "cache_status",
    "crawl_stats",
    "markdown",
];

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Equal,
    /// The fields that differ.
    Different(BTreeSet<&'static str>),
    OnlySqlite,
    OnlyDynamodb,
}

impl Inner {
    /// Compares the two sides of a key behind the answer, for the share of reads that the policy asks for.
    pub(super) fn maybe_compare(self: &Arc<Self>, key: &Key, policy: &Policy) {
        if policy.shadow_read <= 0.0 || !self.is_sampled(policy.shadow_read) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.comparisons).try_acquire_owned() else { return };
        let (inner, key) = (Arc::clone(self), key.clone());
        self.behind.spawn(async move {
            let result = match inner.compare_twice(&key).await {
                Ok(None) => return,
                Ok(Some(Found::Equal)) => "equal",
                Ok(Some(Found::OnlySqlite)) => "only_sqlite",
                Ok(Some(Found::OnlyDynamodb)) => "only_dynamodb",
                Ok(Some(Found::Different(fields))) => {
                    tracing::warn!(key = %key.id(), ?fields, "the two sides differ");
                    for field in fields {
                        inner.metrics.shadow_differences.with_label_values(&[field]).inc();
                    }
                    "different"
                }
                Err(error) => {
                    tracing::debug!(%error, "the two sides were not compared");
                    "error"
                }
            };
            inner.metrics.shadow_reads.with_label_values(&[result]).inc();
            drop(permit);
        });
    }

    /// Spreads the sample evenly over the reads.
    fn is_sampled(&self, share: f64) -> bool {
        /// 2^64 divided by the golden ratio: its multiples lie as far apart as can be.
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let place = self.reads.fetch_add(1, Ordering::Relaxed).wrapping_mul(STEP);
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more precision")]
        let place = (place >> 11) as f64 / (1_u64 << 53) as f64;
        place < share
    }

    /// What differs now and after a moment; nothing if a write is on its way.
    async fn compare_twice(&self, key: &Key) -> Result<Option<Found>> {
        let first = self.compare(key).await?;
        if first == Found::Equal {
            return Ok(Some(first));
        }
        tokio::time::sleep(SETTLING).await;
        if self.known(key).await?.queued.is_some() {
            return Ok(None);
        }
        self.compare(key).await.map(Some)
    }

    async fn compare(&self, key: &Key) -> Result<Found> {
        let local = self.local_results.look(key, GetOptions::scan()).await?;
        let call = self.remote.results.look(key, GetOptions::scan());
        let remote = self.remote.ask(Patience::Owner, call).await?;
        Ok(match (local, remote) {
            (Look::Entry(local), Look::Entry(remote)) => {
                let fields = differences(&local.entry, &remote.entry);
                if fields.is_empty() { Found::Equal } else { Found::Different(fields) }
            }
            (Look::Entry(_), _) => Found::OnlySqlite,
            (_, Look::Entry(_)) => Found::OnlyDynamodb,
            _ => Found::Equal,
        })
    }
}

/// The fields in which two entries differ.
fn differences(a: &Entry, b: &Entry) -> BTreeSet<&'static str> {
    let (x, y) = (&a.meta, &b.meta);
    let mut fields = BTreeSet::new();
    let mut compare = |field, differs: bool| {
        if differs {
            fields.insert(field);
        }
    };
    compare("version", x.version != y.version);
    // Each side keeps the earliest that it has seen, and they may have seen different ones.
    compare("created_at", x.version != y.version && x.created_at != y.created_at);
    compare("updated_at", x.updated_at != y.updated_at);
    compare("expires_at", x.expires_at != y.expires_at);
    compare("validators", x.validators != y.validators);
    if x.etag != y.etag {
        fields.insert("etag");
        if x.layout.raw_size().max(y.layout.raw_size()) <= LARGEST {
            fields.extend(different_fields(a, b));
        }
    }
    fields
}

fn different_fields(a: &Entry, b: &Entry) -> BTreeSet<&'static str> {
    let read = |entry: &Entry| -> Map<String, Value> {
        let raw = entry.document().decode().unwrap_or_default();
        serde_json::from_slice(&raw).unwrap_or_default()
    };
    let (a, b) = (read(a), read(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differing = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    differing.map(|name| FIELDS.into_iter().find(|field| field == name).unwrap_or("other_field")).collect()
}
