//! A disk without space: a small file system of its own, filled to the brim.

use std::process::Command;

use super::*;
use crate::store::{Error, PutOutcome};

/// A file system of four megabytes in memory, unmounted when it is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, with the reason printed, where mounting is not allowed.
    fn mount() -> Option<Self> {
        let directory = directory();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(directory.path())
            .output();
        let reason = match mounted {
            Ok(output) if output.status.success() => return Some(Self(directory)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        #[expect(clippy::disallowed_methods, reason = "a test takes its switch from the environment")]
        let required = std::env::var_os("TEST_REQUIRE_ALL").is_some();
        assert!(!required, "TEST_REQUIRE_ALL is set, and no small disk can be mounted: {reason}");
        println!("SKIPPED: no small disk can be mounted: {reason}");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            println!("{} could not be unmounted", self.0.path().display());
        }
    }
}

/// Puts entries from `first` on until one does not fit; returns its number and the error.
async fn fill(store: &SqliteStore, first: u64) -> (u64, Error) {
    for entry in first..first + 1000 {
        match ResultStore::put(store, noise(entry, 50_000)).await {
            Ok(outcome) => assert_eq!(outcome, PutOutcome::Created),
            Err(error) => return (entry, error),
        }
    }
    panic!("50 MB fit on a disk of 4 MB");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 768 << 10]).expect("written");
    let reserve = disk.path().join("reserve");
    std::fs::write(&reserve, vec![1; 256 << 10]).expect("written");
    let data = disk.path().join("data");
    let store = open(&data);
    put_session(&store, "s", 10).await;
    let (stored_until, error) = fill(&store, 0).await;
    assert!(stored_until > 10, "{stored_until} entries fit");
    assert!(matches!(error, Error::Full { .. }), "{error}");
    // Reads go on, and the store says what is wrong.
    for entry in 0..=stored_until {
        assert_eq!(said(&store, &url(entry)).await.is_some(), entry < stored_until, "entry {entry}");
    }
    let full = status(&store).await;
    assert!(matches!(full.health, Health::Degraded(_)), "{full:?}");
    assert_eq!(full.entries, stored_until);
    // Of puts in one transaction, the one that cannot fit fails alone or with the others, but none is half there.
    let (large, small) = (noise(2000, 400_000), put(&url(2001), "small", 10));
    let (large, small) = tokio::join!(ResultStore::put(&store, large), ResultStore::put(&store, small));
    assert!(matches!(large, Err(Error::Full { .. })), "{large:?}");
    assert_eq!(said(&store, &url(2000)).await, None);
    assert_eq!(said(&store, &url(2001)).await.is_some(), small.is_ok());

    std::fs::remove_file(&ballast).expect("removed");
    assert_eq!(ResultStore::put(&store, noise(3000, 50_000)).await, Ok(PutOutcome::Created), "space again");
    assert_eq!(status(&store).await.health, Health::Healthy);
    let (more, error) = fill(&store, 4000).await;
    assert!(more > 4000 && matches!(error, Error::Full { .. }), "{error}");
    drop(store);

    // The log may not fit into the database, nor its index beside it: then opening says so, and loses nothing.
    let store = match try_open(&data) {
        Ok(store) => store,
        Err(refused) => {
            assert!(matches!(refused, OpenError::Full { .. }), "{refused:?}");
            std::fs::remove_file(&reserve).expect("removed");
            open(&data)
        }
    };
    let numbers = (0..stored_until).chain(4000..more).chain([3000]);
    for entry in numbers {
        let found = stored(&store, &url(entry)).await.expect("a get").expect("acknowledged");
        assert_eq!(Some(&found.frame), noise(entry, 50_000).frame.as_ref(), "entry {entry}");
    }
    assert!(session_exists(&store, "s").await);
    recount(&connection(&data));
    drop(store);
}

#[test]
fn a_database_that_has_no_room_says_so() {
    let Some(disk) = SmallDisk::mount() else { return };
    let free = 4 << 20;
    std::fs::write(disk.path().join("ballast"), vec![1; free - (16 << 10)]).expect("written");
    let refused = try_open(&disk.path().join("data")).expect_err("no room");
    assert!(matches!(refused, OpenError::Full { .. } | OpenError::Directory { .. }), "{refused:?}");
}
