//! The clauses for listings of sessions: by project, by status, pages and cursors.

use super::fixtures::{LIFE, at, in_status, listed_sessions, namespace, put_session, session};
use crate::domain::Namespace;
use crate::domain::session::Status;
use crate::store::{
    Error, PutSession, SessionCondition, SessionCursor, SessionFilter, SessionQuery, SessionStore,
};

fn query(filter: SessionFilter) -> SessionQuery {
    SessionQuery { namespace: Namespace::default(), filter, live_at: None, limit: 100, after: None }
}

/// The project's sessions, created within a span, in a status, oldest first if `ascending`.
fn project(
    project: &str,
    span: (Option<u64>, Option<u64>),
    status: Option<Status>,
    ascending: bool,
) -> SessionQuery {
    query(SessionFilter::Project {
        project_id: project.to_owned(),
        created_after: span.0.map(at),
        created_before: span.1.map(at),
        status,
        ascending,
    })
}

/// The sessions in a status that expire within a span.
fn status(status: Status, span: (Option<u64>, Option<u64>)) -> SessionQuery {
    query(SessionFilter::Status { status, expires_after: span.0.map(at), expires_before: span.1.map(at) })
}

const ALWAYS: (Option<u64>, Option<u64>) = (None, None);

/// Puts a session a name, in turn ACTIVE and READY, a second apart from second 10 on.
async fn fill(store: &dyn SessionStore, names: &[&str]) {
    for (number, (second, name)) in (10..).zip(names).enumerate() {
        let record = in_status(session(name, second), [Status::Active, Status::Ready][number % 2]);
        store.put(put_session(record, SessionCondition::Any)).await.expect("stored");
    }
}

pub(super) async fn by_project_in_both_directions(store: &dyn SessionStore) {
    fill(store, &["b", "a", "c"]).await;
    let mut other = session("other", 11);
    other.session.project_id = Some("p2".to_owned());
    store.put(put_session(other, SessionCondition::Any)).await.expect("stored");
    let mut none = session("none", 11);
    none.session.project_id = None;
    store.put(put_session(none, SessionCondition::Any)).await.expect("stored");
    assert_eq!(
        listed_sessions(store, &project("p", ALWAYS, None, false)).await,
        ["c", "a", "b"],
        "{store}: newest"
    );
    assert_eq!(
        listed_sessions(store, &project("p", ALWAYS, None, true)).await,
        ["b", "a", "c"],
        "{store}: oldest"
    );
    assert_eq!(listed_sessions(store, &project("p2", ALWAYS, None, true)).await, ["other"], "{store}");
    assert_eq!(listed_sessions(store, &project("", ALWAYS, None, true)).await, [""; 0], "{store}");
}

pub(super) async fn by_project_and_creation(store: &dyn SessionStore) {
    fill(store, &["a", "b", "c", "d"]).await;
    for (span, expected) in [
        ((Some(11), None), &["b", "c", "d"][..]),
        ((None, Some(12)), &["a", "b"]),
        ((Some(11), Some(13)), &["b", "c"]),
        ((Some(13), Some(11)), &[]),
    ] {
        assert_eq!(
            listed_sessions(store, &project("p", span, None, true)).await,
            expected,
            "{store}: {span:?}"
        );
        let mut reversed = expected.to_vec();
        reversed.reverse();
        assert_eq!(
            listed_sessions(store, &project("p", span, None, false)).await,
            reversed,
            "{store}: {span:?}"
        );
    }
}

pub(super) async fn by_project_and_status(store: &dyn SessionStore) {
    fill(store, &["a", "b", "c", "d"]).await;
    let with = |status| project("p", ALWAYS, Some(status), true);
    assert_eq!(listed_sessions(store, &with(Status::Active)).await, ["a", "c"], "{store}");
    assert_eq!(listed_sessions(store, &with(Status::Ready)).await, ["b", "d"], "{store}");
    assert_eq!(listed_sessions(store, &with(Status::TimedOut)).await, [""; 0], "{store}");
    let both = project("p", (Some(11), None), Some(Status::Active), false);
    assert_eq!(listed_sessions(store, &both).await, ["c"], "{store}");
}

pub(super) async fn by_status_the_soonest_to_expire_first(store: &dyn SessionStore) {
    for (number, expected) in Status::ALL.into_iter().enumerate() {
        let (late, soon) = (format!("late-{number}"), format!("soon-{number}"));
        for (name, expiry) in [(&late, 300), (&soon, 200)] {
            let mut record = in_status(session(name, 10), expected);
            record.session.expires_at = at(expiry);
            store.put(put_session(record, SessionCondition::Any)).await.expect("stored");
        }
        assert_eq!(
            listed_sessions(store, &status(expected, ALWAYS)).await,
            [soon, late],
            "{store}: {expected:?}"
        );
    }
}

pub(super) async fn by_status_and_expiry(store: &dyn SessionStore) {
    fill(store, &["a", "-", "b", "-2", "c"]).await;
    for (span, expected) in [
        ((Some(12), None), &["b", "c"][..]),
        ((None, Some(12)), &["a"]),
        ((Some(11), Some(14)), &["b"]),
        ((Some(14), Some(11)), &[]),
    ] {
        let span = (span.0.map(|second: u64| second + LIFE), span.1.map(|second: u64| second + LIFE));
        assert_eq!(
            listed_sessions(store, &status(Status::Active, span)).await,
            expected,
            "{store}: {span:?}"
        );
    }
}

pub(super) async fn only_what_lives(store: &dyn SessionStore) {
    fill(store, &["a", "-", "b"]).await;
    let by = |second, query: SessionQuery| SessionQuery { live_at: Some(at(second)), ..query };
    let active = || status(Status::Active, ALWAYS);
    assert_eq!(listed_sessions(store, &by(9 + LIFE, active())).await, ["a", "b"], "{store}");
    assert_eq!(
        listed_sessions(store, &by(10 + LIFE, active())).await,
        ["b"],
        "{store}: expired at that instant"
    );
    let of_project = by(10 + LIFE, project("p", ALWAYS, None, true));
    assert_eq!(listed_sessions(store, &of_project).await, ["-", "b"], "{store}");
    assert_eq!(listed_sessions(store, &active()).await, ["a", "b"], "{store}: all");
}

pub(super) async fn lists_show_one_namespace(store: &dyn SessionStore) {
    for name in ["a", "b"] {
        let put = put_session(session(&format!("of-{name}"), 10), SessionCondition::Any);
        store.put(PutSession { namespace: namespace(name), ..put }).await.expect("stored");
    }
    for query in [project("p", ALWAYS, None, false), status(Status::Active, ALWAYS)] {
        assert_eq!(listed_sessions(store, &query).await, [""; 0], "{store}");
        let query = SessionQuery { namespace: namespace("a"), ..query };
        assert_eq!(listed_sessions(store, &query).await, ["of-a"], "{store}");
    }
}

pub(super) async fn pages_of_any_size_show_each_session_once(store: &dyn SessionStore) {
    let names: Vec<String> = (0..14).map(|number| format!("s{}", number * 5 % 14)).collect();
    fill(store, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for query in [
        project("p", ALWAYS, None, false),
        project("p", ALWAYS, None, true),
        project("p", ALWAYS, Some(Status::Ready), false),
        status(Status::Active, ALWAYS),
    ] {
        let whole = listed_sessions(store, &query).await;
        assert!([7, 14].contains(&whole.len()), "{store}: {whole:?}");
        for limit in 1..=15 {
            let paged = listed_sessions(store, &SessionQuery { limit, ..query.clone() }).await;
            assert_eq!(paged, whole, "{store}: {limit} a page");
        }
    }
}

pub(super) async fn equal_times_lose_nothing(store: &dyn SessionStore) {
    for number in 0..9 {
        let record = session(&format!("s{number}"), 10);
        store.put(put_session(record, SessionCondition::Any)).await.expect("stored");
    }
    let queries =
        [project("p", ALWAYS, None, false), project("p", ALWAYS, None, true), status(Status::Active, ALWAYS)];
    for query in queries {
        for limit in [1, 2, 4, 9] {
            let mut ids = listed_sessions(store, &SessionQuery { limit, ..query.clone() }).await;
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 9, "{store}: {limit} a page");
        }
    }
}

pub(super) async fn a_changed_session_moves_between_lists(store: &dyn SessionStore) {
    fill(store, &["a"]).await;
    let mut moved = in_status(session("a", 20), Status::Stopped);
    moved.session.project_id = Some("p2".to_owned());
    store.put(put_session(moved, SessionCondition::Any)).await.expect("stored");
    assert_eq!(listed_sessions(store, &project("p", ALWAYS, None, false)).await, [""; 0], "{store}");
    assert_eq!(listed_sessions(store, &status(Status::Active, ALWAYS)).await, [""; 0], "{store}");
    assert_eq!(listed_sessions(store, &project("p2", ALWAYS, None, false)).await, ["a"], "{store}");
    assert_eq!(listed_sessions(store, &status(Status::Stopped, ALWAYS)).await, ["a"], "{store}");
}

pub(super) async fn foreign_cursors_are_refused(store: &dyn SessionStore) {
    fill(store, &["a", "b"]).await;
    for query in [project("p", ALWAYS, None, false), status(Status::Active, ALWAYS)] {
        for bytes in [&b""[..], b"x", b"1234567", b"12345678", &[0xff; 15], &[0xff; 300]] {
            let query = SessionQuery { after: Some(SessionCursor(bytes.to_vec())), ..query.clone() };
            let refused = store.list(&query).await.expect_err("not its cursor");
            assert_eq!(refused, Error::Cursor, "{store}: {bytes:?}");
        }
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let query = SessionQuery { after: Some(SessionCursor(vec![byte; 16])), ..query.clone() };
            match store.list(&query).await {
                Ok(page) => assert!(page.items.len() <= 2, "{store}: {byte}"),
                Err(error) => assert_eq!(error, Error::Cursor, "{store}: {byte}"),
            }
        }
    }
}

pub(super) async fn a_listing_goes_on_behind_each_place(store: &dyn SessionStore) {
    fill(store, &["d", "-", "a", "c", "b"]).await;
    for query in
        [project("p", ALWAYS, None, false), project("p", ALWAYS, None, true), status(Status::Active, ALWAYS)]
    {
        let ids = listed_sessions(store, &query).await;
        let page = store.list(&query).await.expect("a page");
        assert_eq!(page.places.len(), page.items.len(), "{store}");
        for (number, place) in page.places.into_iter().enumerate() {
            let rest = SessionQuery { after: Some(place), ..query.clone() };
            assert_eq!(listed_sessions(store, &rest).await, ids[number + 1..], "{store}: {number}");
        }
    }
}
