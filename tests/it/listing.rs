//! Listings, look-ups and purges.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Server, at, eventually, result_of};

fn urls(page: &Value) -> Vec<String> {
    page["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["url"].as_str().expect("a url").to_owned())
        .collect()
}

fn filled() -> Server {
    let server = Server::start(&[]);
    for (url, status) in [
        ("https://a.example/1", 200),
        ("https://a.example/2", 404),
        ("https://a.example/docs/1", 200),
        ("https://a.example/docs/2", 200),
        ("https://b.example/1", 500),
        ("https://A.EXAMPLE/upper", 200),
        ("https://aa.example/1", 200),
    ] {
        server
            .put(
                &result_of(url, &[]),
                json!({"url": url, "status_code": status, "success": status == 200, "blank": ""}).to_string(),
            )
            .is(201);
    }
    server.put(&result_of("https://a.example/1", &[("variant", "mobile")]), "{}").is(201);
    server
}

#[test]
fn a_listing_shows_everything_but_bodies_newest_first() {
    let server = filled();
    let page = server.get("/v1/results").is(200).json();
    assert_eq!(page.get("next_cursor"), None);
    let items = page["items"].as_array().expect("items");
    assert_eq!(items.len(), 8);
    let times: Vec<&str> = items.iter().map(|item| item["updated_at"].as_str().expect("a time")).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    assert_eq!((&items[0]["url"], &items[0]["variant"]), (&json!("https://a.example/1"), &json!("mobile")));
    let item = items.iter().find(|item| item["url"] == "https://a.example/2").expect("listed");
    assert_eq!((&item["status_code"], &item["success"]), (&json!(404), &json!(false)));
    let mut fields: Vec<&str> =
        item["fields"].as_array().expect("names").iter().filter_map(|name| name.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["status_code", "success", "url"], "blank ones are not listed");
    for member in ["etag", "created_at", "expires_at", "age", "ttl", "raw_bytes", "stored_bytes"] {
        assert!(!item[member].is_null(), "{member}: {item}");
    }
}

#[test]
fn filters_select_and_combine() {
    let server = filled();
    for (parameters, expected) in [
        (&[("host", "a.example")][..], 6),
        (&[("host", "A.Example")], 6),
        (&[("host", "b.example")], 1),
        (&[("host", "example")], 0),
        (&[("prefix", "https://a.example/docs/")], 2),
        (&[("prefix", "https://a")], 6),
        (&[("prefix", "https://A")], 1),
        (&[("prefix", "https://a.example/d%")], 0),
        (&[("url", "https://a.example/1")], 2),
        (&[("url", "https://a.example/9")], 0),
        (&[("status", "200")], 5),
        (&[("host", "a.example"), ("status", "404")], 1),
        (&[("since", "2020-01-01T00:00:00Z")], 8),
        (&[("until", "2020-01-01T00:00:00Z")], 0),
        (&[("since", "1577836800"), ("until", "4102444800"), ("prefix", "https://b")], 1),
    ] {
        let page = server.get(&at("/v1/results", parameters)).is(200).json();
        assert_eq!(urls(&page).len(), expected, "{parameters:?}: {page}");
    }
}

#[test]
fn pages_follow_each_other_without_a_gap_or_an_overlap() {
    let server = filled();
    for (filter, all) in [("", 8), ("host=a.example&", 6), ("url=https://a.example/1&", 2)] {
        for limit in 1..=9 {
            let mut seen = BTreeSet::new();
            let mut cursor = String::new();
            for page_number in 0.. {
                assert!(page_number < 20, "it goes on for ever");
                let page = server.get(&format!("/v1/results?{filter}limit={limit}{cursor}")).is(200).json();
                let items = page["items"].as_array().expect("items");
                assert!(items.len() <= limit);
                for item in items {
                    let key = (item["url"].to_string(), item["variant"].to_string());
                    assert!(seen.insert(key), "{item} came twice");
                }
                match page.get("next_cursor") {
                    Some(next) => cursor = format!("&cursor={}", next.as_str().expect("text")),
                    None => break,
                }
            }
            assert_eq!(seen.len(), all, "{filter} {limit}");
        }
    }
}

#[test]
fn expired_results_are_listed_only_on_request() {
    let server = Server::start(&[]);
    server.put(&result_of("https://a/", &[("ttl", "0")]), "{}").is(201);
    eventually("it expires", || urls(&server.get("/v1/results").is(200).json()).is_empty().then_some(()));
    assert_eq!(urls(&server.get("/v1/results?expired=true").is(200).json()), ["https://a/"]);
}

#[test]
fn a_lookup_gives_each_key_its_state_in_their_order() {
    let server = filled();
    let keys = json!([
        "https://a.example/1",
        {"url": "https://a.example/1", "variant": "mobile"},
        {"url": "https://a.example/1", "variant": "desktop"},
        "https://nowhere.example/",
        "relative",
        "https://a.example/1",
        {"url": "https://a.example/2"},
    ]);
    let answer = server.post("/v1/results/lookup", &json!({"keys": keys})).is(200).json();
    let states: Vec<&str> = answer["results"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| it["state"].as_str().expect("text"))
        .collect();
    assert_eq!(states, ["fresh", "fresh", "absent", "absent", "invalid", "fresh", "fresh"]);
    assert_eq!(
        answer["counts"],
        json!({"fresh": 4, "stale": 0, "absent": 2, "leased": 0, "invalid": 1, "unknown": 0})
    );
    let first = &answer["results"][0];
    assert!(first["age"].is_u64() && first["ttl"].is_i64() && first["etag"].is_string(), "{first}");
    assert_eq!(answer["results"][3]["reason"], "absent");
    assert!(answer["results"][4]["reason"].as_str().expect("text").contains("url"));
    let required = json!({"keys": ["https://a.example/1", "https://a.example/2"], "require": ["html"]});
    let answer = server.post("/v1/results/lookup", &required).is(200).json();
    assert_eq!(answer["results"][0]["reason"], "field_missing");
    let empty = server.post("/v1/results/lookup", &json!({"keys": []})).is(200).json();
    assert_eq!(empty["results"], json!([]));
}

#[test]
fn a_batch_get_answers_each_key_on_its_own_line() {
    let server = filled();
    let body = json!({
        "keys": ["https://a.example/1", "https://nowhere.example/", "relative", 7, {"url": "https://a.example/1", "variant": "mobile"}],
        "fields": ["url"],
    });
    let lines = server.post("/v1/results/batch-get", &body).is(200).lines();
    let seen: Vec<(u64, u64)> = lines
        .iter()
        .map(|line| (line["index"].as_u64().expect("a number"), line["status"].as_u64().expect("a number")))
        .collect();
    assert_eq!(seen, [(0, 200), (1, 404), (2, 400), (3, 400), (4, 200)]);
    assert_eq!(lines[0]["document"], json!({"url": "https://a.example/1"}));
    assert_eq!((&lines[1]["code"], &lines[1]["reason"]), (&json!("result_not_found"), &json!("absent")));
    assert_eq!((&lines[2]["code"], &lines[3]["code"]), (&json!("invalid_url"), &json!("invalid_field")));
    assert_eq!((&lines[4]["variant"], &lines[4]["document"]), (&json!("mobile"), &json!({})));
}

#[test]
fn a_purge_deletes_what_it_names_and_a_dry_run_only_counts() {
    let server = filled();
    let purge = |body: Value| server.post("/v1/results/purge", &body).is(200).json();
    let left = || urls(&server.get("/v1/results?expired=true").is(200).json()).len();
    for (what, count) in [
        (json!({"host": "a.example"}), 6),
        (json!({"prefix": "https://a.example/docs/"}), 2),
        (json!({"url": "https://a.example/1"}), 2),
        (json!({"older_than": 0}), 8),
        (json!({"older_than": 86_400}), 0),
    ] {
        let mut dry = what.clone();
        dry["dry_run"] = json!(true);
        let report = purge(dry);
        assert_eq!(
            (&report["matched"], &report["deleted"], &report["dry_run"]),
            (&json!(count), &json!(0), &json!(true)),
            "{what}"
        );
        assert_eq!(left(), 8, "{what}");
    }
    let report = purge(json!({"prefix": "https://a.example/docs/"}));
    assert_eq!((&report["matched"], &report["deleted"]), (&json!(2), &json!(2)));
    assert_eq!(left(), 6);
    server.get(&result_of("https://a.example/docs/1", &[])).problem(404, "result_not_found");
    server.get(&result_of("https://a.example/2", &[])).is(200);
    assert_eq!(purge(json!({"url": "https://a.example/1"}))["deleted"], 2);
    assert_eq!(purge(json!({"older_than": 0}))["deleted"], 4);
    assert_eq!(left(), 0);
    assert_eq!(purge(json!({"older_than": 0}))["matched"], 0);
}

#[test]
fn a_purge_by_url_takes_all_variants_over_many_pages() {
    let server = Server::start(&[]);
    let url = "https://a.example/";
    let line = |n| format!("{{\"url\":\"{url}\",\"variant\":\"v{n}\",\"document\":{{\"n\":{n}}}}}\n");
    let lines = (0..700).map(line).collect::<Vec<_>>().concat();
    server.request("POST", "/v1/results/import").ndjson(lines.into_bytes()).send().is(200);
    server.put(&result_of(url, &[]), "{}").is(201);
    let purge = json!({"url": url}).to_string();
    let report = server.request("POST", "/v1/results/purge").body(purge).send().is(200).json();
    assert_eq!((&report["matched"], &report["deleted"]), (&json!(701), &json!(701)));
    assert!(urls(&server.get("/v1/results").is(200).json()).is_empty());
}

#[test]
fn variants_of_a_url_are_listed_page_by_page() {
    let server = Server::start(&[]);
    for variant in ["", "a", "b", "c", "d"] {
        server.put(&result_of("https://a.example/", &[("variant", variant)]), "{}").is(201);
    }
    server.put(&result_of("https://a.example/other", &[]), "{}").is(201);
    let mut seen = Vec::new();
    let mut target = "/v1/results?url=https://a.example/&limit=2".to_owned();
    loop {
        let page = server.get(&target).is(200).json();
        seen.extend(page["items"].as_array().expect("items").iter().map(|item| item["variant"].to_string()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        target = format!("/v1/results?url=https://a.example/&limit=2&cursor={cursor}");
    }
    seen.sort();
    assert_eq!(seen, ["\"\"", "\"a\"", "\"b\"", "\"c\"", "\"d\""]);
}

#[test]
fn listings_and_purges_by_url_use_the_canonical_form() {
    let server = Server::start(&[("results.canonical_urls", "v1")]);
    server.put(&result_of("https://a.example/?id=1&utm_source=x", &[]), "{}").is(201);
    let page = server.get("/v1/results?url=https://A.example/%3Fid%3D1%23top").is(200).json();
    assert_eq!(urls(&page), ["https://a.example/?id=1"]);
}
