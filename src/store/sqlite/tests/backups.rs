//! Backups: whole, consistent, and never over something else.

use futures_util::future::join_all;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_while_writing_is_consistent() {
    let (directory, target) = (directory(), directory());
    let store = open(directory.path());
    join_all((0..100).map(|entry| ResultStore::put(&store, noise(entry, 5000)))).await;
    put_session(&store, "s", 10).await;
    let copy = target.path().join(FILE_NAME);
    let copying = {
        let (from, to) = (directory.path().to_owned(), copy.clone());
        tokio::task::spawn_blocking(move || backup(&from, &to))
    };
    let mut written = 100;
    while !copying.is_finished() {
        put_result(&store, noise(written, 5000)).await;
        written += 1;
    }
    copying.await.expect("no panic").expect("a backup");
    assert!(!target.path().join("crawlcache.db.partial").exists());
    recount(&connection(target.path()));
    let backed_up = open(target.path());
    let entries = status(&backed_up).await.entries;
    assert!((100..=written).contains(&entries), "{entries} of {written}");
    for entry in 0..written {
        // One snapshot: all that was written before some moment, and nothing after it.
        let found = stored(&backed_up, &url(entry)).await.expect("a get");
        assert_eq!(
            found.map(|found| found.frame.clone()),
            noise(entry, 5000).frame.filter(|_| entry < entries)
        );
    }
    assert!(session_exists(&backed_up, "s").await);
    put_result(&backed_up, noise(5000, 100)).await;
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn a_backup_has_about_the_size_that_was_foretold() {
    let (directory, target) = (directory(), directory());
    let store = open(directory.path());
    for entry in 0..50 {
        put_result(&store, noise(entry, 20_000)).await;
    }
    let foretold = backup_size(directory.path()).expect("a size");
    let copy = target.path().join("copy.db");
    backup(directory.path(), &copy).expect("a backup");
    let size = std::fs::metadata(&copy).expect("a file").len();
    assert!(size.abs_diff(foretold) <= foretold / 5, "{size} bytes, {foretold} foretold");
}

#[tokio::test]
async fn a_backup_never_overwrites() {
    let (directory, target) = (directory(), directory());
    let store = open(directory.path());
    put_result(&store, put(&url(1), "text", 10)).await;
    let copy = target.path().join("copy.db");
    std::fs::write(&copy, "precious").expect("written");
    let refused = backup(directory.path(), &copy);
    assert!(matches!(&refused, Err(BackupError::Exists(path)) if *path == copy), "{refused:?}");
    assert_eq!(std::fs::read(&copy).expect("still there"), b"precious");
    // Not over the database itself either.
    assert!(matches!(backup(directory.path(), store.path()), Err(BackupError::Exists(_))));
    assert_eq!(said(&store, &url(1)).await.as_deref(), Some("text"));
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing() {
    let (directory, target) = (directory(), directory());
    let missing = backup(directory.path(), &target.path().join("copy.db"));
    assert!(matches!(missing, Err(BackupError::Missing(_))), "{missing:?}");
    assert!(matches!(backup_size(directory.path()), Err(BackupError::Missing(_))));
    std::fs::write(directory.path().join(FILE_NAME), "garbage ".repeat(5000)).expect("written");
    assert!(backup(directory.path(), &target.path().join("copy.db")).is_err());
    assert!(backup(directory.path(), &target.path().join("absent/copy.db")).is_err());
    assert_eq!(std::fs::read_dir(target.path()).expect("a directory").count(), 0);
}

#[tokio::test]
async fn only_an_unfinished_backup_is_replaced() {
    let (directory, target) = (directory(), directory());
    let store = open(directory.path());
    put_result(&store, put(&url(1), "text", 10)).await;
    let copy = target.path().join("copy.db");
    let partial = backup_partial_path(&copy);
    for foreign in ["precious", "SQLite format 3, says this text"] {
        std::fs::write(&partial, foreign).expect("written");
        let refused = backup(directory.path(), &copy);
        assert!(matches!(&refused, Err(BackupError::InTheWay(path)) if *path == partial), "{refused:?}");
        assert_eq!(std::fs::read(&partial).expect("still there"), foreign.as_bytes());
        assert!(!copy.exists());
    }
    for unfinished in [&b""[..], b"SQLite format 3\0 and half a page"] {
        std::fs::write(&partial, unfinished).expect("written");
        backup(directory.path(), &copy).expect("a backup");
        assert!(!partial.exists());
        std::fs::remove_file(&copy).expect("there");
    }
}
