//! Memory in front of a store that cannot be asked: what copies answer then, to whom, and for how long.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::metrics::Metrics;
use crate::store::Look;
use crate::store::conformance::{key, put, text_of};
use crate::store::memory::MemoryStore;

const URL: &str = "https://example.com/";
const TRUST: Duration = Duration::from_secs(10);
const OUTAGE: Duration = Duration::from_hours(1);
const PATIENCE: Duration = Duration::from_millis(20);

thread_local! {
    static NOW: Cell<Instant> = Cell::new(Instant::now());
}

/// Sets the clock of the tier.
fn advance(by: Duration) {
    NOW.set(NOW.get() + by);
}

/// What becomes of a call.
#[derive(Clone, Debug, Default)]
enum Weather {
    #[default]
    Fair,
    Failing(Error),
    Silent,
    /// Of many keys only every other one is told.
    Patchy,
}

/// A shared store that fails as it is told.
#[derive(Clone, Debug, Default)]
struct Behind {
    store: Arc<MemoryStore>,
    weather: Arc<Mutex<Weather>>,
    asked: Arc<AtomicUsize>,
}

impl Behind {
    fn set(&self, weather: Weather) {
        *self.weather.lock().expect("unpoisoned") = weather;
    }

    async fn pass<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let weather = self.weather.lock().expect("unpoisoned").clone();
        match weather {
            Weather::Fair | Weather::Patchy => call.await,
            Weather::Failing(error) => Err(error),
            Weather::Silent => std::future::pending().await,
        }
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("behind")
    }
}

#[async_trait]
impl ResultStore for Behind {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        self.pass(ResultStore::get(&*self.store, key, options)).await
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        self.pass(self.store.get_metas(keys)).await
    }

    async fn survey(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        let metas = self.get_metas(keys).await?;
        let is_patchy = matches!(*self.weather.lock().expect("unpoisoned"), Weather::Patchy);
        let seen = |(number, meta): (usize, Option<Meta>)| match number % 2 {
            0 if is_patchy => Seen::Unknown,
            _ => Seen::Told(meta.into()),
        };
        Ok(metas.into_iter().enumerate().map(seen).collect())
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        self.pass(ResultStore::put(&*self.store, put)).await
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        self.pass(self.store.put_newest(put)).await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        self.pass(ResultStore::delete(&*self.store, key, version, condition)).await
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        self.pass(self.store.delete_newest(key, version, condition)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        self.pass(ResultStore::list(&*self.store, query)).await
    }

    async fn status(&self) -> Result<Status> {
        self.pass(ResultStore::status(&*self.store)).await
    }
}

/// Every way in which a store is away.
fn aways() -> Vec<Error> {
    let (backend, detail) = ("behind", String::new);
    vec![
        Error::Overloaded { backend, detail: detail() },
        Error::Unavailable { backend, detail: detail() },
        Error::Throttled { backend, detail: detail() },
        Error::Timeout { backend, detail: detail() },
        Error::AccessDenied { backend, detail: detail() },
        Error::Credentials { backend, detail: detail() },
        Error::ClockSkew { backend, detail: detail() },
        Error::MissingTable { backend, detail: detail() },
        Error::WrongSchema { backend, detail: detail() },
        Error::Unasked { backend, detail: detail() },
    ]
}

fn away() -> Weather {
    Weather::Failing(Error::Unavailable { backend: "behind", detail: "gone".to_owned() })
}

fn tier(behind: &Behind, circuit: Option<(Circuit, Duration)>) -> Tiered {
    let trust = Trust { trust: TRUST, outage: OUTAGE, circuit };
    Tiered::at(|| NOW.get(), Arc::new(behind.clone()), 4 << 20, Some(trust))
}

/// A tier with a copy of a page.
async fn with_copy() -> (Tiered, Behind) {
    let behind = Behind::default();
    let tier = tier(&behind, None);
    ResultStore::put(&*behind.store, put(&key(URL), "old", 10)).await.expect("stored");
    assert_eq!(read(&tier).await, Ok(Some(("old".to_owned(), Via::Owner))));
    (tier, behind)
}

async fn read(tier: &Tiered) -> Result<Option<(String, Via)>> {
    let found = tier.get(&key(URL), GetOptions::default()).await?;
    Ok(found.map(|hit| (text_of(&hit.entry), hit.via)))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what may fail")]
fn copy(text: &str) -> Result<Option<(String, Via)>> {
    Ok(Some((text.to_owned(), Via::Outage)))
}

#[tokio::test]
async fn a_copy_outlives_its_trust_while_the_store_behind_cannot_be_asked() {
    for error in aways() {
        let (tier, behind) = with_copy().await;
        behind.set(Weather::Failing(error.clone()));
        assert_eq!(read(&tier).await, Ok(Some(("old".to_owned(), Via::Owner))), "{error}: it is trusted");
        advance(TRUST);
        assert_eq!(read(&tier).await, copy("old"), "{error}");
        advance(OUTAGE.saturating_sub(Duration::from_millis(1)));
        assert_eq!(read(&tier).await, copy("old"), "{error}: until the end");
        let consistent = tier.get(&key(URL), GetOptions::consistent(true)).await.map(drop);
        assert_eq!(consistent, Err(error.clone()), "to who reads past every copy there is none");
        let scanned = tier.get(&key(URL), GetOptions::scan()).await.map(drop);
        assert_eq!(scanned, Err(error.clone()));
        advance(Duration::from_millis(1));
        assert_eq!(read(&tier).await, Err(error), "and no longer");
    }
}

#[tokio::test]
async fn a_copy_is_asked_after_as_soon_as_that_is_possible() {
    let (tier, behind) = with_copy().await;
    advance(TRUST);
    behind.set(away());
    assert_eq!(read(&tier).await, copy("old"));
    // Another instance has written, or deleted.
    ResultStore::put(&*behind.store, put(&key(URL), "new", 20)).await.expect("stored");
    behind.set(Weather::Fair);
    assert_eq!(read(&tier).await, Ok(Some(("new".to_owned(), Via::Owner))));
    advance(TRUST);
    let version = Version::first_of(crate::domain::Timestamp::from_secs(30));
    ResultStore::delete(&*behind.store, &key(URL), version, Condition::Any).await.expect("deleted");
    assert_eq!(read(&tier).await, Ok(None));
    behind.set(away());
    read(&tier).await.expect_err("no copy outlives what was seen after it");
}

#[tokio::test]
async fn what_is_wrong_with_one_page_is_no_outage() {
    let (tier, behind) = with_copy().await;
    advance(TRUST);
    for error in [
        Error::Corrupt { backend: "behind", detail: String::new() },
        Error::Backend { backend: "behind", detail: String::new() },
    ] {
        behind.set(Weather::Failing(error.clone()));
        assert_eq!(read(&tier).await, Err(error));
    }
}

#[tokio::test]
async fn a_write_that_may_have_happened_leaves_the_copy_for_the_outage_only() {
    let (tier, behind) = with_copy().await;
    behind.set(away());
    tier.put(put(&key(URL), "refused", 20)).await.expect_err("away");
    assert_eq!(read(&tier).await, copy("old"), "it is not trusted any more");
    let version = Version::first_of(crate::domain::Timestamp::from_secs(30));
    tier.delete(&key(URL), version, Condition::Any).await.expect_err("away");
    assert_eq!(read(&tier).await, copy("old"));
    ResultStore::put(&*behind.store, put(&key(URL), "it had happened", 20)).await.expect("stored");
    behind.set(Weather::Fair);
    assert_eq!(read(&tier).await, Ok(Some(("it had happened".to_owned(), Via::Owner))));
    // One that was done takes the copy away, whoever fails afterwards.
    tier.put(put(&key(URL), "done", 40)).await.expect("stored");
    behind.set(away());
    read(&tier).await.expect_err("the copy was of what is replaced");
}

#[tokio::test]
async fn hits_do_not_wait_for_a_silent_store_again_and_again() {
    const FAILURES: u32 = 3;
    let behind = Behind::default();
    let circuit = Circuit::new("behind", FAILURES, Duration::from_hours(1), &Metrics::new());
    let tier = tier(&behind, Some((circuit, PATIENCE)));
    for url in [URL, "https://other/"] {
        ResultStore::put(&*behind.store, put(&key(url), "old", 10)).await.expect("stored");
        tier.get(&key(url), GetOptions::default()).await.expect("read");
    }
    advance(TRUST);
    behind.set(Weather::Silent);
    let before = behind.asked.load(Ordering::Relaxed);
    for _ in 0..FAILURES {
        assert_eq!(read(&tier).await, copy("old"), "no longer than a copy is worth");
    }
    let asked = behind.asked.load(Ordering::Relaxed);
    assert_eq!(asked - before, FAILURES as usize);
    for _ in 0..100 {
        assert_eq!(read(&tier).await, copy("old"));
        let other = tier.get(&key("https://other/"), GetOptions::default()).await.expect("a copy");
        assert_eq!(other.map(|hit| hit.via), Some(Via::Outage));
        let seen = tier.survey(&[key(URL)]).await.expect("a copy");
        assert!(matches!(seen[..], [Seen::Unconfirmed(_, Source::Memory)]), "{seen:?}");
    }
    assert_eq!(behind.asked.load(Ordering::Relaxed), asked, "the others without asking");
}

#[tokio::test]
async fn of_many_keys_copies_stand_in_for_what_is_not_told() {
    let (tier, behind) = with_copy().await;
    let keys = [key(URL), key("https://there/"), key("https://never/")];
    ResultStore::put(&*behind.store, put(&keys[1], "there", 10)).await.expect("stored");
    advance(TRUST);

    behind.set(Weather::Patchy);
    let seen = tier.survey(&keys).await.expect("in part");
    assert!(
        matches!(
            &seen[..],
            [Seen::Unconfirmed(copy, Source::Memory), Seen::Told(Look::Entry(there)), Seen::Unknown]
                if copy.key == keys[0] && there.key == keys[1]
        ),
        "{seen:?}"
    );
    behind.set(away());
    let seen = tier.survey(&keys).await.expect("in part");
    assert!(
        matches!(seen[..], [Seen::Unconfirmed(_, Source::Memory), Seen::Unknown, Seen::Unknown]),
        "{seen:?}"
    );
    tier.survey(&keys[1..]).await.expect_err("of these nothing is known");
    tier.get_metas(&keys).await.expect_err("who asks past memory is told so");
}
