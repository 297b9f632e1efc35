//! What the plain layout refuses, and the word for it.

use super::*;

fn with(member: &str) -> String {
    format!(r#"{{"url":"{URL}",{member}}}"#)
}

#[track_caller]
fn refused(member: &str) -> Refused {
    put(&with(member)).expect_err(&member[..member.len().min(60)])
}

#[test]
fn what_comes_back_is_not_refused() {
    let wide = format!(r#""n":{}"#, "9".repeat(38));
    let deep = format!(r#""a":{}"x"{}"#, "[".repeat(MAX_DEPTH - 1), "]".repeat(MAX_DEPTH - 1));
    for member in [
        r#""a":"\u0061\n\ud83d\ude00","b":[1,-1.5,true,null,{"c":{}}]"#,
        r#""created_at":[1,{"a":1}],"updated_at":null,"ttl":"short""#,
        r#""success":"maybe","status_code":0,"head_fingerprint":null,"response_headers":{"ETag":"x"}"#,
        &wide,
        &deep,
    ] {
        let raw = with(member);
        let item = put(&raw).unwrap_or_else(|refused| panic!("{refused:?}: {member}"));
        let entry = read(&item, &key()).expect("is read");
        assert_eq!(without_times(&json(&entry)), without_times(&raw), "{member}");
        assert_eq!(entry.meta.etag, stored(&key(), &raw).meta.etag);
    }
}

#[test]
fn values_that_would_change() {
    let deep = |levels| format!(r#""a":{}"x"{}"#, "[".repeat(levels), "]".repeat(levels));
    for member in [
        r#""created_at":1.0"#,
        r#""a":1.0"#,
        r#""a":1E5"#,
        r#""a":-0"#,
        r#""a":[{"b":0.10}]"#,
        r#""a":1e400"#,
        r#""a":0.0000001"#,
        &format!(r#""a":{}"#, "9".repeat(39)),
        r#""a":"\ud800""#,
        r#""a":{"\ud800":1}"#,
        r#""a":{"b":1,"b":1}"#,
        r#""a":{"b":1,"\u0062":2}"#,
        r#""a":{"":1}"#,
        &deep(MAX_DEPTH),
        &deep(5000),
        &format!(r#""a":{}{}"#, "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)),
    ] {
        assert_eq!(refused(member), Refused::Value, "{}", &member[..member.len().min(60)]);
    }
}

#[test]
fn times_of_the_document_are_its_own() {
    for member in [
        r#""a":1"#,
        r#""created_at":"2025-01-15T10:30:00Z""#,
        r#""created_at":"2025-01-15T10:30:00","updated_at":null,"ttl":1768473000"#,
    ] {
        let raw = with(member);
        let item = put(&raw).expect("is held");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&json(&read(&item, &key()).expect("is read"))), value(&raw), "{member}");
    }
}

#[test]
fn a_document_of_another_url_or_of_none() {
    for raw in [r#"{"url":"https://example.com/"}"#, r#"{"url":null}"#, r#"{"html":"<p>"}"#, "{}"] {
        assert_eq!(put(raw), Err(Refused::Value), "{raw}");
    }
}

#[test]
fn names_that_are_taken_or_not_to_be_had() {
    let names = [&BOOKKEEPING[..], &INDEXED, &KEY_PARTS, &OTHER_LAYOUTS].concat();
    for name in names.into_iter().chain(["", &"n".repeat(65_536)]) {
        assert_eq!(refused(&format!("\"{name}\":null")), Refused::Name, "{}", &name[..name.len().min(60)]);
    }
    assert!(put(&with(&format!("\"{}\":null", "n".repeat(65_535)))).is_ok());
}

#[test]
fn what_does_not_fit() {
    assert!(put(&with(&format!(r#""html":"{}""#, "x".repeat(LIMIT - 2000)))).is_ok());
    assert_eq!(refused(&format!(r#""html":"{}""#, "x".repeat(LIMIT - 500))), Refused::Size);
    let many = vec!["0"; LIMIT / 3].join(",");
    assert_eq!(
        refused(&format!(r#""list":[{many}]"#)),
        Refused::Size,
        "each element takes more than its digit"
    );
    assert_eq!(refused(&format!(r#""html":"{}""#, "x".repeat(20 << 20))), Refused::Size);
    let entry = stored(&key(), &with(r#""a":1"#));
    assert_eq!(write(&entry.meta, &entry.frame, 100), Err(Refused::Size));
    let mut meta = entry.meta;
    meta.validators.etag = Some("e".repeat(1000));
    assert_eq!(write(&meta, &entry.frame, 2000), Err(Refused::Size), "validators need room too");
}

#[test]
fn a_broken_frame_is_refused() {
    let entry = stored(&key(), &with(r#""a":1"#));
    assert_eq!(write(&entry.meta, &entry.frame[..9], LIMIT), Err(Refused::Value));
}

#[test]
fn the_words_are_those_of_the_metric() {
    let words = [Refused::Size, Refused::Value, Refused::Name].map(Refused::as_str);
    assert_eq!(words, crate::metrics::PACKED_REASONS);
}
