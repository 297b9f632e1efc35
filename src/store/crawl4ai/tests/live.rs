//! Caches that somebody writes to, has left open, or has put where nothing can be written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::fixture::{Cache, OLD, hash, insert, read, snapshot};
use crate::store::crawl4ai::{Error, Filter, Row, Source};

const HTML: &str = "<html>";

fn urls(path: &std::path::Path) -> Vec<String> {
    read(path, Filter::default()).into_keys().collect()
}

#[test]
fn it_is_found_by_its_directory_the_one_above_and_its_name() {
    let cache = Cache::new();
    cache.page("https://a/", &[("html", HTML)]);
    let above = tempfile::tempdir().expect("a temporary directory");
    // Characters that mean something in an address.
    let odd = above.path().join("50% of ?a=1#b \u{e9}").join(".crawl4ai");
    fs::create_dir_all(&odd).expect("made");
    fs::rename(cache.path(), &odd).expect("moved");
    for path in [odd.clone(), odd.join("crawl4ai.db"), odd.parent().expect("a parent").to_owned()] {
        assert_eq!(urls(&path), ["https://a/"], "{}", path.display());
    }
    let missing = Source::find(above.path()).unwrap_err();
    assert!(matches!(missing, Error::Missing(_)), "{missing}");
}

#[test]
fn what_is_no_cache_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let database = directory.path().join("crawl4ai.db");
    let begin = || Source::find(directory.path()).expect("found").read(Filter::default());
    fs::write(&database, "no database at all, but long enough to have a header if it were one")
        .expect("written");
    assert!(matches!(begin().unwrap_err(), Error::Sqlite { .. }));
    fs::remove_file(&database).expect("removed");
    let connection = Connection::open(&database).expect("opened");
    connection.execute("create table crawled_data (html TEXT)", []).expect("made");
    assert!(matches!(begin().unwrap_err(), Error::NoTable(_)));
    connection.execute("drop table crawled_data", []).expect("dropped");
    assert!(matches!(begin().unwrap_err(), Error::NoTable(_)));
    connection.execute(OLD, []).expect("made");
    assert_eq!(begin().expect("a cache").count(), 0, "an empty cache is one");
}

#[test]
fn nothing_is_left_beside_a_cache_that_nobody_uses() {
    let cache = Cache::new();
    for n in 0..600 {
        cache.page(&format!("https://a/{n}"), &[("html", HTML)]);
    }
    let before = snapshot(cache.path());
    assert_eq!(urls(cache.path()).len(), 600);
    assert_eq!(snapshot(cache.path()), before);
}

#[test]
fn the_log_of_one_that_is_in_use_is_read() {
    let cache = Cache::new();
    let writer = cache.connect();
    writer.pragma_update(None, "wal_autocheckpoint", 0).expect("set");
    cache.file("html", HTML);
    insert(&writer, "https://a/", &[("html", &hash(HTML))]);
    let log = cache.path().join("crawl4ai.db-wal");
    assert!(fs::metadata(&log).expect("there").len() > 0);
    let database = fs::read(cache.database()).expect("read");
    assert_eq!(urls(cache.path()), ["https://a/"]);
    assert_eq!(fs::read(cache.database()).expect("read"), database, "the log was not taken over");

    // The same files without the index of the log, as a copy of the directory or a crash leaves them.
    let copy = tempfile::tempdir().expect("a temporary directory");
    for name in ["crawl4ai.db", "crawl4ai.db-wal"] {
        fs::copy(cache.path().join(name), copy.path().join(name)).expect("copied");
    }
    fs::create_dir(copy.path().join("html_content")).expect("made");
    fs::copy(cache.file_path("html", &hash(HTML)), copy.path().join("html_content").join(hash(HTML)))
        .expect("copied");
    let before = snapshot(copy.path());
    let scratch = || {
        let names = fs::read_dir(std::env::temp_dir())
            .expect("listed")
            .map(|entry| entry.expect("entry").file_name());
        names.filter(|name| name.to_string_lossy().starts_with("crawlcache-import-")).collect::<BTreeSet<_>>()
    };
    let left = scratch();
    assert_eq!(urls(copy.path()), ["https://a/"]);
    assert_eq!(snapshot(copy.path()), before);
    assert!(scratch().is_subset(&left), "the copy is gone");
    drop(writer);
}

#[test]
fn a_journal_is_undone_in_a_copy_only() {
    let cache = Cache::old();
    let writer = cache.connect();
    writer.pragma_update(None, "journal_mode", "delete").expect("set");
    insert(&writer, "https://a/", &[("html", "<p>before")]);
    writer.pragma_update(None, "cache_size", 1).expect("set");
    writer.execute_batch("begin").expect("begun");
    for n in 0..200 {
        insert(&writer, &format!("https://b/{n}"), &[("html", &"<p>never committed".repeat(100))]);
    }
    // What a crash leaves: pages that were written before their commit, and the journal that undoes it.
    let copy = tempfile::tempdir().expect("a temporary directory");
    for name in ["crawl4ai.db", "crawl4ai.db-journal"] {
        fs::copy(cache.path().join(name), copy.path().join(name)).expect("copied");
    }
    let before = snapshot(copy.path());
    assert_eq!(urls(copy.path()), ["https://a/"]);
    assert_eq!(snapshot(copy.path()), before);
}

/// Everything in a cache that somebody writes to without a pause. On a busy machine that may be said, and nothing read.
fn read_settled(path: &std::path::Path) -> BTreeMap<String, Row> {
    let begun = (0..100).find_map(|_| match Source::find(path).expect("found").read(Filter::default()) {
        Err(Error::Unsettled(_)) => None,
        begun => Some(begun.expect("begun")),
    });
    let rows = begun.expect("settled for a moment").map(|row| row.expect("read"));
    rows.map(|row| (row.url.clone(), row)).collect()
}

/// Says that it is done when it goes.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Writes as Crawl4AI does: a connection for each page, which takes the log over when it is closed.
#[test]
fn rows_come_while_they_are_read() {
    const THERE: usize = 1500;
    let cache = Cache::new();
    cache.file("html", HTML);
    let name = hash(HTML);
    let connection = cache.connect();
    connection.execute_batch("begin").expect("begun");
    for n in 0..THERE {
        insert(&connection, &format!("https://there/{n}"), &[("html", &name)]);
    }
    connection.execute_batch("commit").expect("committed");
    drop(connection);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when a reading fails: nobody would wait for the writer else.
        let end = Done(&done);
        let writing = scope.spawn(|| {
            let mut n = 0_u32;
            while !done.load(Ordering::SeqCst) {
                let connection = cache.connect();
                connection.busy_timeout(std::time::Duration::from_secs(5)).expect("set");
                connection.pragma_update(None, "journal_mode", "wal").expect("set");
                insert(
                    &connection,
                    &format!("https://new/{n}"),
                    &[("html", &name), ("media", &"[".repeat(n as usize % 9000))],
                );
                let again = "update crawled_data set etag = 'e' || ?1 where url = ?2";
                connection
                    .execute(again, rusqlite::params![n, format!("https://there/{}", n as usize * 7 % THERE)])
                    .expect("updated");
                n += 1;
            }
            n
        });
        for _ in 0..20 {
            let rows = read_settled(cache.path());
            let there = rows.keys().filter(|url| url.starts_with("https://there/")).count();
            assert_eq!(there, THERE, "none that was there throughout is left out");
            assert!(rows.values().all(|row| row.page.is_ok()));
        }
        drop(end);
        assert!(writing.join().expect("no panic") > 0);
    });
    let check: String =
        cache.connect().query_row("pragma integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(check, "ok");
}

#[test]
fn a_reading_that_is_given_up_ends() {
    let cache = Cache::new();
    for n in 0..300 {
        cache.page(&format!("https://a/{n}"), &[("html", HTML)]);
    }
    let mut rows = Source::find(cache.path()).expect("found").read(Filter::default()).expect("begun");
    assert_eq!(rows.total(), 300);
    assert!(rows.next().expect("a row").is_ok());
    drop(rows);
}
