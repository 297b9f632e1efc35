//! Where bodies go: into the head, into parts, into a bucket; and that they stay as long as a head names them.

use super::super::super::item::{number, read_number, read_text};
use super::super::super::plain::size;
use super::super::body::{BESIDE_FRAME_BYTES, DIGEST, Upkeep};
use super::*;
use crate::store::conformance::LIFE;
use crate::store::{Condition, Error};

const MEGABYTE: usize = 1 << 20;

async fn check(setup: &Setup, put: &Put) {
    let hit = setup.get(&put.meta.key).await.expect("a read").expect("an entry");
    assert!(Some(&hit.entry.frame) == put.frame.as_ref(), "another frame");
    assert_eq!((hit.entry.meta.etag, &hit.entry.meta.layout), (put.meta.etag, &put.meta.layout));
}

#[tokio::test]
async fn an_item_may_be_as_large_as_the_limit() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let limit = setup.config.dynamodb.max_item_bytes;
    let beside = {
        let probe = sized(&page(), limit, 1, 10);
        size::of_item(&setup.store.0.form.packed(&probe.meta)) + BESIDE_FRAME_BYTES
    };
    let fits = sized(&page(), limit - beside, 1, 10);
    assert_eq!(setup.put(fits.clone()).await, PutOutcome::Created);
    let head = setup.head(&page()).await;
    assert_eq!((size::of_item(&head), head.contains_key("parts")), (limit, false));
    check(&setup, &fits).await;
    let larger = sized(&page(), limit - beside + 1, 2, 20);
    assert_eq!(setup.put(larger.clone()).await, PutOutcome::Replaced);
    let head = setup.head(&page()).await;
    assert_eq!((head.contains_key("frame"), read_number(&head, "parts")), (false, Some(1)));
    check(&setup, &larger).await;
    let small = put_now(&page(), "small", 30);
    assert_eq!(setup.put(small.clone()).await, PutOutcome::Replaced);
    let head = setup.head(&page()).await;
    assert!(["parts", "parts_until", "object"].iter().all(|name| !head.contains_key(*name)), "{head:?}");
    check(&setup, &small).await;
}

#[tokio::test]
async fn thirty_megabytes_in_parts() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let large = sized(&page(), 30 * MEGABYTE, 1, 10);
    assert_eq!(setup.put(large.clone()).await, PutOutcome::Created);
    assert_eq!(read_number(&setup.head(&page()).await, "parts"), Some(90));
    check(&setup, &large).await;
    let metas = setup.store.get_metas(&[page()]).await.expect("metas");
    assert_eq!(metas[0].as_ref().map(|meta| meta.layout.stored_size()), Some(30 << 20));
}

#[tokio::test]
async fn thirty_megabytes_in_a_bucket() {
    let Some(setup) = Setup::with_bucket().await else { return };
    let large = sized(&page(), 30 * MEGABYTE, 1, 10);
    assert_eq!(setup.put(large.clone()).await, PutOutcome::Created);
    let head = setup.head(&page()).await;
    let object = read_text(&head, "object").expect("an object").to_owned();
    assert_eq!(object, format!("{}{}", setup.config.s3.prefix, read_text(&head, "frame_id").expect("an id")));
    assert!(!head.contains_key("parts") && !head.contains_key("frame"));
    check(&setup, &large).await;
    // The same again, by another key: one object serves both.
    let mut same = large.clone();
    same.meta.key = key("https://example.com/same");
    assert_eq!(setup.put(same.clone()).await, PutOutcome::Created);
    assert_eq!(read_text(&setup.head(&same.meta.key).await, "object"), Some(object.as_str()));
    // Refreshed with and without the body, as long as the object is there.
    for (second, frame) in [(20, None), (30, large.frame.clone())] {
        let refresh = Put { frame, ..sized(&page(), 30 * MEGABYTE, 1, second) };
        assert_eq!(setup.put(refresh).await, PutOutcome::Refreshed);
    }
    check(&setup, &large).await;
    let bucket = setup.aws.s3().expect("a bucket");
    let delete = bucket.delete_object().bucket(&setup.config.s3.bucket).key(object);
    delete.send().await.expect("deleted");
    let lost = setup.get(&page()).await.expect_err("no body");
    assert!(matches!(lost, Error::Corrupt { .. }), "{lost}");
    let refresh = Put { frame: None, ..sized(&page(), 30 * MEGABYTE, 1, 40) };
    assert_eq!(setup.put(refresh).await, PutOutcome::ConditionFailed, "the body to keep is gone");
    assert_eq!(setup.put(sized(&page(), 30 * MEGABYTE, 1, 50)).await, PutOutcome::Refreshed);
    check(&setup, &large).await;
}

#[tokio::test]
async fn a_refresh_does_not_send_the_body_again() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let large = sized(&page(), 3 * MEGABYTE, 1, 10);
    setup.put(large.clone()).await;
    let written = setup.units("put_item");
    assert!(written > 3000.0, "{written} units");
    for (second, frame) in [(20, None), (30, large.frame.clone())] {
        let refresh = Put { frame, ..sized(&page(), 3 * MEGABYTE, 1, second) };
        assert_eq!(setup.put(refresh).await, PutOutcome::Refreshed);
    }
    let spent = setup.units("put_item") - written + setup.units("update_item");
    assert!(spent < 20.0, "{spent} units");
    check(&setup, &large).await;
    assert_eq!(setup.get(&page()).await.expect("a read").expect("an entry").entry.meta.updated_at, now(30));
    // Neither does one of what is superseded, or may not be replaced.
    let old = sized(&page(), 3 * MEGABYTE, 2, 5);
    assert_eq!(setup.put(old).await, PutOutcome::Superseded);
    let present = Put { condition: Condition::Absent(now(40)), ..sized(&page(), 3 * MEGABYTE, 3, 40) };
    assert_eq!(setup.put(present).await, PutOutcome::ConditionFailed);
    let spent = setup.units("put_item") - written + setup.units("update_item");
    assert!(spent < 20.0, "{spent} units");
}

/// The head of a key with the ttl of its first part.
async fn until(setup: &Setup, key: &Key) -> (u64, u64, u64) {
    let head = setup.head(key).await;
    let first = format!("part {} 0", read_text(&head, "frame_id").expect("an id"));
    let part = setup.item(&first).await.expect("a part");
    let number = |item, name| read_number(item, name).expect("a number");
    (number(&head, "ttl"), number(&head, "parts_until"), number(&part, "ttl"))
}

#[tokio::test]
async fn parts_outlive_the_heads_that_name_them() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let keep = setup.config.results.keep_stale_seconds;
    let week = 7 * 24 * 3600;
    setup.put(sized(&page(), MEGABYTE, 1, 10)).await;
    let ttl = NOW + 10 + LIFE + keep;
    assert_eq!(until(&setup, &page()).await, (ttl, ttl + week, ttl + week));
    // A longer life elsewhere prolongs the parts that both share; a shorter one leaves them.
    let other = key("https://example.com/other");
    let mut long = sized(&other, MEGABYTE, 1, 20);
    long.meta.expires_at = now(100 * week);
    setup.put(long).await;
    let long = NOW + 100 * week + keep;
    let granted = long + (100 * week + keep) / 10;
    assert_eq!(until(&setup, &other).await, (long, granted, granted));
    setup.put(sized(&key("https://example.com/third"), MEGABYTE, 1, 30)).await;
    assert_eq!(until(&setup, &page()).await, (ttl, ttl + week, granted));
    // A refresh beyond what the head knows of prolongs first, and knows.
    let mut refresh = Put { frame: None, ..sized(&page(), MEGABYTE, 1, 40) };
    refresh.meta.expires_at = now(200 * week);
    assert_eq!(setup.put(refresh.clone()).await, PutOutcome::Refreshed);
    let (ttl, known, part) = until(&setup, &page()).await;
    assert!(ttl == NOW + 200 * week + keep && known >= Upkeep::needed(ttl) && part == known);
    // Without the parts there is no refresh, but with the body there is.
    let id = read_text(&setup.head(&page()).await, "frame_id").expect("an id").to_owned();
    setup.remove(&format!("part {id} 2")).await;
    let mut again = Put { frame: None, ..sized(&page(), MEGABYTE, 1, 50) };
    again.meta.expires_at = now(400 * week);
    assert_eq!(setup.put(again.clone()).await, PutOutcome::ConditionFailed);
    again.frame = Some(noise(MEGABYTE, 1));
    assert_eq!(setup.put(again.clone()).await, PutOutcome::Refreshed);
    check(&setup, &again).await;
}

#[tokio::test]
async fn writers_with_other_limits_share_one_cut() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let small = setup.other(|config| config.dynamodb.max_item_bytes = 100_000);
    let large = sized(&page(), MEGABYTE, 1, 10);
    setup.put(large.clone()).await;
    let mut second = large.clone();
    second.meta.key = key("https://example.com/second");
    assert_eq!(small.put(second.clone()).await, Ok(PutOutcome::Created));
    let parts = |head: &Item| read_number(head, "parts");
    assert_eq!(parts(&setup.head(&second.meta.key).await), parts(&setup.head(&page()).await));
    check(&setup, &large).await;
    check(&setup, &second).await;
    // Of a cut whose first part is gone, nothing is kept.
    let id = read_text(&setup.head(&page()).await, "frame_id").expect("an id").to_owned();
    setup.remove(&format!("part {id} 0")).await;
    let mut third = large.clone();
    third.meta.key = key("https://example.com/third");
    assert_eq!(small.put(third.clone()).await, Ok(PutOutcome::Created));
    assert_eq!(parts(&setup.head(&third.meta.key).await), Some(11));
    check(&setup, &third).await;
}

#[tokio::test]
async fn lost_and_damaged_parts_are_told_apart_from_misses() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let large = sized(&page(), MEGABYTE, 1, 10);
    setup.put(large.clone()).await;
    let id = read_text(&setup.head(&page()).await, "frame_id").expect("an id").to_owned();
    let name = format!("part {id} 1");
    let mut part = setup.item(&name).await.expect("a part");
    let whole = part.clone();
    setup.remove(&name).await;
    let lost = setup.get(&page()).await.expect_err("a part is gone");
    assert!(matches!(&lost, Error::Corrupt { detail, .. } if !detail.contains("example.com")), "{lost}");
    part.insert("frame".to_owned(), crate::store::dynamodb::item::binary(noise(349_872, 9).to_vec()));
    setup.write(part).await;
    let damaged = setup.get(&page()).await.expect_err("a part is another");
    assert!(matches!(damaged, Error::Corrupt { .. }), "{damaged}");
    setup.write(whole).await;
    check(&setup, &large).await;
    // DynamoDB deletes late: a head past its time whose parts have gone first is no error.
    setup.remove(&name).await;
    setup.clock.set(now(1000 * 24 * 3600));
    assert!(setup.get(&page()).await.expect("a miss").is_none());
}

#[tokio::test]
async fn a_body_in_a_bucket_needs_one() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    setup.put(put_now(&page(), "text", 10)).await;
    let mut head = setup.head(&page()).await;
    head.remove("frame");
    head.remove(DIGEST);
    head.insert("object".to_owned(), text("somewhere"));
    head.insert("frame_id".to_owned(), text("0".repeat(32)));
    head.insert("version".to_owned(), number(1_u64));
    setup.write(head).await;
    let error = setup.get(&page()).await.expect_err("no bucket");
    assert!(matches!(&error, Error::Unsupported { detail, .. } if detail.contains("s3.bucket")), "{error}");
}

/// One request each. Frames of 20,000 bytes make items of 20 KB; the index by time takes a unit for each row that it
/// gains or loses.
#[tokio::test]
async fn what_requests_cost() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let mut seen = [0.0; 5];
    let mut spent = || {
        let now =
            ["update_item", "put_item", "get_item", "batch_get_item", "query"].map(|it| setup.units(it));
        let spent: Vec<f64> = now.iter().zip(seen).map(|(now, seen)| now - seen).collect();
        seen = now;
        spent
    };
    let put = |seed, second| sized(&page(), 20_000, seed, second);
    setup.put(put(1, 10)).await;
    assert_eq!(spent(), [21.0, 0.0, 0.0, 0.0, 0.0], "create");
    setup.put(put(2, 20)).await;
    assert_eq!(spent(), [22.0, 0.0, 0.0, 0.0, 0.0], "replace");
    setup.put(Put { frame: None, ..put(2, 30) }).await;
    assert_eq!(spent(), [22.0, 0.0, 0.0, 0.0, 0.0], "refresh without the body");
    setup.get(&page()).await.expect("a read");
    assert_eq!(spent(), [0.0, 0.0, 2.5, 0.0, 0.0], "get");
    setup.store.get(&page(), GetOptions::consistent(true)).await.expect("a read");
    assert_eq!(spent(), [0.0, 0.0, 5.0, 0.0, 0.0], "consistent get");
    setup.store.get_metas(&[page()]).await.expect("metas");
    assert_eq!(spent(), [0.0, 0.0, 0.0, 2.5, 0.0], "metadata");
    let version = Version::first_of(now(40));
    setup.store.delete(&page(), version, Condition::Any).await.expect("deleted");
    assert_eq!(spent(), [0.0, 21.0, 0.0, 0.0, 0.0], "delete");
}
