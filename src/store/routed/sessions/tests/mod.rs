//! The router of sessions, case by case, and against a model.

mod model;

use futures_util::future::join_all;

use super::super::Settled;
use super::super::testing::{Street, Weather, policy};
use crate::domain::routing::{Force, OnOwnerFailure, Policy};
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Namespace, Timestamp, Version};
use crate::store::conformance::{at, session};
use crate::store::sqlite::ledger::outbox::Queued;
use crate::store::{
    Error, Health, PutSession, SessionCondition, SessionDeleteOutcome, SessionFilter, SessionPutOutcome,
    SessionQuery, SessionStore,
};

const ANY: SessionCondition = SessionCondition::Any;

fn id(name: &str) -> SessionId {
    SessionId::new(name).expect("an id")
}

fn of(second: u64) -> SessionCondition {
    SessionCondition::Version(Version::first_of(at(second)))
}

fn absent() -> SessionCondition {
    SessionCondition::Absent(at(1000))
}

/// The second at which a session was written that `store` has.
async fn second(store: &dyn SessionStore) -> Option<u64> {
    let found = store.get(&Namespace::default(), &id("s")).await.expect("an answer");
    found.map(|record| record.session.updated_at.as_secs())
}

fn put_of(record: SessionRecord, condition: SessionCondition) -> PutSession {
    PutSession { namespace: Namespace::default(), record, condition }
}

async fn put(store: &dyn SessionStore, second: u64, condition: SessionCondition) -> SessionPutOutcome {
    store.put(put_of(session("s", second), condition)).await.expect("an answer")
}

async fn delete(store: &dyn SessionStore, condition: SessionCondition) -> SessionDeleteOutcome {
    store.delete(&Namespace::default(), &id("s"), condition).await.expect("an answer")
}

fn all(limit: usize) -> SessionQuery {
    let filter = SessionFilter::Project {
        project_id: "p".to_owned(),
        created_after: None,
        created_before: None,
        status: None,
        ascending: true,
    };
    SessionQuery { namespace: Namespace::default(), filter, live_at: None, limit, after: None }
}

#[tokio::test]
async fn what_the_owner_lacks_is_copied_to_it() {
    let street = Street::new(policy(0, false)).await;
    let sessions = street.routed.sessions();
    put(&sessions, 910, absent()).await;
    assert_eq!(second(&street.across.sessions).await, None);
    street.set(policy(100, false)).await;
    assert_eq!(second(&sessions).await, Some(910));
    street.rest().await;
    assert_eq!(second(&street.across.sessions).await, Some(910));

    let street = Street::new(policy(100, false)).await;
    let sessions = street.routed.sessions();
    put(&sessions, 910, absent()).await;
    street.set(policy(0, false)).await;
    assert_eq!(second(&sessions).await, Some(910));
    street.rest().await;
    assert_eq!(second(&street.here).await, Some(910));
}

#[tokio::test]
async fn conditions_hold_wherever_a_session_was_written() {
    for dual_write in [false, true] {
        for (before, after) in [(0, 100), (100, 0)] {
            let street = Street::new(policy(before, dual_write)).await;
            let sessions = street.routed.sessions();
            put(&sessions, 910, absent()).await;
            street.set(policy(after, dual_write)).await;
            let case = format!("{before} to {after}, {dual_write}");
            assert_eq!(put(&sessions, 920, absent()).await, SessionPutOutcome::ConditionFailed, "{case}");
            assert_eq!(put(&sessions, 920, of(911)).await, SessionPutOutcome::ConditionFailed, "{case}");
            assert_eq!(put(&sessions, 920, of(910)).await, SessionPutOutcome::Replaced, "{case}");
            assert_eq!(put(&sessions, 930, of(910)).await, SessionPutOutcome::ConditionFailed, "{case}");
            assert_eq!(delete(&sessions, of(910)).await, SessionDeleteOutcome::ConditionFailed, "{case}");
            street.set(policy(before, dual_write)).await;
            assert_eq!(second(&sessions).await, Some(920), "{case}: back");
            assert_eq!(delete(&sessions, of(920)).await, SessionDeleteOutcome::Deleted, "{case}");
            assert_eq!(second(&sessions).await, None, "{case}");
        }
    }
}

#[tokio::test]
async fn nothing_that_was_deleted_comes_back() {
    for dual_write in [false, true] {
        for (written, deleted) in [(0, 100), (100, 0), (100, 100), (0, 0)] {
            let street = Street::new(policy(written, dual_write)).await;
            let sessions = street.routed.sessions();
            put(&sessions, 910, absent()).await;
            street.set(policy(deleted, dual_write)).await;
            let case = format!("{written} {deleted} {dual_write}");
            assert_eq!(delete(&sessions, ANY).await, SessionDeleteOutcome::Deleted, "{case}");
            // Somebody's late copy of it.
            SessionStore::put(&street.across.sessions, put_of(session("s", 910), ANY)).await.expect("stored");
            for percent in [0, 100, 0] {
                street.set(policy(percent, dual_write)).await;
                assert_eq!(second(&sessions).await, None, "{case} at {percent}");
                let page = sessions.list(&all(10)).await.expect("a page");
                assert!(page.items.is_empty(), "{case} at {percent}");
                street.rest().await;
            }
            street.set(policy(100, dual_write)).await;
            assert_eq!(put(&sessions, 2000, absent()).await, SessionPutOutcome::Created, "{case}");
            assert_eq!(second(&sessions).await, Some(2000), "{case}: what is new lives");
        }
    }
}

#[tokio::test]
async fn without_dynamodb_sqlite_serves_what_it_may() {
    for weather in [Weather::Down, Weather::Silent] {
        let street = Street::new(policy(100, true)).await;
        let sessions = street.routed.sessions();
        put(&sessions, 910, absent()).await;
        street.across.set(weather);
        assert_eq!(second(&sessions).await, Some(910), "{weather:?}: the copy");
        let refused = sessions.put(put_of(session("s", 920), of(910))).await;
        assert!(refused.is_err_and(|error| error.is_outage()), "{weather:?}: only the owner can judge");
        assert!(sessions.get(&Namespace::default(), &id("t")).await.is_err(), "{weather:?}: nobody knows");
        assert!(matches!(sessions.status().await.expect("a status").health, Health::Degraded(_)));
        if weather == Weather::Down {
            assert!(sessions.list(&all(10)).await.is_err(), "half a listing would be a lie");
        }
        street.set(Policy { force: Force::Sqlite, ..policy(100, true) }).await;
        if weather == Weather::Down {
            assert_eq!(sessions.list(&all(10)).await.expect("a page").items.len(), 1, "forced");
        }
        let unknown = sessions.get(&Namespace::default(), &id("t")).await;
        assert!(
            matches!(unknown, Err(Error::Unasked { .. })),
            "{weather:?}: SQLite cannot know: {unknown:?}"
        );
        assert_eq!(put(&sessions, 920, of(910)).await, SessionPutOutcome::Replaced, "{weather:?}");
        street.across.set(Weather::Fair);
        street.relay().await;
        assert_eq!(second(&street.across.sessions).await, Some(920), "{weather:?}: delivered");
    }
}

#[tokio::test]
async fn a_deletion_without_a_condition_is_queued() {
    for on_owner_failure in [OnOwnerFailure::Queue, OnOwnerFailure::Reject] {
        let street = Street::new(Policy { on_owner_failure, ..policy(100, true) }).await;
        let sessions = street.routed.sessions();
        put(&sessions, 910, absent()).await;
        street.across.set(Weather::Down);
        let deleted = sessions.delete(&Namespace::default(), &id("s"), ANY).await;
        let is_queued = on_owner_failure == OnOwnerFailure::Queue;
        assert_eq!(deleted.is_ok(), is_queued, "{deleted:?}");
        assert_eq!(second(&sessions).await, (!is_queued).then_some(910));
        street.across.set(Weather::Fair);
        assert_eq!(second(&sessions).await, (!is_queued).then_some(910));
        street.relay().await;
        assert_eq!(second(&street.across.sessions).await, (!is_queued).then_some(910));
    }
}

#[tokio::test]
async fn an_older_copy_is_gone_before_dynamodb_has_deleted() {
    let street = Street::new(policy(100, true)).await;
    let sessions = street.routed.sessions();
    put(&sessions, 910, absent()).await;
    // Another process has changed it since.
    put(&street.across.sessions, 920, ANY).await;
    assert_eq!(second(&street.here).await, Some(910));
    let deleting = delete(&sessions, ANY);
    let deleted = street.amid(1, deleting, async { assert_eq!(second(&street.here).await, None) }).await;
    assert_eq!(deleted, SessionDeleteOutcome::Deleted);
    assert_eq!(street.here.outbox_status().await.expect("read").queued, 0);
}

#[tokio::test]
async fn a_creation_that_arrives_after_the_deletion_brings_nothing_back() {
    // The policy of the creation, which is late: by the relay where SQLite owns the session. And that of the deletion.
    for (written, dual_write, deleted) in
        [(0, true, 0), (0, true, 100), (100, false, 0), (100, false, 100), (100, true, 0), (100, true, 100)]
    {
        let case = format!("{written} {dual_write} {deleted}");
        let street = Street::new(policy(written, dual_write)).await;
        let sessions = street.routed.sessions();
        street.across.set(Weather::Late);
        let created = sessions.put(put_of(session("s", 910), absent())).await;
        assert_eq!(created.is_ok(), written == 0, "{case}: {created:?}");
        if written == 0 {
            assert_eq!(street.relay_now().await, 0, "{case}");
        }
        street.across.set(Weather::Fair);
        street.set(policy(deleted, dual_write)).await;
        street.clock.set(street.clock.now().plus_secs(1));
        delete(&sessions, ANY).await;
        assert_eq!(street.relay_now().await, 0, "{case}: it may arrive yet");
        assert!(street.across.arrive().await > 0, "{case}");
        assert!(street.relay().await > 0, "{case}");
        assert_eq!(second(&street.across).await, None, "{case}");
        assert_eq!(second(&sessions).await, None, "{case}");
        assert_eq!(street.here.outbox_status().await.expect("read").queued, 0, "{case}");
    }
}

#[tokio::test]
async fn a_deletion_that_waits_for_no_creation_is_settled_at_once() {
    let street = Street::new(policy(0, false)).await;
    let sessions = street.routed.sessions();
    put(&sessions, 910, absent()).await;
    assert_eq!(delete(&sessions, ANY).await, SessionDeleteOutcome::Deleted);
    assert_eq!(street.relay_now().await, 1);
}

#[tokio::test]
async fn what_a_lost_answer_hid_is_found_out() {
    for dual_write in [false, true] {
        let street = Street::new(policy(0, false)).await;
        let sessions = street.routed.sessions();
        put(&sessions, 910, absent()).await;
        street.set(policy(100, dual_write)).await;
        second(&sessions).await;
        street.rest().await;
        street.across.set(Weather::Lying);
        let lost = sessions.put(put_of(session("s", 920), of(910))).await;
        assert!(lost.is_err(), "{lost:?}");
        street.across.set(Weather::Fair);
        assert_eq!(second(&sessions).await, Some(920));
        assert!(street.relay().await > 0);
        assert_eq!(
            second(&street.here).await,
            Some(920),
            "{dual_write}: SQLite no longer has what it replaced"
        );
    }
}

#[tokio::test]
async fn settling_takes_the_newer() {
    let street = Street::new(policy(0, true)).await;
    let sessions = street.routed.sessions();
    let settle = || async { street.routed.settle(&Queued::Session(Namespace::default(), id("s"))).await };
    assert_eq!(settle().await, Ok(Settled::Gone));
    put(&sessions, 910, absent()).await;
    assert_eq!(settle().await, Ok(Settled::Delivered));
    assert_eq!(settle().await, Ok(Settled::Delivered), "twice does no harm");
    SessionStore::put(&street.across.sessions, put_of(session("s", 920), ANY)).await.expect("stored");
    assert_eq!(settle().await, Ok(Settled::Pulled));
    assert_eq!(second(&street.here).await, Some(920));
    delete(&sessions, ANY).await;
    assert_eq!(settle().await, Ok(Settled::Delivered));
    assert_eq!(second(&street.across.sessions).await, None);
}

/// Others write into the same table; their versions are drawn from what they wrote.
#[tokio::test]
async fn changes_by_others_count() {
    const NOW: u64 = 1_768_473_000;
    for dual_write in [false, true] {
        let street = Street::new(policy(0, dual_write)).await;
        street.clock.set(Timestamp::from_secs(NOW));
        let sessions = street.routed.sessions();
        let changed = |name: &str| {
            let mut record = session("s", NOW + 1);
            record.session.version = Version::from_u64(1 << 54);
            record.session.extra.insert("by".to_owned(), name.into());
            record
        };
        let by = async || {
            let found = sessions.get(&Namespace::default(), &id("s")).await.expect("an answer");
            found.and_then(|record| record.session.extra.get("by").cloned())
        };
        assert_eq!(put(&sessions, NOW, absent()).await, SessionPutOutcome::Created);
        street.set(policy(100, dual_write)).await;
        assert_eq!(by().await, None);
        street.relay().await;
        SessionStore::put(&street.across.sessions, put_of(changed("them"), ANY)).await.expect("stored");
        assert_eq!(by().await, Some("them".into()), "{dual_write}");
        street.rest().await;
        assert_eq!(by().await, Some("them".into()), "{dual_write}: it is not written over");
        assert_eq!(sessions.list(&all(10)).await.expect("a page").items.len(), 1);
        let theirs = SessionCondition::Version(Version::from_u64(1 << 54));
        assert_eq!(put(&sessions, NOW + 2, theirs).await, SessionPutOutcome::Replaced, "{dual_write}");
        assert_eq!(by().await, None);
        // After a step back SQLite takes what they have changed.
        SessionStore::put(&street.across.sessions, put_of(changed("again"), ANY)).await.expect("stored");
        street.set(policy(0, dual_write)).await;
        if !dual_write {
            assert_eq!(by().await, Some("again".into()));
            assert_eq!(put(&sessions, NOW + 3, theirs).await, SessionPutOutcome::ConditionFailed);
            let found =
                sessions.get(&Namespace::default(), &id("s")).await.expect("an answer").expect("taken");
            assert!(found.session.version > Version::first_of(at(NOW)), "with a version of the clock");
            let read = SessionCondition::Version(found.session.version);
            assert_eq!(put(&sessions, NOW + 4, read).await, SessionPutOutcome::Replaced);
        }
    }
}

#[tokio::test]
async fn increments_survive_that_ownership_moves() {
    const WRITERS: u64 = 6;
    const TIMES: u64 = 8;
    for dual_write in [false, true] {
        let street = Street::new(policy(0, dual_write)).await;
        let sessions = street.routed.sessions();
        put(&sessions, 910, absent()).await;
        let increment = async || {
            for _ in 0..TIMES {
                loop {
                    let found = sessions.get(&Namespace::default(), &id("s")).await.expect("an answer");
                    let mut record = found.expect("a session");
                    let read = record.session.version;
                    record.session.event_count += 1;
                    record.session.version = street.clock.next_version().max(read.next());
                    let put = put_of(record, SessionCondition::Version(read));
                    if sessions.put(put).await.expect("an answer") == SessionPutOutcome::Replaced {
                        break;
                    }
                }
            }
        };
        let writers = join_all((0..WRITERS).map(|_| increment()));
        let moving = async {
            for percent in [100, 0, 100, 0, 50, 100, 0, 100].into_iter().cycle() {
                street.set(policy(percent, dual_write)).await;
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::select! { _ = writers => {}, () = moving => {} }
        street.rest().await;
        for percent in [0, 100] {
            street.set(policy(percent, dual_write)).await;
            let found = sessions.get(&Namespace::default(), &id("s")).await.expect("an answer");
            let count = found.expect("a session").session.event_count;
            assert_eq!(count, WRITERS * TIMES, "{dual_write} at {percent}");
        }
    }
}

#[tokio::test]
async fn many_are_one_question_to_each_side() {
    let street = Street::new(policy(0, false)).await;
    let sessions = street.routed.sessions();
    for (name, percent) in [("a", 0), ("b", 100), ("c", 0)] {
        street.set(policy(percent, false)).await;
        sessions.put(put_of(session(name, 910), absent())).await.expect("stored");
    }
    for percent in [0, 50, 100] {
        street.set(policy(percent, false)).await;
        let before = street.across.asked();
        let ids = ["c", "x", "b", "a", "b"].map(id);
        let found = sessions.get_many(&Namespace::default(), &ids).await.expect("an answer");
        let name = |found: crate::store::Found| found.expect("readable").map(|it| it.session.id.to_string());
        let names: Vec<_> = found.into_iter().map(name).collect();
        let names: Vec<_> = names.iter().map(Option::as_deref).collect();
        assert_eq!(names, [Some("c"), None, Some("b"), Some("a"), Some("b")], "{percent}");
        if percent == 0 {
            assert_eq!(street.across.asked() - before, 1);
        }
        street.rest().await;
    }
}

#[tokio::test]
async fn cursors_of_one_side_are_refused() {
    let street = Street::new(policy(0, true)).await;
    let sessions = street.routed.sessions();
    for name in ["a", "b", "c"] {
        sessions.put(put_of(session(name, 910), absent())).await.expect("stored");
    }
    let page = SessionStore::list(&street.here, &all(1)).await.expect("a page");
    let after = page.next;
    assert!(after.is_some());
    let refused = sessions.list(&SessionQuery { after, ..all(1) }).await;
    assert_eq!(refused.map(|page| page.items.len()), Err(Error::Cursor));
}
