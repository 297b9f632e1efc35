//! The contract for what is learned of hosts: counters that add up.

use std::fmt;

use async_trait::async_trait;

use super::Result;
use crate::domain::Namespace;
use crate::domain::learning::{Counters, Visit};

/// Keeps the counters of hosts. They are estimates: a visit may be lost in a crash, or counted twice after a lost answer.
#[async_trait]
pub trait HostStore: fmt::Debug + fmt::Display + Send + Sync {
    /// What is known of a host; zeros of one that is not known.
    async fn counters(&self, namespace: &Namespace, host: &str) -> Result<Counters>;

    /// Adds a visit, whoever else does at the same time; counters that have become many fade.
    async fn observe(&self, namespace: &Namespace, host: &str, visit: Visit) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain::learning::MANY;
    use crate::metrics::Metrics;
    use crate::store::conformance::{at, options};
    use crate::store::dynamodb::testing::{self, ResultsTable};
    use crate::store::dynamodb::{Aws, DynamodbResults};
    use crate::store::memory::MemoryStore;
    use crate::store::sqlite::SqliteStore;
    use crate::store::{ListQuery, ResultStore as _};

    #[tokio::test]
    async fn in_memory() {
        check(&MemoryStore::new()).await;
    }

    #[tokio::test]
    async fn on_sqlite() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options(directory.path());
        let store = SqliteStore::open(&options, &Clock::manual(at(1000)), &Metrics::new()).expect("opens");
        check(&store).await;
    }

    #[tokio::test]
    async fn on_dynamodb() {
        let Some(dynamodb) = testing::settings() else { return };
        let config = crate::config::Config { dynamodb, ..crate::config::Config::default() };
        let (metrics, clock) = (Metrics::new(), Clock::manual(at(1000)));
        let aws = Aws::connect(&config.dynamodb, &config.s3, &metrics).await;
        let _table = ResultsTable::make(&aws, &config.dynamodb).await;
        let store = DynamodbResults::new(aws, &config, &clock, &metrics);
        check(&store).await;
        // A host's item is nobody's result.
        let all = ListQuery::all(&Namespace::default(), 10);
        assert!(store.list(&all).await.expect("lists").items.is_empty());
    }

    /// What every store of them does, on an empty one.
    async fn check(store: &dyn HostStore) {
        let (default, other) = (Namespace::default(), Namespace::new("other").expect("a namespace"));
        assert_eq!(store.counters(&default, "a.example").await.expect("reads"), Counters::default());
        let visits =
            [(false, 10), (true, 20), (false, 0)].map(|(changed, seconds)| Visit { changed, seconds });
        for visit in visits {
            store.observe(&default, "a.example", visit).await.expect("adds");
        }
        let known = store.counters(&default, "a.example").await.expect("reads");
        assert_eq!(known, Counters { visits: 3, changes: 1, seconds: 30 });
        for (namespace, host) in
            [(&default, "b.example"), (&other, "a.example"), (&default, "default a.example")]
        {
            assert_eq!(store.counters(namespace, host).await.expect("reads"), Counters::default(), "{host}");
        }
        // Many at once: none is lost, and they fade once.
        for begin in (0..MANY).step_by(50) {
            let visits = (begin..begin + 50).map(|number| {
                let visit = Visit { changed: number % 4 == 0, seconds: 100 };
                store.observe(&default, "a.example", visit)
            });
            futures_util::future::try_join_all(visits).await.expect("adds");
            let now = store.counters(&default, "a.example").await.expect("reads");
            if begin + 50 < MANY {
                assert_eq!((now.visits, now.seconds), (begin + 53, (begin + 50) * 100 + 30));
            }
        }
        let faded = store.counters(&default, "a.example").await.expect("reads");
        assert!((MANY / 2..MANY).contains(&faded.visits), "{faded:?}");
        assert!(faded.changes.abs_diff(faded.visits / 4) <= 50, "{faded:?}");
        assert!(faded.seconds.abs_diff(faded.visits * 100) <= 200, "{faded:?}");
    }
}
