//! The catalogue of metrics: every name, its help, its labels, and the series that are at zero from the start.
//!
//! The doc comment of a field is its HELP text. No label ever carries a url, host, session or token.

use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Latency buckets in seconds, from 50 µs: a memory hit takes about that.
const LATENCY: [f64; 16] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Age buckets in seconds, from a minute to a quarter.
const AGE: [f64; 9] =
    [60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0, 7_776_000.0];

/// Wait buckets in seconds, from ten milliseconds to ten minutes.
const WAIT: [f64; 11] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0];

/// Delay buckets in seconds, from a millisecond to an hour.
const DELAY: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 1800.0, 3600.0];

/// The operations that are routed.
pub const ROUTED_OPERATIONS: [&str; 14] = [
    "get",
    "lookup",
    "put",
    "delete",
    "list",
    "session_get",
    "session_put",
    "session_delete",
    "session_list",
    "lease_acquire",
    "lease_renew",
    "lease_fence",
    "lease_end",
    "lease_held",
];

/// Why a backend answered: it owns the key; the owner did not have it; the owner has yet to get it; the owner could not
/// be reached; or nobody could answer.
pub const ROUTED_REASONS: [&str; 5] = ["owner", "other", "queued", "fallback", "refused"];

/// What can come of a row of the outbox.
pub const RELAY_OUTCOMES: [&str; 6] = ["delivered", "pulled", "gone", "open", "failed", "parked"];

/// What a shadow read can find.
pub const SHADOW_RESULTS: [&str; 5] = ["equal", "different", "only_sqlite", "only_dynamodb", "error"];

/// What a migration can make of an item.
pub const MIGRATION_OUTCOMES: [&str; 5] = ["copied", "present", "expired", "skipped", "failed"];

/// What a verification can find.
pub const VERIFY_OUTCOMES: [&str; 7] =
    ["equal", "missing_dynamodb", "missing_sqlite", "different", "deleted", "expired", "unreadable"];

/// What a look-up can come to.
pub const LOOKUP_RESULTS: [&str; 15] = [
    "hit_memory",
    "hit_sqlite",
    "hit_dynamodb",
    "hit_failed",
    "hit_outage",
    "stale",
    "miss_absent",
    "miss_expired",
    "miss_too_old",
    "miss_field",
    "miss_variant",
    "miss_failed",
    "miss_damaged",
    "miss_unknown",
    "error",
];

/// Why a result can be a failed one.
pub const FAILED_WHYS: [&str; 3] = ["success", "status", "blocked"];

/// The ways to look up.
pub const LOOKUP_OPS: [&str; 4] = ["get", "field", "batch_get", "lookup"];

/// What a write of a result can come to.
pub const WRITE_RESULTS: [&str; 9] =
    ["created", "replaced", "refreshed", "superseded", "queued", "deleted", "absent", "conflict", "error"];

/// The ways to write a result.
pub const WRITE_OPS: [&str; 6] = ["put", "patch", "delete", "batch_put", "import", "purge"];

/// What can come of a lease.
pub const LEASE_RESULTS: [&str; 9] =
    ["won", "held", "fresh", "failed", "renewed", "lost", "released", "stored", "outdated"];

/// What can be done with a session.
pub const SESSION_OPS: [&str; 11] =
    ["create", "get", "put", "patch", "delete", "status", "event", "events", "touch", "list", "batch_get"];

/// What an operation on a session can come to.
pub const SESSION_RESULTS: [&str; 6] = ["ok", "absent", "expired", "conflict", "rejected", "error"];

/// Why the plain layout cannot hold a document: its size, a value that attributes cannot express, or a field whose name
/// an attribute of ours has.
pub const PACKED_REASONS: [&str; 3] = ["size", "value", "name"];

/// The operations of a backend that are timed.
pub const BACKEND_OPERATIONS: [&str; 16] = [
    "get",
    "get_metas",
    "put",
    "delete",
    "list",
    "status",
    "session_get",
    "session_get_many",
    "session_put",
    "session_delete",
    "session_list",
    "lease_acquire",
    "lease_renew",
    "lease_fence",
    "lease_end",
    "lease_held",
];

macro_rules! catalogue {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident($name:literal $(, [$($label:literal),*])? $(; $buckets:expr)?);)*) => {
        /// All metrics of one process, in a registry of their own.
        #[derive(Clone, Debug)]
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ pub $field: $kind,)*
        }

        impl Metrics {
            fn register() -> prometheus::Result<Self> {
                let registry = Registry::new();
                $(
                    let help = concat!($($help,)+).trim();
                    let $field = catalogue!(@make $kind, concat!("crawlcache_", $name), help $(, [$($label),*])? $(; $buckets)?)?;
                    registry.register(Box::new($field.clone()))?;
                )*
                Ok(Self { registry, $($field,)* })
            }
        }
    };
    (@make IntGauge, $name:expr, $help:expr) => { IntGauge::new($name, $help) };
    (@make Gauge, $name:expr, $help:expr) => { Gauge::new($name, $help) };
    (@make GaugeVec, $name:expr, $help:expr, [$($label:literal),*]) => {
        GaugeVec::new(Opts::new($name, $help), &[$($label),*])
    };
    (@make IntCounterVec, $name:expr, $help:expr, [$($label:literal),*]) => {
        IntCounterVec::new(Opts::new($name, $help), &[$($label),*])
    };
    (@make CounterVec, $name:expr, $help:expr, [$($label:literal),*]) => {
        CounterVec::new(Opts::new($name, $help), &[$($label),*])
    };
    (@make IntGaugeVec, $name:expr, $help:expr, [$($label:literal),*]) => {
        IntGaugeVec::new(Opts::new($name, $help), &[$($label),*])
    };
    (@make Histogram, $name:expr, $help:expr; $buckets:expr) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets($buckets.to_vec()))
    };
    (@make HistogramVec, $name:expr, $help:expr, [$($label:literal),*]; $buckets:expr) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), &[$($label),*])
    };
}

catalogue! {
    /// Always 1; the label says which version runs.
    build_info: IntGaugeVec("build_info", ["version"]);
    /// Time from a request's head to its answer's head, by method, route pattern and status code.
    http_request_duration: HistogramVec("http_request_duration_seconds", ["method", "route", "status"]; LATENCY);
    /// Requests being served; those that wait for another's lease are not.
    http_requests_in_flight: IntGauge("http_requests_in_flight");
    /// Open connections.
    http_connections: IntGauge("http_connections");
    /// Requests and connections turned away because a limit was reached.
    http_shed: IntCounterVec("http_shed_total", ["reason"]);
    /// Requests refused for want of a valid token or scope.
    auth_failures: IntCounterVec("auth_failures_total", ["reason"]);
    /// Look-ups of results by what they came to; the hit rate is hit_* and stale over all.
    lookups: IntCounterVec("lookups_total", ["op", "result"]);
    /// Age of the results that were served.
    served_age: HistogramVec("served_age_seconds", ["op"]; AGE);
    /// Writes of results by what they came to.
    writes: IntCounterVec("writes_total", ["op", "result"]);
    /// Failed results that were stored, by why they are failed: what they say of themselves, their status, a block page.
    failed_results: IntCounterVec("failed_results_total", ["why"]);
    /// Leases: requests by what they came to, and how leases ended.
    leases: IntCounterVec("leases_total", ["result"]);
    /// Time that requests waited for another's lease.
    lease_wait: Histogram("lease_wait_seconds"; WAIT);
    /// Requests that wait for another's lease.
    lease_waiters: IntGauge("lease_waiters");
    /// Operations on sessions by what they came to.
    session_operations: IntCounterVec("session_operations_total", ["op", "result"]);
    /// Time that a backend took for an operation.
    backend_operation_duration: HistogramVec("backend_operation_duration_seconds", ["backend", "operation", "outcome"]; LATENCY);
    /// Failed operations of a backend by condition.
    backend_errors: IntCounterVec("backend_errors_total", ["backend", "reason"]);
    /// Capacity units that DynamoDB consumed, by table and operation.
    dynamodb_capacity: CounterVec("dynamodb_capacity_units_total", ["table", "operation", "unit"]);
    /// Documents that the plain layout could not hold and that were packed instead, by reason.
    dynamodb_packed: IntCounterVec("dynamodb_packed_instead_total", ["reason"]);
    /// Keys that a batch request left unprocessed and that were asked for again.
    dynamodb_unprocessed: IntCounterVec("dynamodb_unprocessed_keys_total", ["table"]);
    /// Requests to AWS that were tried again, a count for each further try.
    aws_retries: IntCounterVec("aws_retries_total", ["service"]);
    /// Whether a backend serves reads and writes (1), or not everything (0).
    backend_up: IntGaugeVec("backend_up", ["backend"]);
    /// Results held, expired ones that are not yet swept included.
    store_entries: IntGaugeVec("store_entries", ["backend"]);
    /// Sessions held, expired ones that are not yet swept included.
    store_sessions: IntGaugeVec("store_sessions", ["backend"]);
    /// Bytes of the results held: as stored, and decoded.
    store_bytes: IntGaugeVec("store_bytes", ["backend", "state"]);
    /// Bytes that a backend takes on its medium.
    store_size_bytes: IntGaugeVec("store_size_bytes", ["backend"]);
    /// The bound on what a backend takes on its medium; 0 where there is none.
    store_limit_bytes: IntGaugeVec("store_limit_bytes", ["backend"]);
    /// Results removed by the service itself: expired, or cold when the store was full.
    removed_entries: IntCounterVec("removed_entries_total", ["reason"]);
    /// Sessions removed because they had expired.
    removed_sessions: IntCounterVec("removed_sessions_total", ["reason"]);
    /// Whether the wall clock has jumped ahead by more than a day and is not yet believed (1): what the jump alone has
    /// expired is kept in the embedded store.
    clock_doubted: IntGauge("clock_doubted");
    /// How far a backend's clock is ahead of this host's, in seconds; negative where it is behind. It is measured from
    /// the `Date` of the backend's answers and has no series before the first one.
    backend_clock_ahead: GaugeVec("backend_clock_ahead_seconds", ["backend"]);
    /// By how much that may be wrong in either direction, in seconds: a `Date` has whole seconds, and many answers together
    /// tell more.
    backend_clock_uncertainty: GaugeVec("backend_clock_uncertainty_seconds", ["backend"]);
    /// Bytes held in memory: by the tier of results, and by ready-made answers.
    memory_bytes: IntGaugeVec("memory_bytes", ["kind"]);
    /// Entries held in memory.
    memory_entries: IntGaugeVec("memory_entries", ["kind"]);
    /// Share of keys that DynamoDB owns, 0 to 100, a forced side considered.
    routing_percent: Gauge("routing_percent");
    /// Whether a side is forced to own everything (1) or not (0).
    routing_forced: IntGaugeVec("routing_forced", ["side"]);
    /// Whether the side that is not the owner gets every write, too.
    routing_dual_write: IntGauge("routing_dual_write");
    /// Number of the policy in force; it grows with each change.
    routing_generation: IntGauge("routing_generation");
    /// Operations that were routed, by the backend that answered and why it was that one.
    routed: IntCounterVec("routed_operations_total", ["operation", "backend", "reason"]);
    /// Copies of entries to the side that owns them, by what came of them.
    copies: IntCounterVec("copies_total", ["to", "outcome"]);
    /// Rows in the outbox: those that wait, and those that are parked.
    outbox_rows: IntGaugeVec("outbox_rows", ["state"]);
    /// Age of the oldest row of the outbox that waits, in seconds; 0 when none does.
    outbox_oldest_seconds: Gauge("outbox_oldest_seconds");
    /// The most rows that the outbox may hold; 0 when it is not bounded.
    outbox_limit_rows: IntGauge("outbox_limit_rows");
    /// Rows of the outbox that were tried, by what came of them.
    relayed: IntCounterVec("relayed_total", ["kind", "outcome"]);
    /// Time from a write to its delivery by the relay.
    relay_delay: HistogramVec("relay_delay_seconds", ["kind"]; DELAY);
    /// State of a backend's circuit breaker, of DynamoDB's and of the bucket's: 0 closed, 1 on trial, 2 open.
    circuit_state: IntGaugeVec("circuit_state", ["backend"]);
    /// How often a circuit breaker has opened.
    circuit_opened: IntCounterVec("circuit_opened_total", ["backend"]);
    /// Reads after which both sides were compared, by what was found.
    shadow_reads: IntCounterVec("shadow_reads_total", ["result"]);
    /// Differences that shadow reads found, by field.
    shadow_differences: IntCounterVec("shadow_differences_total", ["field"]);
    /// Whether a migration or a verification is under way.
    job_running: IntGaugeVec("job_running", ["work"]);
    /// How far a migration or verification is, 0 to 1.
    job_progress: GaugeVec("job_progress_ratio", ["work"]);
    /// What a migration met, by direction, kind and outcome.
    migrated: IntCounterVec("migrated_total", ["to", "kind", "outcome"]);
    /// What a verification found, by outcome.
    verified: IntCounterVec("verified_total", ["outcome"]);
    /// Differences that a verification has mended, by the side that was mended.
    repaired: IntCounterVec("repaired_total", ["to", "outcome"]);
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything, with every series whose labels are known at zero.
    pub fn new() -> Self {
        let metrics = Self::register().expect("names and labels are valid and distinct, which a test sees");
        #[cfg(target_os = "linux")]
        metrics
            .registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("process metrics are registered once");
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.start_at_zero();
        metrics
    }

    fn start_at_zero(&self) {
        for reason in ["concurrency", "connections", "body_memory"] {
            self.http_shed.with_label_values(&[reason]);
        }
        for reason in ["missing", "invalid", "scope", "origin"] {
            self.auth_failures.with_label_values(&[reason]);
        }
        for op in LOOKUP_OPS {
            self.served_age.with_label_values(&[op]);
            LOOKUP_RESULTS.iter().for_each(|result| drop(self.lookups.with_label_values(&[op, result])));
        }
        for op in WRITE_OPS {
            WRITE_RESULTS.iter().for_each(|result| drop(self.writes.with_label_values(&[op, result])));
        }
        for why in FAILED_WHYS {
            self.failed_results.with_label_values(&[why]);
        }
        LEASE_RESULTS.iter().for_each(|result| drop(self.leases.with_label_values(&[result])));
        for op in SESSION_OPS {
            SESSION_RESULTS
                .iter()
                .for_each(|result| drop(self.session_operations.with_label_values(&[op, result])));
        }
        for reason in ["expired", "size"] {
            self.removed_entries.with_label_values(&[reason]);
        }
        self.removed_sessions.with_label_values(&["expired"]);
        for reason in PACKED_REASONS {
            self.dynamodb_packed.with_label_values(&[reason]);
        }
        for table in ["results", "sessions"] {
            self.dynamodb_unprocessed.with_label_values(&[table]);
        }
        for service in ["dynamodb", "s3"] {
            self.aws_retries.with_label_values(&[service]);
        }
        self.start_routing_at_zero();
        for kind in ["results", "answers"] {
            self.memory_bytes.with_label_values(&[kind]);
            self.memory_entries.with_label_values(&[kind]);
        }
    }

    fn start_routing_at_zero(&self) {
        for backend in ["sqlite", "dynamodb"] {
            self.routing_forced.with_label_values(&[backend]);
            for operation in ROUTED_OPERATIONS {
                for reason in ROUTED_REASONS {
                    self.routed.with_label_values(&[operation, backend, reason]);
                }
            }
            for outcome in ["copied", "present", "failed", "dropped"] {
                self.copies.with_label_values(&[backend, outcome]);
            }
            for kind in ["result", "session", "tombstone"] {
                MIGRATION_OUTCOMES
                    .iter()
                    .for_each(|outcome| drop(self.migrated.with_label_values(&[backend, kind, outcome])));
            }
            for outcome in ["repaired", "failed"] {
                self.repaired.with_label_values(&[backend, outcome]);
            }
        }
        for state in ["queued", "parked"] {
            self.outbox_rows.with_label_values(&[state]);
        }
        for kind in ["result", "session"] {
            self.relay_delay.with_label_values(&[kind]);
            RELAY_OUTCOMES.iter().for_each(|outcome| drop(self.relayed.with_label_values(&[kind, outcome])));
        }
        for backend in ["dynamodb", "s3"] {
            self.circuit_state.with_label_values(&[backend]);
            self.circuit_opened.with_label_values(&[backend]);
        }
        SHADOW_RESULTS.iter().for_each(|result| drop(self.shadow_reads.with_label_values(&[result])));
        // Not `job`: Prometheus itself names a target's job so, and would rename the label to `exported_job`.
        for work in ["migrate", "verify"] {
            self.job_running.with_label_values(&[work]);
            self.job_progress.with_label_values(&[work]);
        }
        VERIFY_OUTCOMES.iter().for_each(|outcome| drop(self.verified.with_label_values(&[outcome])));
    }

    /// Series of one backend, at zero; `reasons` are the conditions that its errors can name.
    pub fn add_backend(&self, backend: &str, reasons: &[&str]) {
        for operation in BACKEND_OPERATIONS {
            for outcome in ["ok", "error", "abandoned"] {
                self.backend_operation_duration.with_label_values(&[backend, operation, outcome]);
            }
        }
        for reason in reasons {
            self.backend_errors.with_label_values(&[backend, reason]);
        }
        for gauge in [
            &self.backend_up,
            &self.store_entries,
            &self.store_sessions,
            &self.store_size_bytes,
            &self.store_limit_bytes,
        ] {
            gauge.with_label_values(&[backend]);
        }
        for state in ["stored", "decoded"] {
            self.store_bytes.with_label_values(&[backend, state]);
        }
    }

    /// The counter of results that the service removed for `reason`: `expired` or `size`.
    pub fn removed(&self, reason: &str) -> IntCounter {
        self.removed_entries.with_label_values(&[reason])
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    ///
    /// # Errors
    /// What the encoder says; the values themselves cannot fail.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Every family that has a series, in order of name.
    pub fn families(&self) -> Vec<Family> {
        self.registry.gather().iter().map(Family::of).collect()
    }
}

/// What the exposition says about one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its full name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Its help.
    pub help: String,
    /// The names of its labels.
    pub labels: Vec<String>,
}

impl Family {
    fn of(family: &prometheus::proto::MetricFamily) -> Self {
        let labels =
            family.get_metric().first().map(prometheus::proto::Metric::get_label).unwrap_or_default();
        Self {
            name: family.name().to_owned(),
            kind: format!("{:?}", family.get_field_type()).to_lowercase(),
            help: family.help().to_owned(),
            labels: labels.iter().map(|label| label.name().to_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_there_at_zero() {
        let metrics = Metrics::new();
        metrics.add_backend("sqlite", &["full"]);
        let text = metrics.render().expect("renders");
        for line in [
            r#"crawlcache_lookups_total{op="get",result="hit_memory"} 0"#,
            r#"crawlcache_writes_total{op="put",result="created"} 0"#,
            r#"crawlcache_backend_errors_total{backend="sqlite",reason="full"} 0"#,
            r#"crawlcache_backend_operation_duration_seconds_count{backend="sqlite",operation="get",outcome="ok"} 0"#,
            "crawlcache_http_requests_in_flight 0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn names_follow_the_rules() {
        for Family { name, kind, help, .. } in Metrics::new().families() {
            assert!(help.ends_with('.') || name.starts_with("process_"), "{name}: {help}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        }
    }
}
