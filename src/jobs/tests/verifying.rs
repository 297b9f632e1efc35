//! Verifications: each planted difference is found, and mended.

use super::*;
use crate::domain::{Namespace, Version};
use crate::store::sqlite::ledger::Beside;
use crate::store::sqlite::ledger::outbox::Tried;
use crate::store::{Condition, SessionDeleteOutcome};

fn version(second: u64) -> Version {
    Version::first_of(at(second))
}

async fn plant(setup: &Setup) {
    for number in 0..20 {
        setup.put_both(said(number, 10)).await;
    }
    setup.put_here(said(100, 10)).await;
    setup.put_there(said(101, 10)).await;
    setup.put_here(said(0, 20)).await;
    setup.put_there(said(1, 20)).await;
    // Past the service: one says another time, one cannot be read.
    let expiry = testing::Spoil::Text(at(5000).to_string());
    testing::spoil(&setup.aws, &setup.config.dynamodb, &page(2), "expires_at", expiry).await;
    testing::spoil(
        &setup.aws,
        &setup.config.dynamodb,
        &page(3),
        "etag",
        testing::Spoil::Text("no hash".to_owned()),
    )
    .await;
    // Deleted on one side.
    setup.sides.results.delete(&page(4), version(30), Condition::Any).await.expect("deleted");
    let key = page(5);
    let deleted =
        setup.sides.database.delete_beside(&key, version(30), Condition::Any, None, Beside::Nothing);
    deleted.await.expect("deleted");
    setup.lease_both(&page(7)).await;
    setup.lease_both(&page(1000)).await;
    // Not yet there.
    let queue = Beside::Queue { due_at: at(100_000) };
    setup.sides.database.put_beside(said(6, 20), None, queue).await.expect("queued");

    for name in ["same", "newer-here", "newer-there", "only-here", "only-there"] {
        let put = put_of_session(name, 10);
        if name != "only-there" {
            SessionStore::put(&setup.sides.database, put.clone()).await.expect("a put");
        }
        if name != "only-here" {
            setup.sides.sessions.put(put).await.expect("a put");
        }
    }
    SessionStore::put(&setup.sides.database, put_of_session("newer-here", 20)).await.expect("a put");
    setup.sides.sessions.put(put_of_session("newer-there", 20)).await.expect("a put");
}

fn outcomes(status: &WorkStatus) -> Vec<(&str, u64)> {
    status.counts.iter().map(|(outcome, count)| (outcome.as_str(), *count)).collect()
}

const PLANTED: [(&str, u64); 7] = [
    ("deleted", 2),
    // Two results in version, one in its times, two sessions.
    ("different", 5),
    // 20 results of which seven were changed, and a session.
    ("equal", 14),
    ("missing_dynamodb", 2),
    ("missing_sqlite", 2),
    ("pending", 1),
    ("unreadable", 1),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_difference_is_found_and_mended() {
    let Some(setup) = Setup::new().await else { return };
    plant(&setup).await;
    let status = setup.verify(VerifyOptions { batch_size: 7, ..VerifyOptions::default() }).await;
    assert_eq!(outcomes(&status), PLANTED, "{status:?}");
    assert!(!status.is_clean());
    let detail = |key: &Key| {
        let found = status.findings.iter().find(|finding| finding.name == key.url());
        found.unwrap_or_else(|| panic!("{key:?} {status:?}")).detail.clone()
    };
    assert_eq!(detail(&page(2)), "they differ in expires_at");
    assert!(detail(&page(0)).starts_with("they differ in version, etag, updated_at"), "{}", detail(&page(0)));
    assert!(detail(&page(4)).starts_with("SQLite has") && detail(&page(5)).starts_with("DynamoDB has"));

    let status = setup.verify(VerifyOptions { repair: true, ..VerifyOptions::default() }).await;
    assert_eq!((status.count("repaired"), status.count("repair_failed")), (12, 0), "{status:?}");
    for number in [0, 1, 2, 3, 100, 101] {
        setup.is_same(&page(number)).await;
    }
    let newer = setup.there(&page(0)).await.expect("there");
    assert_eq!(
        (newer.meta.version, newer.meta.updated_at),
        (version(20), at(20)),
        "its own version and times"
    );
    let newer = setup.here(&page(1)).await.expect("here");
    assert_eq!(
        (newer.meta.version, newer.meta.updated_at, newer.meta.expires_at),
        (version(20), at(20), at(1020))
    );
    for number in [4, 5] {
        assert!(setup.here(&page(number)).await.is_none() && setup.there(&page(number)).await.is_none());
    }
    for (name, second) in [("newer-here", 20), ("newer-there", 20), ("only-here", 10), ("only-there", 10)] {
        let put = put_of_session(name, second);
        let here = SessionStore::get(&setup.sides.database, &put.namespace, &put.record.session.id).await;
        assert_eq!(here.expect("a get").as_ref(), Some(&put.record), "{name}");
        assert_eq!(session_there(&setup, &put).await, Some(put.record), "{name}");
    }
    let status = setup.verify(VerifyOptions { content: true, ..VerifyOptions::default() }).await;
    // 22 results without the two that are gone, and five sessions.
    assert_eq!(outcomes(&status), [("equal", 24), ("pending", 1)], "{status:?}");
    let text = setup.sides.metrics.render().expect("text");
    assert!(text.contains(r#"crawlcache_repaired_total{outcome="repaired",to="sqlite"} 5"#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_compared_when_asked_for() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..5 {
        setup.put_both(said(number, 10)).await;
    }
    let frame = setup.there(&page(1)).await.expect("there").frame.to_vec();
    // Another document whose frame is as long.
    let other = (0..10_000)
        .filter_map(|n| put(&page(1), &format!("{n:06} of 10"), NOW).frame)
        .find(|other| other.len() == frame.len() && other.as_ref() != frame.as_slice());
    let other = other.expect("one of them has that length");
    let spoiled = testing::Spoil::Bytes(other.to_vec());
    testing::spoil(&setup.aws, &setup.config.dynamodb, &page(1), "frame", spoiled).await;
    let status = setup.verify(VerifyOptions::default()).await;
    assert_eq!(outcomes(&status), [("equal", 5)], "the metadata says nothing of it");
    let status = setup.verify(VerifyOptions { content: true, ..VerifyOptions::default() }).await;
    assert_eq!(outcomes(&status), [("equal", 4), ("unreadable", 1)], "{status:?}");
    assert_eq!(status.findings[0].name, page(1).url());
    let status =
        setup.verify(VerifyOptions { content: true, repair: true, ..VerifyOptions::default() }).await;
    assert_eq!(status.count("repaired"), 1, "{status:?}");
    setup.is_same(&page(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_equal_are_settled() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..3 {
        setup.put_both(said(number, 10)).await;
    }
    // Past the service: a live item says that it is deleted.
    let spoil = testing::Spoil::Flag(true);
    testing::spoil(&setup.aws, &setup.config.dynamodb, &page(0), "deleted", spoil).await;
    assert!(setup.there(&page(0)).await.is_none());
    // A deletion of the very version that is there.
    let next = version(10).next();
    let newer = |number| {
        let mut put = said(number, 10);
        put.meta.version = next;
        put
    };
    setup.sides.database.supersede(&page(1), next, true).await.expect("deleted");
    setup.put_there(newer(1)).await;
    // What DynamoDB got in place of what SQLite had.
    setup.sides.database.supersede(&page(2), next, false).await.expect("superseded");
    setup.put_there(newer(2)).await;
    let status = setup.verify(VerifyOptions::default()).await;
    assert_eq!(outcomes(&status), [("deleted", 1), ("different", 1), ("missing_sqlite", 1)], "{status:?}");
    let status = setup.verify(VerifyOptions { repair: true, ..VerifyOptions::default() }).await;
    assert_eq!((status.count("repaired"), status.count("repair_failed")), (3, 0), "{status:?}");
    setup.is_same(&page(0)).await;
    assert!(setup.there(&page(0)).await.is_some(), "SQLite has it");
    assert!(setup.there(&page(1)).await.is_none() && setup.here(&page(1)).await.is_none());
    setup.is_same(&page(2)).await;
    assert!(setup.verify(VerifyOptions::default()).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_no_difference() {
    let Some(setup) = Setup::new().await else { return };
    setup.put_both(said(1, 10)).await;
    setup.put_here(said(2, 10)).await;
    setup.put_there(said(3, 10)).await;
    setup.clock.set(at(5000));
    let status = setup.verify(VerifyOptions::default()).await;
    assert_eq!(outcomes(&status), [("equal", 1), ("expired", 2)], "{status:?}");
    assert!(status.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_the_same_each_time() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..300 {
        setup.put_here(said(number, 10)).await;
    }
    setup.migrate(MigrateOptions::default()).await;
    let sample = |sample| VerifyOptions { sample, ..VerifyOptions::default() };
    let first = setup.verify(sample(0.3)).await;
    assert!((50..130).contains(&first.count("equal")), "{first:?}");
    assert_eq!(setup.verify(sample(0.3)).await.counts, first.counts);
    assert_eq!(setup.verify(sample(1.0)).await.count("equal"), 300);
    let since = VerifyOptions { since: Some(at(11)), ..VerifyOptions::default() };
    assert_eq!(setup.verify(since).await.count("equal"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_meanwhile_are_no_differences() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..40 {
        setup.put_both(said(number, 0)).await;
    }
    let (stop, writes) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let beside = {
        let (sides, stop, writes) = (setup.sides.clone(), stop.clone(), Arc::clone(&writes));
        #[expect(clippy::disallowed_methods, reason = "a beside that goes on beside the test")]
        tokio::spawn(async move {
            let mut second = 1;
            while !stop.is_cancelled() {
                for number in 0..40 {
                    // As the router does it: first here and in the outbox, then there.
                    let put = said(number, second);
                    let queue = Beside::Queue { due_at: at(100_000) };
                    sides.database.put_beside(put.clone(), None, queue).await.expect("a put");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    let (id, version) = (put.meta.key.id(), put.meta.version);
                    sides.results.put(put).await.expect("a put");
                    let delivered = vec![(id, Tried::Delivered { version })];
                    sides.database.outbox_tried(delivered).await.expect("told");
                    writes.fetch_add(1, Ordering::Relaxed);
                }
                second += 1;
            }
        })
    };
    let mut looks = 0;
    while looks < 3 || writes.load(Ordering::Relaxed) < 80 {
        looks += 1;
        let status = setup.verify(VerifyOptions { content: true, ..VerifyOptions::default() }).await;
        assert!(status.is_clean(), "{status:?}");
        assert_eq!(status.count("equal") + status.count("pending"), 40, "{status:?}");
    }
    stop.cancel();
    beside.await.expect("it wrote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_is_deleted_on_the_other_side() {
    let Some(setup) = Setup::new().await else { return };
    let put = put_of_session("gone", 10);
    SessionStore::put(&setup.sides.database, put.clone()).await.expect("a put");
    setup.sides.sessions.put(put.clone()).await.expect("a put");
    let (namespace, id) = (Namespace::default(), put.record.session.id.clone());
    let delete = setup.sides.database.delete_session_beside(
        &namespace,
        &id,
        SessionCondition::Any,
        version(20),
        None,
        Beside::Nothing,
    );
    delete.await.expect("deleted");
    let status = setup.verify(VerifyOptions { repair: true, ..VerifyOptions::default() }).await;
    assert_eq!((status.count("deleted"), status.count("repaired")), (1, 1), "{status:?}");
    assert!(session_there(&setup, &put).await.is_none());
    let again = SessionStore::delete(&setup.sides.sessions, &namespace, &id, SessionCondition::Any).await;
    assert_eq!(again.expect("a delete"), SessionDeleteOutcome::Absent);
}
