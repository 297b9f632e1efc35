//! Bodies that others have damaged: they are seen in every place, and heal when the same content is stored again.

use aws_sdk_dynamodb::types::AttributeValue;

use super::super::super::item::{binary, number, read_text};
use super::super::super::pins;
use super::super::super::scan::Segment;
use super::super::super::tables::{Orphans, Sweep, Swept};
use super::super::super::{ScanPage, Scanned};
use super::super::body::DIGEST;
use super::*;
use crate::config::ResultsLayout;
use crate::domain::document::encode;
use crate::store::conformance::bodiless;
use crate::store::{Condition, Error};

/// What the results of one kind of damage are stored again as: later, at the same version, earlier.
const AGAIN: [u64; 3] = [20, 10, 5];

fn other() -> Key {
    key("https://example.com/other")
}

impl Setup {
    async fn is_corrupt(&self, key: &Key, what: &str) {
        let read = self.get(key).await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{what}: {read:?}");
    }

    async fn has(&self, put: &Put, what: &str) {
        let read = self.get(&put.meta.key).await;
        let hit = read.unwrap_or_else(|error| panic!("{what}: {error}")).expect("an entry");
        assert!(Some(&hit.entry.frame) == put.frame.as_ref(), "{what}: another frame");
        assert_eq!(hit.entry.meta.layout, put.meta.layout, "{what}");
    }

    fn now(&self) {
        self.clock.set(Clock::system().now());
    }

    fn sweep(&self) -> (Orphans, Sweep) {
        let orphans = Orphans::new(self.aws.clone(), &self.config.dynamodb, &self.config.s3);
        let now = self.clock.now().plus_secs(3600);
        let sweep = Sweep { now, older_than_seconds: 60, dry_run: false, read_units: 1000 };
        (orphans.expect("a bucket"), sweep)
    }

    /// The object of a key, from its head.
    async fn object(&self, key: &Key) -> String {
        read_text(&self.head(key).await, "object").expect("an object").to_owned()
    }

    /// Puts an object past the service, as it says of itself.
    async fn overwrite(&self, object: &str, body: Bytes, frame_id: Option<&str>) {
        let put = self.aws.s3().expect("a bucket").put_object().bucket(&self.config.s3.bucket).key(object);
        let said = frame_id.map(|id| ("frame-id".to_owned(), id.to_owned()));
        let put = put.set_metadata(Some(said.into_iter().collect())).body(body.into());
        put.send().await.expect("written");
    }
}

/// The same with one byte changed.
fn flipped(value: &AttributeValue, at: usize) -> AttributeValue {
    let mut bytes = value.as_b().expect("binary").as_ref().to_vec();
    bytes[at] ^= 1;
    binary(bytes)
}

#[tokio::test]
async fn every_byte_of_an_item_with_its_body_is_checked() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let good = put_now(&page(), &"a text that is long enough. ".repeat(40), 10);
    setup.put(good.clone()).await;
    let head = setup.head(&page()).await;
    for name in ["frame", "layout"] {
        let length = head[name].as_b().expect("binary").as_ref().len();
        for at in 0..length {
            let mut item = head.clone();
            item.insert(name.to_owned(), flipped(&head[name], at));
            setup.write(item).await;
            setup.is_corrupt(&page(), &format!("{name} {at}")).await;
        }
    }
    for (name, value) in [
        ("etag", text("0".repeat(32))),
        ("status_code", number(404_u64)),
        ("success", AttributeValue::Bool(false)),
        ("frame_id", text("0".repeat(32))),
        (DIGEST, text("0".repeat(32))),
    ] {
        let mut item = head.clone();
        item.insert(name.to_owned(), value);
        setup.write(item).await;
        setup.is_corrupt(&page(), name).await;
        setup.store.get_metas(&[page(), other()]).await.expect("one such item fails no batch");
    }
    // A walk over the table names it and goes on.
    setup.put(put_now(&other(), "good", 10)).await;
    let mut item = head.clone();
    item.insert("frame".to_owned(), flipped(&head["frame"], 30));
    setup.write(item).await;
    let whole = Segment { number: 0, of: 1, after: None };
    let ScanPage { items, .. } = setup.store.scan(&whole, 100, true).await.expect("a page");
    let unreadable: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Scanned::Unreadable { key, .. } => Some(key.url()),
            _ => None,
        })
        .collect();
    assert_eq!((items.len(), unreadable), (2, vec![PAGE]));
}

#[tokio::test]
async fn a_damaged_item_heals_by_the_same_content() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    for name in ["frame", "layout"] {
        for second in AGAIN {
            let what = format!("{name}, stored again at {second}");
            setup.remove(PAGE).await;
            let good = put_now(&page(), "text", 10);
            setup.put(good.clone()).await;
            let head = setup.head(&page()).await;
            let mut item = head.clone();
            item.insert(name.to_owned(), flipped(&head[name], 8));
            setup.write(item).await;
            setup.is_corrupt(&page(), &what).await;
            let other_content = setup.put(put_now(&page(), "another text", 4)).await;
            assert_eq!(other_content, PutOutcome::Superseded, "{what}: what is older stays older");
            assert_eq!(setup.put(put_now(&page(), "text", second)).await, PutOutcome::Refreshed, "{what}");
            setup.has(&good, &what).await;
            let healed = setup.get(&page()).await.expect("a read").expect("an entry").entry.meta.clone();
            assert_eq!(healed.version, Version::first_of(now(second.max(10))), "{what}");
            assert_eq!(healed.updated_at, now(second.max(10)), "{what}: what was known stays");
        }
        // A write that asks for nothing finds nothing that can be read.
        let mut item = setup.head(&page()).await;
        item.insert(name.to_owned(), flipped(&item[name], 8));
        setup.write(item).await;
        let fetched = Put { condition: Condition::Absent(now(25)), ..put_now(&page(), "fetched", 25) };
        let outcome = setup.put(fetched.clone()).await;
        assert!(matches!(outcome, PutOutcome::Created | PutOutcome::Replaced), "{name}: {outcome:?}");
        setup.has(&fetched, name).await;
        let again = Put { condition: Condition::Absent(now(26)), ..put_now(&page(), "again", 26) };
        assert_eq!(setup.put(again).await, PutOutcome::ConditionFailed, "{name}");
        // A repair gives exactly what the other side has.
        let good = put_now(&page(), "text", 30);
        setup.put(good.clone()).await;
        let mut item = setup.head(&page()).await;
        item.insert(name.to_owned(), flipped(&item[name], 8));
        setup.write(item).await;
        let entry = Entry { meta: good.meta.clone(), frame: good.frame.clone().expect("a body") };
        assert_eq!(setup.store.mend(&entry).await, Ok(true));
        setup.has(&good, name).await;
    }
    // An undamaged one is left as it is.
    let before = setup.head(&page()).await;
    assert_eq!(setup.put(put_now(&page(), "text", 30)).await, PutOutcome::Superseded);
    assert_eq!(setup.head(&page()).await, before);
}

#[tokio::test]
async fn items_of_earlier_releases_are_checked_by_their_content() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let good = put_now(&page(), &"a text that is long enough. ".repeat(40), 10);
    setup.put(good.clone()).await;
    let mut head = setup.head(&page()).await;
    head.remove("frame_id");
    // An earlier release that writes over a frame leaves the digest of another.
    head.insert(DIGEST.to_owned(), text("0".repeat(32)));
    setup.write(head.clone()).await;
    setup.has(&good, "without a hash").await;
    for name in ["frame", "layout"] {
        let length = head[name].as_b().expect("binary").as_ref().len();
        for at in 0..length {
            let mut item = head.clone();
            item.insert(name.to_owned(), flipped(&head[name], at));
            setup.write(item).await;
            match setup.get(&page()).await {
                Err(Error::Corrupt { .. }) => {}
                // Not every bit of a frame has a meaning.
                Ok(Some(hit)) if name == "frame" => {
                    let decoded = hit.entry.document().decode().expect("it decodes");
                    assert_eq!(Etag::of(&decoded[..decoded.len() - 1]), good.meta.etag, "{name} {at}");
                }
                // Whether a field is blank cannot be seen in what is none.
                Ok(Some(_)) if name == "layout" => {}
                read => panic!("{name} {at}: {read:?}"),
            }
        }
    }
    setup.write(head).await;
    assert_eq!(setup.put(put_now(&page(), "later", 20)).await, PutOutcome::Replaced);
    let head = setup.head(&page()).await;
    assert!(head.contains_key("frame_id") && head.contains_key(DIGEST));
}

#[tokio::test]
async fn a_document_of_the_plain_layout_that_was_packed_keeps_its_etag() {
    let Some(setup) = Setup::new(|config| config.dynamodb.results_layout = ResultsLayout::Plain).await else {
        return;
    };
    let raw = format!(r#"{{"url": "{PAGE}", "success": true, "html": "<p>"}}"#);
    let encoded = encode(raw.as_bytes(), 3).expect("a document");
    let mut put = put_now(&page(), "", 10);
    (put.meta.layout, put.meta.etag, put.frame) = (encoded.layout, encoded.etag, Some(encoded.frame));
    put.meta.status_code = None;
    setup.put(put.clone()).await;
    let packing = setup.other(|config| config.dynamodb.results_layout = ResultsLayout::Packed);
    let mut refresh = bodiless(put.clone());
    refresh.meta.version = Version::first_of(now(20));
    assert_eq!(packing.put(refresh).await, Ok(PutOutcome::Refreshed));
    let mut head = setup.head(&page()).await;
    assert!(head.contains_key("layout"), "packed");
    for name in ["frame_id", DIGEST] {
        head.remove(name);
        setup.write(head.clone()).await;
        let entry = setup.get(&page()).await.expect("a read").expect("an entry").entry;
        assert_eq!(entry.meta.etag, put.meta.etag);
        assert_ne!(Some(&entry.frame), put.frame.as_ref(), "its fields are in order");
    }
}

#[tokio::test]
async fn damaged_parts_heal_by_the_same_content() {
    let Some(setup) = Setup::new(|config| config.dynamodb.max_item_bytes = 20_000).await else { return };
    let mut seed = 100;
    for at in [0, 1, 2, 3] {
        for how in ["flipped", "short", "gone"] {
            for (url, second) in [(page(), 20), (page(), 10), (page(), 5), (other(), 20)] {
                let what = format!("part {at} {how}, stored again at {second} as {}", url.url());
                seed += 1;
                setup.remove(PAGE).await;
                setup.remove(other().url()).await;
                let good = sized(&page(), 70_000, seed, 10);
                setup.put(good.clone()).await;
                let head = setup.head(&page()).await;
                let name = format!("part {} {at}", read_text(&head, "frame_id").expect("an id"));
                let mut part = setup.item(&name).await.expect("a part");
                if how == "gone" {
                    setup.remove(&name).await;
                } else {
                    let frame = match how {
                        "flipped" => flipped(&part["frame"], 50),
                        _ => binary(part["frame"].as_b().expect("binary").as_ref()[..5000].to_vec()),
                    };
                    part.insert("frame".to_owned(), frame);
                    setup.write(part).await;
                }
                setup.is_corrupt(&page(), &what).await;
                let again = sized(&url, 70_000, seed, second);
                let outcome = setup.put(again.clone()).await;
                let expected = if url == page() { PutOutcome::Refreshed } else { PutOutcome::Created };
                assert_eq!(outcome, expected, "{what}");
                setup.has(&again, &what).await;
                setup.has(&good, &what).await;
            }
        }
    }
    // To be stored again costs no part, as long as all are good.
    let good = sized(&page(), 70_000, seed, 30);
    setup.put(good.clone()).await;
    let units = || setup.units("put_item");
    let before = units();
    setup.put(sized(&page(), 70_000, seed, 40)).await;
    assert!(units() - before < 1.0, "{}", units() - before);
}

#[tokio::test]
async fn damaged_objects_heal_by_the_same_content() {
    let Some(setup) = Setup::with_bucket().await else { return };
    setup.now();
    let (bytes, mut seed) = (500_000, 200);
    for how in ["truncated", "empty", "other bytes", "other bytes that say so", "gone"] {
        for (url, second) in [(page(), 20), (page(), 10), (page(), 5), (other(), 20)] {
            let what = format!("{how}, stored again at {second} as {}", url.url());
            seed += 1;
            setup.remove(PAGE).await;
            setup.remove(other().url()).await;
            let good = sized(&page(), bytes, seed, 10);
            setup.put(good.clone()).await;
            let object = setup.object(&page()).await;
            let id = read_text(&setup.head(&page()).await, "frame_id").expect("an id").to_owned();
            match how {
                "truncated" => setup.overwrite(&object, noise(500, seed), Some(&id)).await,
                "empty" => setup.overwrite(&object, Bytes::new(), Some(&id)).await,
                "other bytes" => setup.overwrite(&object, noise(bytes, 1), None).await,
                "other bytes that say so" => setup.overwrite(&object, noise(bytes, 1), Some(&id)).await,
                _ => {
                    let delete = setup.aws.s3().expect("a bucket").delete_object();
                    delete.bucket(&setup.config.s3.bucket).key(&object).send().await.expect("deleted");
                }
            }
            // What looks like it should is found out by a read.
            if how == "other bytes that say so" {
                setup.is_corrupt(&page(), &what).await;
            }
            let again = sized(&url, bytes, seed, second);
            let outcome = setup.put(again.clone()).await;
            let expected = if url == page() { PutOutcome::Refreshed } else { PutOutcome::Created };
            assert_eq!(outcome, expected, "{what}");
            setup.has(&again, &what).await;
            setup.has(&good, &what).await;
            // A repair needs no read before.
            setup.overwrite(&object, noise(bytes, 2), Some(&id)).await;
            let meta = setup.get(&url).await.expect_err("it is damaged");
            assert!(matches!(meta, Error::Corrupt { .. }));
            let fresh = setup.other(|_| {});
            let mut meta = again.meta.clone();
            meta.version = Version::first_of(now(20));
            let entry = Entry { meta, frame: again.frame.clone().expect("a body") };
            assert_eq!(fresh.mend(&entry).await, Ok(true), "{what}");
            setup.has(&again, &what).await;
        }
    }
    // Without the body a refresh does not keep what is damaged.
    let id = read_text(&setup.head(&other()).await, "frame_id").expect("an id").to_owned();
    setup.overwrite(&setup.object(&other()).await, noise(500, 1), Some(&id)).await;
    let refresh = bodiless(sized(&other(), bytes, seed, 50));
    assert_eq!(setup.put(refresh).await, PutOutcome::ConditionFailed);
}

#[tokio::test]
async fn an_object_of_an_earlier_release_is_kept_and_says_what_it_holds() {
    let Some(setup) = Setup::with_bucket().await else { return };
    setup.now();
    let good = sized(&page(), 500_000, 300, 10);
    setup.put(good.clone()).await;
    let object = setup.object(&page()).await;
    setup.overwrite(&object, good.frame.clone().expect("a body"), None).await;
    assert_eq!(setup.put(bodiless(sized(&page(), 500_000, 300, 20))).await, PutOutcome::Refreshed);
    setup.has(&good, "read and kept").await;
    let head = setup.aws.s3().expect("a bucket").head_object().bucket(&setup.config.s3.bucket).key(&object);
    let said = head.send().await.expect("a head").metadata.unwrap_or_default();
    assert_eq!(said.get("frame-id").map(String::as_str), read_text(&setup.head(&page()).await, "frame_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_sweep_takes_an_object_from_a_writer_that_has_looked() {
    let Some(setup) = Setup::with_bucket().await else { return };
    let large = |key: &Key, second| sized(key, 500_000, 400, second);
    // Written two days ago, and named by nothing since.
    let today = Clock::system().now();
    setup.clock.set(today.minus_secs(2 * 24 * 3600));
    setup.put(large(&page(), 10)).await;
    let object = setup.object(&page()).await;
    let deletion = Version::first_of(now(20));
    setup.store.delete(&page(), deletion, Condition::Any).await.expect("deleted");
    setup.clock.set(today);
    // The writer comes between the scan and the deletions.
    let ((orphans, sweep), mut outcome) = (setup.sweep(), None);
    let swept = orphans.sweep(&sweep, |swept| {
        if swept.orphans == 1 && outcome.is_none() {
            let put = setup.put(large(&other(), 10));
            let handle = tokio::runtime::Handle::current();
            outcome = Some(tokio::task::block_in_place(|| handle.block_on(put)));
        }
    });
    let swept: Swept = swept.await.expect("swept");
    assert_eq!(outcome, Some(PutOutcome::Created));
    assert_eq!((swept.orphans, swept.deleted, swept.renewed), (1, 0, 1), "{swept:?}");
    setup.has(&large(&other(), 10), "after the sweep").await;
    assert_eq!(setup.object(&other()).await, object, "nothing was written twice");

    // The writer comes when the sweep has taken the object: its own has another name.
    setup.store.delete(&other(), deletion, Condition::Any).await.expect("deleted");
    setup.write(pins::mark(&object, today.as_secs())).await;
    setup.put(large(&page(), 30)).await;
    let renamed = setup.object(&page()).await;
    assert!(renamed.starts_with(&object) && renamed != object, "{renamed}");
    let bucket = setup.aws.s3().expect("a bucket");
    bucket.delete_object().bucket(&setup.config.s3.bucket).key(&object).send().await.expect("deleted");
    setup.has(&large(&page(), 30), "under another name").await;

    // The mark of a sweep that has died is taken over a day later; what is named stays.
    let later = today.plus_secs(3 * 24 * 3600);
    setup.overwrite(&object, noise(10, 1), None).await;
    let swept = orphans.sweep(&Sweep { now: later, ..sweep }, |_| {}).await.expect("swept");
    assert_eq!((swept.objects, swept.deleted, swept.renewed), (2, 1, 0), "{swept:?}");
    assert!(setup.item(&pins::key(&object)).await.is_none(), "the mark is gone");
    setup.has(&large(&page(), 30), "after another sweep").await;
}
