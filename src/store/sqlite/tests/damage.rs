//! Damaged files: every byte that is served is one that was stored, or it is an error.

use std::collections::HashMap;

use super::*;
use crate::domain::{Meta, Version};
use crate::store::conformance::{bodiless, facts, given};
use crate::store::{Condition, DeleteOutcome, Error, ListQuery, Look, PutOutcome};

/// A closed database of sixty entries: its bytes, and the bodies by number.
async fn database() -> (Vec<u8>, HashMap<u64, bytes::Bytes>) {
    let directory = directory();
    let store = open(directory.path());
    let mut bodies = HashMap::new();
    for entry in 0..60 {
        let put = noise(entry, if entry % 10 == 0 { 40_000 } else { 3000 });
        bodies.insert(entry, put.frame.clone().expect("a body"));
        put_result(&store, put).await;
    }
    store.close().await;
    (std::fs::read(store.path()).expect("a file"), bodies)
}

/// A directory with these bytes as its database.
fn with_bytes(bytes: &[u8]) -> TempDir {
    let directory = directory();
    std::fs::write(directory.path().join(FILE_NAME), bytes).expect("written");
    directory
}

/// Opens, reads everything, and counts the errors; whatever is served must be what was stored.
async fn read_all(directory: &Path, bodies: &HashMap<u64, bytes::Bytes>) -> usize {
    let store = match try_open(directory) {
        Ok(store) => store,
        Err(OpenError::Corrupt { .. } | OpenError::Sqlite { .. } | OpenError::Migration { .. }) => {
            return bodies.len();
        }
        Err(other) => panic!("{other}"),
    };
    let mut errors = 0;
    for (number, body) in bodies {
        match stored(&store, &url(*number)).await {
            Ok(Some(entry)) => assert!(entry.frame == *body, "entry {number} has another body"),
            Ok(None) => {}
            Err(Error::Corrupt { .. } | Error::Backend { .. } | Error::Unavailable { .. }) => errors += 1,
            Err(other) => panic!("entry {number}: {other}"),
        }
    }
    // Whatever it says, it says it without a panic.
    let _ = ResultStore::list(&store, &ListQuery::all(&Namespace::default(), 100)).await;
    errors
}

#[tokio::test]
async fn a_flipped_byte_in_a_body_is_found() {
    let (bytes, bodies) = database().await;
    for number in [3, 17, 59] {
        let body = &bodies[&number];
        let start = memchr::memmem::find(&bytes, body).expect("a body within one page");
        for offset in [0, 1, body.len() / 2, body.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[start + offset] ^= 0x10;
            let directory = with_bytes(&damaged);
            let store = open(directory.path());
            let found = stored(&store, &url(number)).await;
            assert!(matches!(found, Err(Error::Corrupt { .. })), "entry {number}, byte {offset}: {found:?}");
            let neighbour = stored(&store, &url(number - 1)).await.expect("a get").expect("an entry");
            assert_eq!(neighbour.frame, bodies[&(number - 1)], "its neighbour is sound");
        }
    }
}

#[tokio::test]
async fn a_flipped_byte_anywhere_never_serves_another_body() {
    let (bytes, bodies) = database().await;
    let mut state = 42_u64;
    for _ in 0..50 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 33).expect("31 bits") % bytes.len();
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (state & 7);
        read_all(with_bytes(&damaged).path(), &bodies).await;
    }
}

#[tokio::test]
async fn a_truncated_database_says_so() {
    let (bytes, bodies) = database().await;
    for kept in [100, 16_384, 16_384 * 9, bytes.len() / 2, bytes.len() - 16_384, bytes.len() - 5000] {
        let directory = with_bytes(&bytes[..kept]);
        let errors = read_all(directory.path(), &bodies).await;
        assert!(errors > 0, "{kept} of {} bytes: no read failed", bytes.len());
    }
}

#[tokio::test]
async fn a_damaged_row_does_not_take_the_others_with_it() {
    let directory = directory();
    let store = open(directory.path());
    for entry in 0..3 {
        put_result(&store, put(&url(entry), "text", 10)).await;
    }
    for damage in ["layout = x'00'", "layout = 'text'", "etag = x'00'", "updated_at = -1"] {
        let own = connection(directory.path());
        own.execute_batch("create temp table kept as select * from results where row = 2").expect("kept");
        assert_eq!(own.execute(&format!("update results set {damage} where row = 2"), []), Ok(1));
        let found = stored(&store, &url(1)).await;
        assert!(matches!(found, Err(Error::Corrupt { .. })), "{damage}: {found:?}");
        let metas = ResultStore::get_metas(&store, &[url(1)]).await;
        assert!(matches!(metas.as_deref(), Ok([None])), "{damage}: {metas:?}");
        let looks = ResultStore::look_metas(&store, &[url(0), url(1)]).await.expect("looks");
        assert!(matches!(looks[..], [Look::Entry(_), Look::Absent]), "{damage}: {looks:?}");
        assert_eq!(said(&store, &url(0)).await.as_deref(), Some("text"), "{damage}");
        own.execute_batch("delete from results where row = 2; insert into results select * from kept")
            .expect("mended");
    }
    let own = connection(directory.path());
    put_session(&store, "s", 10).await;
    own.execute("update sessions set body = x'7b7d'", []).expect("damaged");
    let id = SessionId::new("s").expect("an id");
    let found = SessionStore::get(&store, &Namespace::default(), &id).await;
    assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
}

/// What can be wrong with a row, and whether it can still be told how new it is and what it held.
const DAMAGES: [(&str, bool); 12] = [
    ("body = zeroblob(length(body))", true),
    ("body = substr(body, 1, length(body) / 2)", true),
    ("body = x''", true),
    ("body = 'text'", true),
    ("layout = x'00'", true),
    ("digest = x'00'", true),
    ("etag = x'00'", false),
    ("version = -1", false),
    ("expires_at = 'never'", true),
    ("updated_at = -1", true),
    ("stored_size = 'much', raw_size = x'00'", true),
    ("url = 'https://elsewhere/', host = 'elsewhere'", true),
];

/// A store whose one row is damaged.
async fn damaged(damage: &str) -> (TempDir, SqliteStore) {
    let directory = directory();
    let store = open(directory.path());
    put_result(&store, put(&url(1), "text", 10)).await;
    let changed = connection(directory.path()).execute(&format!("update results set {damage}"), []);
    assert_eq!(changed, Ok(1), "{damage}");
    (directory, store)
}

#[tokio::test]
async fn what_is_damaged_heals_by_being_stored_again() {
    let absent = Condition::Absent(at(11));
    for (damage, _) in DAMAGES {
        let is_sound = damage.starts_with("stored_size") || damage.starts_with("url");
        for (again, text, version) in [
            (put(&url(1), "text", 20), "text", 20),
            (put(&url(1), "other", 20), "other", 20),
            (put(&url(1), "text", 10), "text", 10),
            (given(absent.clone(), put(&url(1), "other", 20)), "other", 20),
        ] {
            let asks_for_none = again.condition != Condition::Any;
            if is_sound && (asks_for_none || version == 10) {
                continue;
            }
            let (directory, store) = damaged(damage).await;
            let what = format!("{damage}: {text} at {version}");
            let outcome = put_result(&store, again.clone()).await;
            assert!(matches!(outcome, PutOutcome::Refreshed | PutOutcome::Replaced), "{what}: {outcome:?}");
            let entry = stored(&store, &url(1)).await.expect("readable").expect("an entry");
            assert_eq!(text_of(&entry), text, "{what}");
            assert_eq!(
                facts(&entry.meta),
                facts(&Meta { created_at: entry.meta.created_at, ..again.meta.clone() })
            );
            let listed = ResultStore::list(&store, &ListQuery::all(&Namespace::default(), 10)).await;
            assert_eq!(listed.expect("a page").items.len(), 1, "{what}");
            let url: String = connection(directory.path())
                .query_row("select url from results", [], |row| row.get(0))
                .expect("a row");
            assert_eq!(url, again.meta.key.url(), "{what}");
        }
    }
}

#[tokio::test]
async fn an_earlier_write_mends_only_what_it_is_itself() {
    for (damage, tells) in DAMAGES.into_iter().filter(|(damage, _)| damage.starts_with("body")) {
        assert!(tells);
        let (_directory, store) = damaged(damage).await;
        let confirmed = bodiless(put(&url(1), "text", 30));
        assert_eq!(put_result(&store, confirmed.clone()).await, PutOutcome::Refreshed);
        let older = put_result(&store, put(&url(1), "older", 9)).await;
        assert_eq!(older, PutOutcome::Superseded, "{damage}: what was replaced does not come back");
        assert!(stored(&store, &url(1)).await.is_err(), "{damage}");
        assert_eq!(put_result(&store, put(&url(1), "text", 9)).await, PutOutcome::Refreshed, "{damage}");
        let entry = stored(&store, &url(1)).await.expect("readable").expect("an entry");
        assert_eq!((text_of(&entry).as_str(), entry.meta.updated_at), ("text", at(30)), "{damage}");
        assert_eq!(entry.meta.version, confirmed.meta.version, "{damage}: what is known since stays");
        assert_eq!(put_result(&store, put(&url(1), "text", 9)).await, PutOutcome::Superseded, "{damage}");
    }
}

#[tokio::test]
async fn a_damaged_row_is_listed_around_deleted_swept_and_evicted_like_any_other() {
    for (damage, _) in DAMAGES {
        let (directory, store) = damaged(damage).await;
        put_result(&store, put(&url(2), "sound", 10)).await;
        let page = ResultStore::list(&store, &ListQuery::all(&Namespace::default(), 10)).await;
        let page = page.unwrap_or_else(|error| panic!("{damage}: {error}"));
        assert!(page.items.iter().any(|meta| meta.key == url(2)), "{damage}: {page:?}");
        let looks = store.look_metas(&[url(1), url(2)]).await.expect("looks");
        assert!(matches!(looks[1], Look::Entry(_)), "{damage}: {looks:?}");
        let known = store.known(&[url(1).id()]).await.expect("known");
        assert!(known[0].held.is_some(), "{damage}: {known:?}");
        let deleted = ResultStore::delete(&store, &url(1), Version::first_of(at(20)), Condition::Any).await;
        assert_eq!(deleted, Ok(DeleteOutcome::Deleted), "{damage}");
        assert_eq!(number(&connection(directory.path()), "select count(*) from results"), 1, "{damage}");
        assert_eq!(status(&store).await.entries, 1, "{damage}");
    }
}
