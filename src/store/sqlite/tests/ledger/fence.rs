//! The policy that is kept, the fence that it is for bound writes, and where long work is.

use std::sync::mpsc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::*;
use crate::domain::routing::{Percent, Policy};
use crate::store::SessionCondition;
use crate::store::sqlite::ledger::jobs::Job;
use crate::store::sqlite::ledger::policy::{Change, Kept};

fn policy(generation: u64) -> Policy {
    let percent = Percent::from_hundredths(u16::try_from(generation).expect("small")).expect("a share");
    Policy { percent, ..Policy::default() }
}

/// The change that begins a generation.
fn change(generation: u64) -> Change {
    Change {
        generation,
        changed_at: at(NOW + generation),
        who: "ops".into(),
        reason: format!("step {generation}"),
        before: policy(generation - 1),
        after: policy(generation),
    }
}

fn bound_put(
    store: &SqliteStore,
    number: u64,
    generation: u64,
) -> impl Future<Output = Result<Fenced<PutOutcome>>> {
    store.put_beside(put(&url(number), "text", 10), Some(generation), QUEUE)
}

#[tokio::test]
async fn the_policy_is_kept_and_its_changes_are_logged() {
    let directory = directory();
    let store = remembering(directory.path());
    assert_eq!(store.policy().await, Ok(None));
    for generation in 1..=3 {
        assert_eq!(store.change_policy(change(generation)).await, Ok(true));
    }
    for generation in [1, 3, 5] {
        assert_eq!(
            store.change_policy(change(generation)).await,
            Ok(false),
            "{generation} does not follow 3"
        );
    }
    drop(store);
    let store = remembering(directory.path());
    let kept = Kept { generation: 3, policy: policy(3), changed_at: at(NOW + 3) };
    assert_eq!(store.policy().await, Ok(Some(kept)));
    assert_eq!(store.policy_log(None, 10).await, Ok(vec![change(3), change(2), change(1)]));
    assert_eq!(store.policy_log(Some(3), 1).await, Ok(vec![change(2)]));
    assert_eq!(store.change_policy(change(3)).await, Ok(false), "the generation is known after reopening");
    assert_eq!(store.change_policy(change(4)).await, Ok(true));
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_is_said_to_be_so() {
    let directory = directory();
    let store = remembering(directory.path());
    store.change_policy(change(1)).await.expect("changed");
    let own = connection(directory.path());
    own.execute_batch("update routing set policy = '{\"percent\":'; update routing_log set after = '{}'")
        .expect("damaged");
    for refused in [store.policy().await.err(), store.policy_log(None, 1).await.err()] {
        let refused = refused.expect("damaged");
        assert!(
            matches!(&refused, Error::Corrupt { detail, .. } if detail.contains("policy of generation 1")),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_write_under_another_policy_changes_nothing() {
    let directory = directory();
    let store = remembering(directory.path());
    assert_eq!(bound_put(&store, 1, 0).await, Ok(Fenced::Done(PutOutcome::Created)));
    put_session(&store, "s", 10).await;
    store.change_policy(change(1)).await.expect("changed");
    let (own, space) = (connection(directory.path()), Namespace::default());
    let rows = || number(&own, "select sum(value) from totals");
    let (before, name) = (rows(), SessionId::new("s").expect("an id"));
    for generation in [0, 2] {
        let bound = Some(generation);
        assert_eq!(bound_put(&store, 2, generation).await, Ok(Fenced::Outdated));
        assert_eq!(
            store.delete_beside(&url(1), version(20), Condition::Any, bound, Beside::Settle).await,
            Ok(Fenced::Outdated)
        );
        let condition = SessionCondition::Any;
        let put = PutSession { namespace: space.clone(), record: session("t", 20), condition };
        assert_eq!(store.put_session_beside(put, bound, QUEUE).await, Ok(Fenced::Outdated));
        let deleted = store.delete_session_beside(&space, &name, condition, version(20), bound, QUEUE).await;
        assert_eq!(deleted, Ok(Fenced::Outdated));
    }
    assert_eq!(rows(), before);
    let expected = Known { held: Some(version(10)), tombstone: None, queued: Some(version(10)) };
    assert_eq!(known(&store).await, expected);
    assert_eq!(bound_put(&store, 2, 1).await, Ok(Fenced::Done(PutOutcome::Created)));
    drop(store);
    let store = remembering(directory.path());
    assert_eq!(bound_put(&store, 3, 0).await, Ok(Fenced::Outdated), "after reopening");
    assert_eq!(bound_put(&store, 3, 1).await, Ok(Fenced::Done(PutOutcome::Created)));
}

/// Writes that share a transaction with a change of the policy are before it or behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fence_stands_where_the_change_stands() {
    let directory = directory();
    let store = remembering(directory.path());
    // While the writer waits, everything else gathers behind it, in the order in which the futures are polled.
    let (go, wait) = mpsc::channel();
    let (busy, started) = oneshot::channel();
    let mut busy = Some(busy);
    let mut blocked = JoinSet::new();
    blocked.spawn({
        let store = store.clone();
        async move {
            store
                .write(0, move |_, _| {
                    busy.take().expect("it runs once").send(()).expect("the test waits");
                    wait.recv().expect("the test says when");
                    Ok(Ok(()))
                })
                .await
        }
    });
    started.await.expect("the writer is busy");
    let (before, changed, late, after, ()) = tokio::join!(
        bound_put(&store, 1, 0),
        store.change_policy(change(1)),
        bound_put(&store, 2, 0),
        bound_put(&store, 3, 1),
        async { go.send(()).expect("it waits") }
    );
    blocked.join_next().await.expect("a task").expect("no panic").expect("committed");
    let created = Ok(Fenced::Done(PutOutcome::Created));
    assert_eq!((before, changed, late, after), (created.clone(), Ok(true), Ok(Fenced::Outdated), created));
}

#[tokio::test]
async fn a_change_that_was_not_committed_was_none() {
    let directory = directory();
    let store = remembering(directory.path());
    let failed = store
        .write::<()>(0, |_, totals| {
            totals.generation = 7;
            totals.outbox = 7;
            Err(rusqlite::Error::InvalidQuery)
        })
        .await;
    assert!(failed.is_err(), "{failed:?}");
    connection(directory.path())
        .execute_batch(
            "create trigger refuse before insert on routing_log begin select raise(abort, 'no'); end",
        )
        .expect("a trigger");
    store.change_policy(change(1)).await.expect_err("refused");
    assert_eq!(bound_put(&store, 1, 0).await, Ok(Fenced::Done(PutOutcome::Created)));
    assert_eq!(store.policy().await, Ok(None));
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn long_work_goes_on_where_it_was() {
    let directory = directory();
    let store = remembering(directory.path());
    let job = |name: &str, state: &str| Job { name: name.into(), state: state.into(), updated_at: at(NOW) };
    for (name, state) in [("verify", "{}"), ("migrate", "{\"row\":1}"), ("migrate", "{\"row\":2}")] {
        store.save_job(job(name, state)).await.expect("saved");
    }
    drop(store);
    let store = remembering(directory.path());
    let expected = vec![job("migrate", "{\"row\":2}"), job("verify", "{}")];
    assert_eq!(store.jobs().await, Ok(expected));
    for _ in 0..2 {
        store.forget_job("migrate").await.expect("forgotten");
        assert_eq!(store.jobs().await, Ok(vec![job("verify", "{}")]));
    }
}
