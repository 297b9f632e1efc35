//! Properties of the codec: any object, any projection, any prefix, any coding.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

const LEVEL: i32 = 3;

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        ".{0,40}".prop_map(Value::from),
        "[a-z <>/]{0,4000}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(".{0,8}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["html", "markdown", "cleaned_html", "media", "links", "url", "status_code", "head"]).prop_map(str::to_owned),
        1 => ".{0,12}",
    ]
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::hash_map(name(), json(), 0..14).prop_map(|map| map.into_iter().collect())
}

fn text(object: &Map<String, Value>, pretty: bool) -> Vec<u8> {
    if pretty { serde_json::to_vec_pretty(object) } else { serde_json::to_vec(object) }.expect("serialises")
}

fn parse(raw: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(raw).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(raw)))
}

/// An independent decoder: the streaming one, which reads whatever one frame holds.
fn unzstd(frame: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(frame).expect("one whole frame")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_back_is_what_was_put(object in object(), pretty: bool) {
        let encoded = encode(&text(&object, pretty), LEVEL).expect("an object");
        let document = Document::new(&encoded.layout, &encoded.frame);
        prop_assert_eq!(&parse(&unzstd(&encoded.frame)), &object);
        prop_assert_eq!(&parse(&document.decode().expect("decodes")), &object);
        prop_assert_eq!(document.decode_and_check().expect("nothing is wrong"), document.decode().expect("decodes"));
        prop_assert_eq!(encoded.layout.stored_size(), encoded.frame.len() as u64);
        prop_assert_eq!(encoded.layout.fields().count(), object.len());
        for (name, value) in &object {
            let raw = document.value(name).expect("decodes").expect("is there");
            prop_assert_eq!(&serde_json::from_slice::<Value>(&raw).expect("JSON"), value);
            let blank = matches!(value, Value::Null) || value == "" || value == &Value::from(Vec::<Value>::new()) || value == &Value::Object(Map::new());
            prop_assert_eq!(encoded.layout.has(name), !blank);
        }
    }

    #[test]
    fn every_prefix_is_a_frame_and_an_object(object in object()) {
        let encoded = encode(&text(&object, false), LEVEL).expect("an object");
        let mut ends: Vec<(u64, u64)> = encoded.layout.fields().map(|field| (field.stored_end, field.raw_end)).collect();
        ends.push((encoded.layout.head_end().1, encoded.layout.head_end().0));
        for (stored_end, raw_end) in ends {
            let mut prefix = encoded.frame[..usize::try_from(stored_end).expect("small")].to_vec();
            prefix.extend_from_slice(&CLOSE);
            let raw = unzstd(&prefix);
            prop_assert_eq!(raw.len() as u64, raw_end + 1);
            for (name, value) in parse(&raw) {
                prop_assert_eq!(&object[&name], &value);
            }
        }
    }

    #[test]
    fn a_projection_holds_the_fields_it_names(object in object(), names in prop::collection::vec(name(), 0..6)) {
        let encoded = encode(&text(&object, false), LEVEL).expect("an object");
        let document = Document::new(&encoded.layout, &encoded.frame);
        let projection = Projection::new(names.iter().map(String::as_str));
        let head = names.iter().any(|name| name == "head");
        let expected: Map<String, Value> = encoded.layout.fields()
            .filter(|field| (head && field.segment == 0) || names.iter().any(|name| name == field.name))
            .map(|field| (field.name.to_owned(), object[field.name].clone()))
            .collect();
        prop_assert_eq!(&parse(&document.project(&projection).expect("decodes")), &expected);
        if let Some(prefix) = document.prefix(&projection) {
            prop_assert_eq!(&parse(&unzstd(&prefix)), &expected);
        }
    }

    #[test]
    fn the_large_path_writes_the_same_frame(object in object(), pretty: bool, coding in prop::sample::select(vec![Coding::Identity, Coding::Zstd, Coding::Gzip])) {
        let raw = text(&object, pretty);
        let small = encode(&raw, LEVEL).expect("an object");
        let body = match coding {
            Coding::Identity => raw.clone(),
            Coding::Zstd => zstd::bulk::compress(&raw, 1).expect("compresses"),
            Coding::Gzip => {
                let mut encoder = flate2::read::GzEncoder::new(raw.as_slice(), flate2::Compression::fast());
                let mut body = Vec::new();
                std::io::Read::read_to_end(&mut encoder, &mut body).expect("compresses");
                body
            }
        };
        let source = Inflate { body: body.into(), coding, limit: 1 << 30 };
        let large = encode_large(&source, LEVEL).expect("an object");
        prop_assert_eq!(&large.layout.fields().map(|f| f.name.to_owned()).collect::<Vec<_>>(), &small.layout.fields().map(|f| f.name.to_owned()).collect::<Vec<_>>());
        prop_assert_eq!(large.etag, small.etag);
        prop_assert_eq!(large.facts, small.facts);
        prop_assert_eq!(unzstd(&large.frame), unzstd(&small.frame));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = encode(&bytes, LEVEL);
        for coding in [Coding::Identity, Coding::Zstd, Coding::Gzip] {
            let _ = encode_large(&Inflate { body: bytes.clone().into(), coding, limit: 1 << 20 }, LEVEL);
        }
    }

    #[test]
    fn a_damaged_frame_is_an_error(object in object(), at: prop::sample::Index, flip in 1..=255_u8) {
        let encoded = encode(&text(&object, false), LEVEL).expect("an object");
        let mut frame = encoded.frame.to_vec();
        let at = at.index(frame.len());
        frame[at] ^= flip;
        let frame = frame.into();
        let document = Document::new(&encoded.layout, &frame);
        // Either it is found out or the text is still of the right length: the entry's digest finds the rest.
        if let Ok(raw) = document.decode() {
            prop_assert_eq!(raw.len() as u64, encoded.layout.raw_size());
        }
    }
}

#[test]
fn head_and_markdown_is_a_slice_and_no_copy_of_the_rest() {
    let raw = format!(
        r#"{{"html":"{}","markdown":"{}","url":"https://a/","success":true}}"#,
        "<p>text</p>".repeat(900),
        "text ".repeat(900)
    );
    let encoded = encode(raw.as_bytes(), LEVEL).expect("an object");
    let document = Document::new(&encoded.layout, &encoded.frame);
    assert!(document.prefix(&Projection::new(["head"])).is_some());
    assert!(document.prefix(&Projection::new(["head", "markdown"])).is_some());
    assert!(document.prefix(&Projection::new(["url", "success", "markdown"])).is_some());
    let whole = document.prefix(&Projection::new(["head", "markdown", "html"])).expect("all of it");
    assert_eq!(whole.as_ptr(), encoded.frame.as_ptr(), "the whole is not copied");
    for names in [&["markdown"][..], &["url"], &["head", "html"], &["url", "markdown"]] {
        assert!(document.prefix(&Projection::new(names.iter().copied())).is_none(), "{names:?}");
    }
}

#[test]
fn numbers_keep_their_digits() {
    let raw = br#"{"a":1.0,"b":1e2,"c":123456789012345678901234567890,"d":-0,"e":0.10}"#;
    let encoded = encode(raw, LEVEL).expect("an object");
    assert_eq!(Document::new(&encoded.layout, &encoded.frame).decode().expect("decodes"), raw);
}

#[test]
fn the_large_path_finds_the_same_faults() {
    let large = |raw: &str, limit| {
        encode_large(&Inflate { body: raw.to_owned().into(), coding: Coding::Identity, limit }, LEVEL)
    };
    for raw in ["[1]", "1", "null", "\"a\""] {
        assert_eq!(large(raw, 99).unwrap_err(), DocumentError::NotAnObject, "{raw}");
    }
    for raw in ["", "{", "{\"a\":}", "{\"a\":1,}", "{} x", "{\"a\":01}"] {
        assert!(matches!(large(raw, 99).unwrap_err(), DocumentError::Syntax(_)), "{raw}");
    }
    assert_eq!(large(r#"{"a":1,"\u0061":2}"#, 99).unwrap_err(), DocumentError::DuplicateField("a".into()));
    assert_eq!(large(r#"{"a":"0123456789"}"#, 17).unwrap_err(), DocumentError::TooLarge { limit: 17 });
    assert!(large(r#"{"a":"0123456789"}"#, 18).is_ok());
    let not_utf8 = Inflate { body: b"{\"a\":\"\xff\"}"[..].into(), coding: Coding::Identity, limit: 99 };
    assert!(matches!(encode_large(&not_utf8, LEVEL).unwrap_err(), DocumentError::Syntax(_)));
}
