//! Migrations in both directions.

use super::super::migrate::Migration;
use super::super::track::{Track, fresh};
use super::*;
use crate::domain::{Namespace, Version};
use crate::store::conformance::variant;
use crate::store::sqlite::ledger::Beside;
use crate::store::{Condition, Look};

fn keys() -> Vec<Key> {
    let mut keys: Vec<Key> = (0..60).map(page).collect();
    keys.push(variant("https://example.com/1", "mobile"));
    let other = Namespace::new("tenant").expect("a namespace");
    keys.push(Key::new(&other, "https://example.com/1", "").expect("a key"));
    keys.push(key(&format!("https://example.com/{}", "long/".repeat(600))));
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_to_dynamodb_and_back() {
    let Some(setup) = Setup::new().await else { return };
    let keys = keys();
    for (number, key) in keys.iter().enumerate() {
        let mut put = put(key, &format!("page {number}"), NOW + number as u64);
        put.meta.created_at = at(number as u64).minus_secs(50);
        setup.put_here(put).await;
    }
    let large = key("https://example.com/large");
    setup.put_here(noise(&large, 1_200_000)).await;
    setup.lease_both(&keys[0]).await;
    setup.lease_both(&page(2000)).await;
    for number in 0..7 {
        let put = put_of_session(&format!("s{number}"), number);
        SessionStore::put(&setup.sides.database, put).await.expect("a put");
    }
    let all = keys.len() as u64 + 1 + 7;

    let status = setup.migrate(MigrateOptions { batch_size: 10, ..MigrateOptions::default() }).await;
    assert_eq!((status.count("copied"), status.done), (all, all), "{status:?}");
    assert!(status.is_clean() && status.bytes > 800_000 && status.write_units > 1000.0, "{status:?}");
    for key in keys.iter().chain([&large]) {
        setup.is_same(key).await;
    }
    let again = setup.migrate(MigrateOptions::default()).await;
    assert_eq!((again.count("present"), again.count("copied")), (all, 0), "{again:?}");
    assert!(again.write_units == 0.0 && again.bytes == 0, "what is there is not written again: {again:?}");

    // A deletion that SQLite does not know of goes along.
    let gone = page(1000);
    setup.put_there(said(1000, 1)).await;
    setup.sides.results.delete(&gone, Version::first_of(at(5)), Condition::Any).await.expect("deleted");
    let setup = setup.elsewhere().await;
    let back = setup.migrate(MigrateOptions { batch_size: 10, ..to_sqlite() }).await;
    assert_eq!(back.count("copied"), all + 1, "{back:?}");
    for key in keys.iter().chain([&large]) {
        setup.is_same(key).await;
    }
    let look = ResultStore::look(&setup.sides.database, &gone, GetOptions::scan()).await.expect("a look");
    assert!(matches!(look, Look::Deleted(version) if version == Version::first_of(at(5))), "{look:?}");
    for number in 0..7 {
        let put = put_of_session(&format!("s{number}"), number);
        let found = SessionStore::get(&setup.sides.database, &put.namespace, &put.record.session.id).await;
        assert_eq!(found.expect("a get").as_ref(), Some(&put.record));
        assert_eq!(session_there(&setup, &put).await, Some(put.record));
    }
    let changed = setup.changed.lock().expect("not poisoned").len();
    assert_eq!(changed, keys.len() + 2, "whoever keeps copies hears of each");
    let again = setup.migrate(to_sqlite()).await;
    assert_eq!((again.count("present"), again.count("copied")), (all + 1, 0), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_newer_is_replaced() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..30 {
        setup.put_here(said(number, 10)).await;
    }
    for number in 0..10 {
        setup.put_there(said(number, 20)).await;
        setup.put_there(said(number + 10, 5)).await;
    }
    setup.sides.results.delete(&page(0), Version::first_of(at(30)), Condition::Any).await.expect("deleted");
    let status = setup.migrate(MigrateOptions::default()).await;
    assert_eq!((status.count("present"), status.count("copied")), (10, 20), "{status:?}");
    assert!(setup.there(&page(0)).await.is_none(), "what was deleted stays deleted");
    for number in 1..10 {
        assert_eq!(setup.there(&page(number)).await.expect("there").meta.version, Version::first_of(at(20)));
    }
    for number in 10..20 {
        let entry = setup.there(&page(number)).await.expect("there");
        assert_eq!((entry.meta.version, entry.meta.created_at), (Version::first_of(at(10)), at(5)));
    }

    let status = setup.migrate(to_sqlite()).await;
    // Nine newer entries and a deletion.
    assert_eq!((status.count("present"), status.count("copied")), (20, 10), "{status:?}");
    assert!(setup.here(&page(0)).await.is_none());
    for number in 1..10 {
        let entry = setup.here(&page(number)).await.expect("here");
        // As everywhere, the earlier time of creation stays.
        assert_eq!((entry.meta.version, entry.meta.created_at), (Version::first_of(at(20)), at(10)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_newer_is_replaced_without_conditions_either() {
    let Some(mut setup) = Setup::new().await else { return };
    setup.sides.alone = true;
    let setup = setup.again().await;
    for number in 0..60 {
        setup.put_here(said(number, 10)).await;
    }
    let exclusive = MigrateOptions { exclusive: true, batch_size: 20, ..MigrateOptions::default() };
    let first = setup.migrate(exclusive.clone()).await;
    assert_eq!(first.count("copied"), 60, "{first:?}");
    for number in 0..60 {
        setup.is_same(&page(number)).await;
    }
    setup.put_there(said(1, 20)).await;
    setup.sides.results.delete(&page(2), Version::first_of(at(30)), Condition::Any).await.expect("deleted");
    for number in 60..70 {
        setup.put_here(said(number, 10)).await;
    }
    setup.put_here(said(3, 11)).await;
    let second = setup.migrate(exclusive).await;
    assert_eq!((second.count("copied"), second.count("present")), (11, 59), "{second:?}");
    assert_eq!(setup.there(&page(1)).await.expect("there").meta.version, Version::first_of(at(20)));
    assert!(setup.there(&page(2)).await.is_none());
    setup.is_same(&page(3)).await;
    let dynamodb = setup.sides.metrics.render().expect("text");
    let batches = r#"capacity_units_total{operation="batch_write_item",table="results",unit="write"}"#;
    assert!(dynamodb.lines().any(|line| line.contains(batches) && !line.ends_with(" 0")), "{dynamodb}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_goes_on_and_is_written_once() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..400 {
        setup.put_here(said(number, 1)).await;
    }
    let options = MigrateOptions {
        batch_size: 10,
        concurrency: 1,
        units_per_second: Some(200),
        ..MigrateOptions::default()
    };
    let begun = setup.runner.start(Work::Migrate(options.clone())).await.expect("begun");
    setup.until(&begun.id, |status| status.done >= 30).await;
    let left = setup.runner.cancel(&begun.id).await.expect("known");
    assert_eq!(left.state, WorkState::Cancelled);
    assert!(left.done < 400 && left.count("copied") == left.done, "{left:?}");
    // A request that was on its way when it was cancelled may still be carried out.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let written = setup.items().await;
    assert!(written >= left.count("copied") && written < 400, "{written}");

    let fast = MigrateOptions { units_per_second: None, concurrency: 8, ..options };
    let begun_again = setup.runner.start(Work::Migrate(fast.clone())).await.expect("begun");
    assert_eq!(begun_again.id, begun.id, "it is the same one");
    let status = setup.ended(&begun.id).await;
    assert_eq!((status.state, status.done), (WorkState::Done, 400), "{status:?}");
    // What had been written and not yet counted is met again, and nothing else.
    assert_eq!(status.count("copied") + written - left.count("copied"), 400, "{status:?}");
    assert_eq!(status.count("copied") + status.count("present"), 400, "{status:?}");
    assert_eq!(setup.items().await, 400);
    let anew = setup.migrate(MigrateOptions { restart: true, ..fast }).await;
    assert_ne!(anew.id, begun.id);
    assert_eq!((anew.count("present"), anew.done), (400, 400), "{anew:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_on_the_way_back_goes_on() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..200 {
        setup.put_there(said(number, 1)).await;
    }
    let options = MigrateOptions { batch_size: 5, concurrency: 2, units_per_second: Some(40), ..to_sqlite() };
    let begun = setup.runner.start(Work::Migrate(options.clone())).await.expect("begun");
    setup.until(&begun.id, |status| status.done >= 20).await;
    // The process ends: the next one goes on by itself.
    setup.stop.cancel();
    let left = setup.ended(&begun.id).await;
    assert_eq!(left.state, WorkState::Interrupted, "{left:?}");
    let setup = setup.again().await;
    assert_eq!(setup.runner.get(&begun.id).expect("known"), left, "it was written down as it was seen");
    let resumed = setup.runner.resume().await.expect("resumed").expect("there is one");
    assert_eq!(resumed.id, begun.id);
    let status = setup.ended(&begun.id).await;
    assert_eq!((status.state, status.done), (WorkState::Done, 200), "{status:?}");
    assert_eq!(status.count("copied") + status.count("present"), 200, "{status:?}");
    for number in 0..200 {
        setup.is_same(&page(number)).await;
    }
    assert!(setup.runner.resume().await.expect("nothing to do").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..20 {
        setup.put_here(said(number, 1)).await;
        setup.put_there(said(number + 100, 1)).await;
    }
    SessionStore::put(&setup.sides.database, put_of_session("s", 1)).await.expect("a put");
    setup.put_there(said(0, 2)).await;
    let dry = MigrateOptions { dry_run: true, ..MigrateOptions::default() };
    let status = setup.migrate(dry.clone()).await;
    assert_eq!((status.count("would_copy"), status.count("present")), (20, 1), "{status:?}");
    assert!(status.bytes > 0 && status.write_units >= 20.0, "{status:?}");
    assert_eq!(setup.items().await, 21);
    assert!(session_there(&setup, &put_of_session("s", 1)).await.is_none());
    let status = setup.migrate(MigrateOptions { to: Side::Sqlite, ..dry }).await;
    assert_eq!((status.count("would_copy"), status.count("copied")), (21, 0), "{status:?}");
    assert!(setup.here(&page(100)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_asked_for_is_copied() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..40 {
        setup.put_here(said(number, number)).await;
    }
    SessionStore::put(&setup.sides.database, put_of_session("s", 1)).await.expect("a put");
    let urls = ["https://example.com/3*", "https://example.com/7"].map(str::to_owned).to_vec();
    let status = setup.migrate(MigrateOptions { urls, ..MigrateOptions::default() }).await;
    // 3, 30 to 39, and 7; no sessions.
    assert_eq!(
        (status.count("copied"), status.count("skipped"), setup.items().await),
        (12, 28, 12),
        "{status:?}"
    );
    let status = setup.migrate(MigrateOptions { since: Some(at(28)), ..MigrateOptions::default() }).await;
    assert_eq!((status.count("copied"), status.count("present")), (2, 10), "{status:?}");
    assert_eq!(status.count("skipped"), 1, "the session is older: {status:?}");
    let setup = setup.elsewhere().await;
    let urls = vec!["https://example.com/3".to_owned()];
    let status = setup.migrate(MigrateOptions { urls, ..to_sqlite() }).await;
    assert_eq!((status.count("copied"), status.count("skipped")), (1, 13), "{status:?}");
    let status = setup.migrate(MigrateOptions { since: Some(at(36)), ..to_sqlite() }).await;
    assert_eq!((status.count("copied"), status.count("skipped")), (4, 10), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_units_are_taken_than_allowed() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..150 {
        setup.put_here(said(number, 1)).await;
    }
    let begun = std::time::Instant::now();
    let options = MigrateOptions { units_per_second: Some(100), ..MigrateOptions::default() };
    let status = setup.migrate(options).await;
    let (units, seconds) = (status.read_units + status.write_units, begun.elapsed().as_secs_f64());
    assert_eq!(status.count("copied"), 150);
    // The first second's units are there at once, and the last request may be on credit.
    assert!(units > 250.0 && units <= 100.0 * (seconds + 1.0) + 150.0, "{units} units in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_stays_where_it_is() {
    let Some(setup) = Setup::new().await else { return };
    setup.put_here(said(1, 0)).await;
    setup.put_here(said(2, 600)).await;
    setup.put_there(said(3, 0)).await;
    SessionStore::put(&setup.sides.database, put_of_session("old", 0)).await.expect("a put");
    setup.clock.set(at(1500));
    let status = setup.migrate(MigrateOptions::default()).await;
    assert_eq!((status.count("expired"), status.count("copied")), (2, 1), "{status:?}");
    let status = setup.migrate(to_sqlite()).await;
    assert_eq!((status.count("expired"), status.count("present")), (1, 1), "{status:?}");
    assert!(status.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_told_and_stops_nothing() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..5 {
        setup.put_here(said(number, 1)).await;
    }
    let mut large = put_of_session("large", 1);
    let text = noise(&page(0), 900_000).frame.expect("a body");
    large.record.session.state =
        Some(serde_json::json!(text.iter().map(|byte| char::from(33 + byte % 90)).collect::<String>()));
    SessionStore::put(&setup.sides.database, large).await.expect("a put");
    let status = setup.migrate(MigrateOptions::default()).await;
    assert_eq!((status.count("copied"), status.count("failed")), (5, 1), "{status:?}");
    assert!(!status.is_clean());
    let [finding] = &status.findings[..] else { panic!("{status:?}") };
    assert_eq!(
        (finding.kind.as_str(), finding.name.as_str(), finding.outcome.as_str()),
        ("session", "large", "failed")
    );
    assert!(finding.detail.contains("large"), "{finding:?}");

    testing::spoil(
        &setup.aws,
        &setup.config.dynamodb,
        &page(3),
        "etag",
        testing::Spoil::Text("no hash".to_owned()),
    )
    .await;
    let setup = setup.elsewhere().await;
    let status = setup.migrate(to_sqlite()).await;
    assert_eq!((status.count("copied"), status.count("failed")), (4, 1), "{status:?}");
    assert_eq!(status.findings[0].name, page(3).url());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_lasts_ends_it_and_keeps_the_place() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..10 {
        setup.put_here(said(number, 1)).await;
    }
    let mut config = setup.config.clone();
    config.dynamodb.endpoint = "http://127.0.0.1:9".to_owned();
    config.dynamodb.max_retries = 0;
    let aws = Aws::connect(&config.dynamodb, &config.s3, &setup.sides.metrics).await;
    let mut sides = setup.sides.clone();
    sides.results = DynamodbResults::new(aws, &config, &setup.clock, &setup.sides.metrics);
    sides.patience = Duration::from_millis(500);
    let runner = Runner::open(sides, CancellationToken::new()).await.expect("a runner");
    let begun = runner.start(Work::Migrate(MigrateOptions::default())).await.expect("begun");
    let failed = loop {
        let status = runner.get(&begun.id).expect("known");
        if status.state != WorkState::Running {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((failed.state, failed.done), (WorkState::Failed, 0), "{failed:?}");
    assert!(failed.error.as_deref().is_some_and(|error| error.contains("unavailable")), "{failed:?}");
    let setup = setup.again().await;
    let status = setup.migrate(MigrateOptions::default()).await;
    assert_eq!((status.id, status.counts["copied"], status.error), (begun.id, 10, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_deleted_while_it_is_copied_is_taken_back() {
    let Some(setup) = Setup::new().await else { return };
    let options = MigrateOptions::default();
    let work = Work::Migrate(options.clone());
    let track =
        Track::new(fresh("migrate-1".to_owned(), work, &setup.clock), &setup.clock, &setup.sides.metrics);
    let migration = Migration::new(setup.sides.clone(), options, track, setup.stop.clone());
    // As it was read, before it was deleted.
    let put = put_of_session("gone", 10);
    let (namespace, id) = (put.namespace.clone(), put.record.session.id.clone());
    let (any, deleted) = (SessionCondition::Any, Version::first_of(at(20)));
    let delete =
        setup.sides.database.delete_session_beside(&namespace, &id, any, deleted, None, Beside::Nothing);
    delete.await.expect("deleted");
    migration.put_session(namespace, put.record.clone(), true).await.expect("copied");
    assert!(session_there(&setup, &put).await.is_none());
    // What was stored since lives.
    let since = put_of_session("gone", 30);
    migration.put_session(since.namespace.clone(), since.record.clone(), true).await.expect("copied");
    assert_eq!(session_there(&setup, &since).await, Some(since.record));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_changed_while_they_are_copied_are_noted() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..60 {
        let put = put_of_session(&format!("s{number}"), 10);
        setup.sides.sessions.put(put).await.expect("a put");
    }
    let slowly = MigrateOptions { batch_size: 1, units_per_second: Some(1), ..to_sqlite() };
    let begun = setup.runner.start(Work::Migrate(slowly)).await.expect("begun");
    setup.until(&begun.id, |status| status.done > 0).await;
    assert!(setup.sides.database.takes_copies(), "a router leaves a mark of what it writes meanwhile");
    setup.stop.cancel();
}
