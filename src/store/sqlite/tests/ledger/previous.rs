//! A database that the previous release left.

use refinery::{Migration, Runner};

use super::*;

/// Makes a database with the schema of the previous release.
fn previous(directory: &Path) -> Connection {
    let mut connection = connection(directory);
    connection.execute_batch("pragma page_size = 16384; pragma auto_vacuum = incremental").expect("set");
    let migrations = [
        ("V0001__results", include_str!("../../../../../migrations/V0001__results.sql")),
        ("V0002__sessions", include_str!("../../../../../migrations/V0002__sessions.sql")),
    ]
    .map(|(name, sql)| Migration::unapplied(name, sql).expect("a migration"));
    Runner::new(&migrations).run(&mut connection).expect("applied");
    connection
}

#[tokio::test]
async fn a_database_of_the_previous_release_is_taken_over() {
    let (source, target) = (directory(), directory());
    let store = open(source.path());
    for number in 0..20 {
        put_result(&store, put(&url(number), &format!("text {number}"), 10 + number)).await;
    }
    put_session(&store, "s", 10).await;
    let before = status(&store).await;
    store.close().await;
    let old = previous(target.path());
    old.execute("attach ?1 as source", [source.path().join(FILE_NAME).to_str().expect("UTF-8")])
        .expect("attached");
    old.execute_batch(
        "insert into results select * from source.results; insert into sessions select * from source.sessions;
         update totals set value = (select value from source.totals as other where other.name = totals.name);",
    )
    .expect("copied");
    assert_eq!(number(&old, "select max(version) from refinery_schema_history"), 2);
    drop(old);
    let store = remembering(target.path());
    for number in 0..20 {
        assert_eq!(said(&store, &url(number)).await, Some(format!("text {number}")));
    }
    assert!(session_exists(&store, "s").await);
    let after = status(&store).await;
    assert_eq!((after.entries, after.stored_bytes, after.sessions), {
        (before.entries, before.stored_bytes, before.sessions)
    });
    assert_eq!((store.policy().await, outbox(&store).await), (Ok(None), OutboxStatus::default()));
    assert_eq!(put_at(&store, 50, QUEUE).await, PutOutcome::Replaced);
    assert_eq!(outbox(&store).await.queued, 1);
    recount(&connection(target.path()));
}
