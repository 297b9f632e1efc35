//! What opening refuses, with which words, and that it leaves the files alone.

use super::*;

#[tokio::test]
async fn a_directory_belongs_to_one_process() {
    let directory = directory();
    let store = open(directory.path());
    match try_open(directory.path()) {
        Err(OpenError::Locked { process, path }) => {
            assert_eq!((process, path.as_path()), (std::process::id().to_string(), directory.path()));
        }
        other => panic!("{other:?}"),
    }
    put_result(&store, put(&url(1), "text", 10)).await;
    let clone = store.clone();
    drop(store);
    assert!(matches!(try_open(directory.path()), Err(OpenError::Locked { .. })), "a clone holds it");
    drop(clone);
    assert_eq!(said(&open(directory.path()), &url(1)).await.as_deref(), Some("text"), "free again");
}

#[test]
fn a_directory_is_created_or_named() {
    let directory = directory();
    let deep = directory.path().join("a/b");
    drop(open(&deep));
    assert!(deep.join(FILE_NAME).is_file());
    let file = directory.path().join("file");
    std::fs::write(&file, "text").expect("written");
    let refused = try_open(&file).expect_err("not a directory");
    assert!(matches!(&refused, OpenError::Directory { path, .. } if *path == file), "{refused}");
    assert!(refused.to_string().contains("server.data_dir"), "{refused}");
}

#[cfg(unix)]
#[test]
fn a_new_directory_is_private_and_an_existing_one_is_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).expect("a directory").permissions().mode() & 0o777;
    let directory = directory();
    let (above, new) = (directory.path().join("a"), directory.path().join("a/b"));
    drop(open(&new));
    assert_eq!(mode(&new), 0o700);
    let plain = directory.path().join("plain");
    std::fs::create_dir(&plain).expect("made");
    assert_eq!(mode(&above), mode(&plain), "what is above it is made as usual");
    for chosen in [0o750, 0o755] {
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(chosen)).expect("set");
        drop(open(&plain));
        assert_eq!(mode(&plain), chosen);
    }
}

#[test]
fn what_is_no_database_is_left_as_it_is() {
    let mut header_only = b"SQLite format 3\0".to_vec();
    header_only.resize(40_000, 0xa5);
    for garbage in [b"{}".to_vec(), b"not a database at all ".repeat(5000), vec![0xff; 16_384], header_only] {
        let directory = directory();
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, &garbage).expect("written");
        let refused = try_open(directory.path()).expect_err("garbage");
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused:?}");
        assert!(refused.to_string().contains(&path.display().to_string()), "{refused}");
        assert!(std::fs::read(&path).expect("still there") == garbage, "{refused}: the file was changed");
    }
}

#[test]
fn a_newer_database_is_refused() {
    let directory = directory();
    drop(open(directory.path()));
    let own = connection(directory.path());
    let newer = "insert into refinery_schema_history (version, name, applied_on, checksum)
        values (9999, 'from_the_future', '2030-01-01T00:00:00Z', '1')";
    own.execute(newer, []).expect("inserted");
    drop(own);
    let refused = try_open(directory.path()).expect_err("newer");
    assert!(matches!(refused, OpenError::Migration { .. }), "{refused:?}");
    assert!(refused.to_string().contains("from_the_future"), "{refused}");
    assert!(refused.to_string().contains("another version of crawlcache"), "{refused}");
}

#[test]
fn a_changed_migration_is_refused() {
    let directory = directory();
    drop(open(directory.path()));
    let own = connection(directory.path());
    let changed = "update refinery_schema_history set checksum = '1' where version = 1";
    assert_eq!(own.execute(changed, []), Ok(1));
    drop(own);
    let refused = try_open(directory.path()).expect_err("changed");
    assert!(matches!(refused, OpenError::Migration { .. }), "{refused:?}");
    assert!(refused.to_string().contains("results"), "it names the migration: {refused}");
}

#[tokio::test]
async fn a_refused_directory_can_be_opened_once_it_is_mended() {
    let directory = directory();
    let path = directory.path().join(FILE_NAME);
    std::fs::write(&path, "garbage").expect("written");
    assert!(try_open(directory.path()).is_err());
    std::fs::remove_file(&path).expect("removed");
    put_result(&open(directory.path()), put(&url(1), "text", 10)).await;
}

#[test]
fn the_pragmas_are_those_that_durability_and_space_need() {
    let directory = directory();
    drop(open(directory.path()));
    let writer = schema::open_writer(&directory.path().join(FILE_NAME), 1 << 20).expect("opens");
    for (pragma, value) in [
        ("page_size", 16_384),
        ("auto_vacuum", 2),
        ("synchronous", 2),
        ("mmap_size", 0),
        ("cell_size_check", 1),
    ] {
        // SQLite may report no row at all for mmap_size where the build has no mmap.
        let found = writer.query_row(&format!("pragma {pragma}"), [], |row| rows::unsigned(row, 0));
        assert!(found == Ok(value) || (pragma == "mmap_size" && found.is_err()), "{pragma}: {found:?}");
    }
    let mode: String = writer.query_row("pragma journal_mode", [], |row| row.get(0)).expect("a mode");
    assert_eq!(mode, "wal");
}
