//! The contracts as tests: one small function a clause, run against every store and every composition.
//!
//! A store joins with one line below: a module name and an expression whose future is an [`Opened`] store, or none
//! where it cannot be opened here. A new
//! clause is a function in one of the modules and its name in the list of the macro beside it.

mod fixtures;
mod leases;
mod model;
mod results;
mod results_conditions;
mod results_lists;
mod results_newest;
mod sessions;
mod sessions_lists;

use std::any::Any;
use std::sync::Arc;

pub(crate) use fixtures::{
    LIFE, at, bodiless, claim, facts, given, granted, holder, key, listed, options, put, session, text_of,
    variant,
};

use super::dynamodb::DynamodbResults;
use super::dynamodb::testing::{self, ResultsTable, SessionsShape, SessionsTable};
use super::memory::MemoryStore;
use super::metered::{Metered, MeteredLeases};
use super::routed::testing::{Street, policy};
use super::sqlite::SqliteStore;
use super::tiered::Tiered;
use super::{LeaseStore, ResultStore, SessionStore};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::Timestamp;
use crate::domain::routing::{Force, Policy};
use crate::metrics::Metrics;

/// Bytes of memory in front of a store: enough for all that a clause writes.
const TIER_BYTES: u64 = 64 << 20;

/// A store under test, and whatever must live as long as it does.
struct Opened<S: ?Sized> {
    store: Arc<S>,
    /// Dropped after the store.
    _held: Box<dyn Any + Send>,
}

impl<S: ?Sized> Opened<S> {
    fn new(store: Arc<S>, held: impl Any + Send) -> Self {
        Self { store, _held: Box::new(held) }
    }
}

fn sqlite() -> (SqliteStore, tempfile::TempDir) {
    sqlite_with(0)
}

/// A database that keeps tombstones so long.
fn sqlite_with(tombstone_seconds: u64) -> (SqliteStore, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Clock::manual(Timestamp::from_secs(1000));
    let options = super::sqlite::Options { tombstone_seconds, ..options(directory.path()) };
    let store = SqliteStore::open(&options, &clock, &Metrics::new()).expect("opens");
    (store, directory)
}

async fn memory_results() -> Opened<dyn ResultStore> {
    Opened::new(Arc::new(MemoryStore::new()), ())
}

async fn sqlite_results() -> Opened<dyn ResultStore> {
    let (store, directory) = sqlite();
    Opened::new(Arc::new(store), directory)
}

async fn remembering_results() -> Opened<dyn ResultStore> {
    let (store, directory) = sqlite_with(LIFE);
    Opened::new(Arc::new(store), directory)
}

async fn metered_results() -> Opened<dyn ResultStore> {
    let (store, directory) = sqlite();
    Opened::new(Arc::new(Metered::results(Arc::new(store), &Metrics::new(), "sqlite")), directory)
}

async fn tiered_memory_results() -> Opened<dyn ResultStore> {
    Opened::new(Arc::new(Tiered::new(Arc::new(MemoryStore::new()), TIER_BYTES)), ())
}

async fn tiered_metered_results() -> Opened<dyn ResultStore> {
    let (store, directory) = sqlite();
    let metered = Metered::results(Arc::new(store), &Metrics::new(), "sqlite");
    Opened::new(Arc::new(Tiered::new(Arc::new(metered), TIER_BYTES)), directory)
}

/// A store in DynamoDB with a table of its own.
async fn dynamodb(change: impl FnOnce(&mut Config)) -> Option<(DynamodbResults, ResultsTable)> {
    let mut config = Config { dynamodb: testing::settings()?, ..Config::default() };
    change(&mut config);
    let aws = testing::connect(&config.dynamodb).await;
    let table = ResultsTable::make(&aws, &config.dynamodb).await;
    let clock = Clock::manual(Timestamp::from_secs(1000));
    Some((DynamodbResults::new(aws, &config, &clock, &Metrics::new()), table))
}

async fn dynamodb_results(change: impl FnOnce(&mut Config)) -> Option<Opened<dyn ResultStore>> {
    let (store, table) = dynamodb(change).await?;
    Some(Opened::new(Arc::new(store), table))
}

async fn tiered_dynamodb_results() -> Option<Opened<dyn ResultStore>> {
    let (store, table) = dynamodb(|_| {}).await?;
    let metered = Metered::results(Arc::new(store), &Metrics::new(), "dynamodb");
    Some(Opened::new(Arc::new(Tiered::new(Arc::new(metered), TIER_BYTES)), table))
}

async fn memory_sessions() -> Opened<dyn SessionStore> {
    Opened::new(Arc::new(MemoryStore::new()), ())
}

async fn sqlite_sessions() -> Opened<dyn SessionStore> {
    let (store, directory) = sqlite();
    Opened::new(Arc::new(store), directory)
}

async fn remembering_sessions() -> Opened<dyn SessionStore> {
    let (store, directory) = sqlite_with(LIFE);
    Opened::new(Arc::new(store), directory)
}

async fn metered_sessions() -> Opened<dyn SessionStore> {
    let (store, directory) = sqlite();
    Opened::new(Arc::new(Metered::sessions(Arc::new(store), &Metrics::new(), "sqlite")), directory)
}

async fn dynamodb_sessions(shape: SessionsShape) -> Option<Opened<dyn SessionStore>> {
    let table = SessionsTable::make(shape).await?;
    Some(Opened::new(Arc::new(table.store.clone()), table))
}

async fn routed_results(policy: Policy) -> Opened<dyn ResultStore> {
    let street = Street::new(policy).await;
    Opened::new(Arc::new(street.routed.clone()), street)
}

async fn routed_sessions(policy: Policy) -> Opened<dyn SessionStore> {
    let street = Street::new(policy).await;
    Opened::new(Arc::new(street.routed.sessions()), street)
}

/// Routed over a table of its own.
async fn routed_over_dynamodb(policy: Policy) -> Option<Opened<dyn ResultStore>> {
    let (store, table) = dynamodb(|_| {}).await?;
    let street = Street::new(policy).await;
    let routed = street.over_others(Arc::new(store), Arc::new(MemoryStore::new()));
    Some(Opened::new(Arc::new(routed), (street, table)))
}

async fn routed_sessions_over_dynamodb(
    shape: SessionsShape,
    policy: Policy,
) -> Option<Opened<dyn SessionStore>> {
    let table = SessionsTable::make(shape).await?;
    let street = Street::new(policy).await;
    let routed = street.over_others(Arc::new(MemoryStore::new()), Arc::new(table.store.clone()));
    Some(Opened::new(Arc::new(routed.sessions()), (street, table)))
}

async fn memory_leases() -> Opened<dyn LeaseStore> {
    Opened::new(Arc::new(MemoryStore::new()), ())
}

async fn sqlite_leases() -> Opened<dyn LeaseStore> {
    let (store, directory) = sqlite();
    Opened::new(Arc::new(store), directory)
}

async fn metered_leases() -> Opened<dyn LeaseStore> {
    let (store, directory) = sqlite();
    Opened::new(Arc::new(MeteredLeases::new(Arc::new(store), &Metrics::new(), "sqlite")), directory)
}

async fn dynamodb_leases() -> Option<Opened<dyn LeaseStore>> {
    let (store, table) = dynamodb(|_| {}).await?;
    Some(Opened::new(Arc::new(store), table))
}

async fn routed_leases(policy: Policy) -> Opened<dyn LeaseStore> {
    let street = Street::new(policy).await;
    Opened::new(Arc::new(street.leases()), street)
}

async fn routed_leases_over_dynamodb(policy: Policy) -> Option<Opened<dyn LeaseStore>> {
    let (store, table) = dynamodb(|_| {}).await?;
    let street = Street::new(policy).await;
    let routed = street.over_others(Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let leases = routed.leases(Arc::new(street.here.clone()), Arc::new(store));
    Some(Opened::new(Arc::new(leases), (street, table)))
}

/// Forced to one side.
fn forced(force: Force, policy: Policy) -> Policy {
    Policy { force, ..policy }
}

/// Turns clauses into tests of the store that an expression opens: `contract! { clauses in module, of open() }`.
macro_rules! contract {
    ($open:expr; $($clauses:ident :: { $($clause:ident),* $(,)? })*) => {
        $($(
            #[tokio::test]
            async fn $clause() {
                // A store that needs a server which is not there has nothing to show.
                let Some(opened) = Option::<super::Opened<_>>::from($open.await) else { return };
                super::$clauses::$clause(&*opened.store).await;
            }
        )*)*
    };
}

/// The tests of a store of results; behind a semicolon, those of a store for which not all clauses hold by nature.
macro_rules! result_store_contract {
    ($module:ident, $open:expr) => {
        result_store_contract! { $module, $open;
            results::{ the_status_counts }
            results_lists::{ places_ascend_with_time }
        }
    };
    ($module:ident, $open:expr; $($more:tt)*) => {
        mod $module {
            contract! { $open;
                results::{
                    a_miss_is_none,
                    what_was_put_comes_back,
                    a_document_may_lack_every_optional_fact,
                    a_replacement_keeps_the_earlier_creation,
                    the_first_put_creates,
                    other_content_replaces,
                    the_same_content_refreshes,
                    a_refresh_keeps_the_layout_of_the_stored_body,
                    an_older_version_changes_nothing,
                    a_replay_changes_nothing,
                    a_refresh_without_body_changes_times_and_validators,
                    a_refresh_without_body_needs_that_body,
                    a_refresh_without_body_may_be_old,
                    what_was_deleted_can_be_put_again,
                    variants_are_entries_of_their_own,
                    namespaces_are_apart,
                    metas_come_in_the_order_of_the_keys,
                    metas_of_many_keys,
                    long_and_foreign_urls,
                    five_megabytes,
                    concurrent_puts_settle_on_the_newest,
                    a_consistent_read_sees_every_write,
                }
                results_conditions::{
                    a_put_under_any_condition_happens,
                    a_put_if_absent,
                    a_put_if_present,
                    a_put_if_the_content_matches,
                    a_failed_put_changes_nothing,
                    a_delete_removes,
                    a_delete_of_nothing_says_so,
                    a_delete_spares_what_is_newer,
                    a_delete_observes_its_condition,
                }
                results_newest::{
                    a_put_of_its_own_keeps_its_version_where_it_is_the_newest,
                    a_put_of_its_own_comes_after_what_is_newer,
                    a_condition_of_its_own_put_is_about_what_is_newer,
                    a_put_of_its_own_comes_after_a_newer_deletion,
                    a_deletion_of_its_own_comes_after_what_is_newer,
                }
                results_lists::{
                    an_empty_store_has_one_empty_page,
                    newest_and_oldest_first,
                    a_confirmed_entry_moves_to_the_front,
                    by_host,
                    by_prefix,
                    by_url,
                    by_time,
                    by_status_code,
                    only_what_lives,
                    filters_combine,
                    lists_show_one_namespace,
                    pages_of_any_size_show_each_entry_once,
                    pages_of_one_url_show_each_variant_once,
                    equal_times_lose_nothing,
                    a_thousand_entries_in_one_page,
                    a_listing_has_whole_metadata,
                    exports_survive_writes,
                    foreign_cursors_are_refused,
                    any_cursor_of_the_right_length_is_survived,
                    a_listing_goes_on_behind_each_place,
                }
                $($more)*
            }
        }
    };
}

/// The tests of a store of sessions; behind a semicolon, those of a store for which not all clauses hold by nature.
macro_rules! session_store_contract {
    ($module:ident, $open:expr) => {
        session_store_contract! { $module, $open;
            sessions::{ namespaces_are_apart, the_status_counts }
            sessions_lists::{ lists_show_one_namespace }
        }
    };
    ($module:ident, $open:expr; $($more:tt)*) => {
        mod $module {
            contract! { $open;
                sessions::{
                    a_miss_is_none,
                    what_was_put_comes_back,
                    a_put_says_what_it_did,
                    a_put_of_a_version,
                    a_put_if_absent,
                    a_failed_put_changes_nothing,
                    a_delete_says_what_it_did,
                    what_was_deleted_can_be_created_again,
                    many_come_in_the_order_of_the_ids,
                    concurrent_increments_lose_nothing,
                    large_sessions,
                }
                sessions_lists::{
                    by_project_in_both_directions,
                    by_project_and_creation,
                    by_project_and_status,
                    by_status_the_soonest_to_expire_first,
                    by_status_and_expiry,
                    only_what_lives,
                    pages_of_any_size_show_each_session_once,
                    equal_times_lose_nothing,
                    a_changed_session_moves_between_lists,
                    foreign_cursors_are_refused,
                    a_listing_goes_on_behind_each_place,
                }
                $($more)*
            }
        }
    };
}

/// The tests of a store of leases.
macro_rules! lease_store_contract {
    ($($module:ident: $open:expr;)*) => {
        $(mod $module {
            contract! { $open;
                leases::{
                    a_grant_is_as_it_was_claimed,
                    one_of_many_wins,
                    a_lease_runs_out,
                    who_has_run_out_may_write_until_another_is_granted,
                    a_renewal_prolongs,
                    a_renewal_needs_a_lease_that_has_not_ended,
                    an_end_frees_the_page,
                    a_lease_ends_once,
                    a_revoked_lease_is_over,
                    fences_grow_whatever_the_clock_says,
                    a_token_is_good_in_its_namespace,
                    held_leases_come_in_the_order_of_the_keys,
                    it_does_as_the_reference_does,
                }
            }
        })*
    };
}

lease_store_contract! {
    leases_in_memory: super::memory_leases();
    leases_in_sqlite: super::sqlite_leases();
    leases_metered: super::metered_leases();
    leases_in_dynamodb: super::dynamodb_leases();
    leases_routed_at_0: super::routed_leases(super::policy(0, false));
    leases_routed_at_50: super::routed_leases(super::policy(50, false));
    leases_routed_at_100: super::routed_leases(super::policy(100, true));
    leases_routed_over_dynamodb: super::routed_leases_over_dynamodb(super::policy(50, false));
}

result_store_contract!(results_in_memory, super::memory_results());
result_store_contract!(results_in_sqlite, super::sqlite_results());
result_store_contract!(results_in_sqlite_with_tombstones, super::remembering_results());
result_store_contract!(results_metered, super::metered_results());
result_store_contract!(results_tiered_over_memory, super::tiered_memory_results());
result_store_contract!(results_tiered_over_metered, super::tiered_metered_results());
result_store_contract!(results_in_dynamodb, super::dynamodb_results(|_| {}));
result_store_contract!(
    results_in_dynamodb_plain,
    super::dynamodb_results(|config| config.dynamodb.results_layout = crate::config::ResultsLayout::Plain)
);
result_store_contract!(
    results_in_dynamodb_gathered,
    super::dynamodb_results(|config| {
        config.dynamodb.batch_window_micros = 1000;
        config.dynamodb.host_index = true;
    })
);
result_store_contract!(results_tiered_over_dynamodb, super::tiered_dynamodb_results());

session_store_contract!(sessions_in_memory, super::memory_sessions());
session_store_contract!(sessions_in_sqlite, super::sqlite_sessions());
session_store_contract!(sessions_in_sqlite_with_tombstones, super::remembering_sessions());
session_store_contract!(sessions_metered, super::metered_sessions());
// `DynamoDB` counts items every six hours: `the_status_counts` cannot hold for it.
session_store_contract! {
    sessions_in_dynamodb, super::dynamodb_sessions(super::SessionsShape::Own);
    sessions::{ namespaces_are_apart }
    sessions_lists::{ lists_show_one_namespace }
}
// Tables of Wallcrawler's have no namespaces: `namespaces_are_apart` and `lists_show_one_namespace` cannot hold.
session_store_contract! {
    sessions_in_wallcrawler_with_numbers, super::dynamodb_sessions(super::SessionsShape::WallcrawlerNumber);
}
session_store_contract! {
    sessions_in_wallcrawler_with_texts, super::dynamodb_sessions(super::SessionsShape::WallcrawlerText);
}

result_store_contract! { results_routed_at_0, super::routed_results(super::policy(0, false)); results::{ the_status_counts } }
// Its status is that of SQLite, which has half of them.
result_store_contract! { results_routed_at_50, super::routed_results(super::policy(50, false)); }
result_store_contract! { results_routed_at_50_to_both, super::routed_results(super::policy(50, true)); results::{ the_status_counts } }
result_store_contract! { results_routed_at_100_to_both, super::routed_results(super::policy(100, true)); results::{ the_status_counts } }

/// The tests of a router of sessions. It tells how many SQLite holds: where DynamoDB has some alone, `the_status_counts`
/// cannot hold.
macro_rules! routed_session_contract {
    ($($module:ident: $policy:expr;)*) => {
        $(session_store_contract! {
            $module, super::routed_sessions($policy);
            sessions::{ namespaces_are_apart }
            sessions_lists::{ lists_show_one_namespace }
        })*
    };
}

session_store_contract!(sessions_routed_at_0, super::routed_sessions(super::policy(0, false)));
session_store_contract!(sessions_routed_at_0_to_both, super::routed_sessions(super::policy(0, true)));
session_store_contract!(sessions_routed_at_100_to_both, super::routed_sessions(super::policy(100, true)));
routed_session_contract! {
    sessions_routed_at_50: super::policy(50, false);
    sessions_routed_at_50_to_both: super::policy(50, true);
    sessions_routed_at_100: super::policy(100, false);
    sessions_routed_to_sqlite: super::forced(super::Force::Sqlite, super::policy(100, false));
    sessions_routed_to_dynamodb: super::forced(super::Force::Dynamodb, super::policy(0, false));
    sessions_routed_to_dynamodb_and_both: super::forced(super::Force::Dynamodb, super::policy(0, true));
}

result_store_contract! { results_routed_over_dynamodb, super::routed_over_dynamodb(super::policy(50, false)); }
session_store_contract! {
    sessions_routed_over_dynamodb,
    super::routed_sessions_over_dynamodb(super::SessionsShape::Own, super::policy(50, false));
    sessions::{ namespaces_are_apart }
    sessions_lists::{ lists_show_one_namespace }
}
session_store_contract! {
    sessions_routed_over_dynamodb_to_both,
    super::routed_sessions_over_dynamodb(super::SessionsShape::Own, super::policy(100, true));
    sessions::{ namespaces_are_apart, the_status_counts }
    sessions_lists::{ lists_show_one_namespace }
}
session_store_contract! {
    sessions_routed_over_wallcrawler,
    super::routed_sessions_over_dynamodb(super::SessionsShape::WallcrawlerText, super::policy(50, true));
}

#[tokio::test]
async fn compositions_print_themselves() {
    assert_eq!(memory_results().await.store.to_string(), "memory");
    assert_eq!(tiered_memory_results().await.store.to_string(), "Tiered(memory 64 MiB, memory)");
    let composed = tiered_metered_results().await.store.to_string();
    assert!(composed.starts_with("Tiered(memory 64 MiB, Metered(sqlite /"), "{composed}");
    assert!(composed.ends_with("crawlcache.db))"), "{composed}");
}
