//! Properties of sessions: what holds for any body, any patch and any order of changes.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::change::{append_event, create, patch, replace, set_status};
use super::*;

/// Any JSON of modest size. Fractions are eighths, which every reader and writer of JSON keeps exactly.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            members(inner).prop_map(Value::Object),
        ]
    })
}

/// Names of which some are those of credentials or need escaping in a JSON pointer.
fn member() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "api_key",
            "Access-Token",
            "a/secret",
            "~password",
            "/",
            "~1",
            "",
            "0",
            "max_tokens"
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ]
}

fn members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::hash_map(member(), value, 0..5).prop_map(|map| map.into_iter().collect())
}

fn object() -> impl Strategy<Value = Value> {
    members(any_json()).prop_map(Value::Object)
}

prop_compose! {
    fn body()(
        project in prop::option::of("[a-z]{1,8}"),
        fixed: bool,
        seconds in 100_u64..10_000,
        [user_metadata, model_config, resource_limits, billing_info] in [object(), object(), object(), object()],
        signing_key in prop::option::of(".{0,9}"),
        connect_url in prop::option::of(".{0,9}"),
        state in any_json(),
        extra in prop::collection::hash_map("x_[a-z]{1,5}", any_json(), 0..3),
        alias in prop::option::of(any_json()),
    ) -> Value {
        let mut body = json!({
            "project_id": project, "ttl": {"mode": if fixed { "fixed" } else { "sliding" }, "seconds": seconds},
            "user_metadata": user_metadata, "model_config": model_config, "resource_limits": resource_limits,
            "billing_info": billing_info, "signing_key": signing_key, "connect_url": connect_url, "state": state,
        });
        for (name, value) in extra {
            body[name] = value;
        }
        if let Some(alias) = alias {
            body["signingKey"] = alias;
        }
        body
    }
}

fn at(seconds: u64) -> Stamp {
    let now = Timestamp::from_secs(1_768_473_000 + seconds);
    Stamp { now, version: Version::first_of(now) }
}

fn made(body: Value) -> SessionRecord {
    create(SessionId::from_random(9), body, at(0), &Limits::default()).expect("a valid body")
}

fn stored(record: &SessionRecord) -> SessionRecord {
    let text = serde_json::to_string(record).expect("serialises");
    serde_json::from_str(&text).expect("reads what it wrote")
}

fn status() -> impl Strategy<Value = Status> {
    prop::sample::select(Status::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn secrets_taken_and_put_back_change_nothing(body in body()) {
        let original = made(body).session;
        let mut session = original.clone();
        let secrets = take_secrets(&mut session);
        prop_assert_eq!(secrets.is_empty(), session == original);
        let mut redacted = original.clone();
        redact(&mut redacted);
        prop_assert_eq!(&redacted, &session);
        let sealed = serde_json::to_vec(&secrets).expect("serialises");
        put_back(&mut session, serde_json::from_slice(&sealed).expect("reads what it wrote"));
        prop_assert_eq!(&session, &original);
    }

    #[test]
    fn storage_keeps_everything(body in body(), status in status()) {
        let record = made(body);
        let moved = set_status(&record, StatusRequest::to(status), at(1), &Limits::default());
        for record in [Some(record), moved.ok()].into_iter().flatten() {
            prop_assert_eq!(&stored(&record), &record);
        }
    }

    #[test]
    fn sending_back_what_was_read_changes_no_content(body in body(), blind: bool) {
        let record = made(body);
        let mut shown = record.session.clone();
        if blind {
            redact(&mut shown);
        }
        let mut echo = serde_json::to_value(&shown).expect("serialises");
        if blind {
            keep_unseen(&record.session, &mut echo);
        }
        let next = replace(Some(&record), &record.session.id, echo, at(5), &Limits::default()).expect("an echo");
        let mut wanted = record.clone();
        if record.session.ttl.mode == TtlMode::Sliding {
            wanted.session.expires_at = at(5).now.plus_secs(record.session.ttl.seconds);
            wanted.session.updated_at = at(5).now;
            wanted.session.version = at(5).version;
        }
        prop_assert_eq!(next, wanted);
    }

    /// A patch of a session is RFC 7396 on its JSON, as far as it speaks of content.
    #[test]
    fn a_patch_is_the_merge_patch_of_what_is_read(
        body in body(),
        metadata in object(),
        state in any_json(),
        extra in prop::collection::hash_map("x_[a-z]{1,5}", any_json(), 0..3),
    ) {
        let record = made(body);
        let mut change = json!({"user_metadata": metadata, "state": state});
        for (name, value) in extra {
            change[name] = value;
        }
        let next = patch(&record, change.clone(), at(5), &Limits::default()).expect("content only");
        let mut wanted = serde_json::to_value(&record.session).expect("serialises");
        merge_patch(&mut wanted, change);
        let mut found = serde_json::to_value(&next.session).expect("serialises");
        for stamped in ["updated_at", "expires_at", "version"] {
            found[stamped] = wanted[stamped].clone();
        }
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn history_counts_what_it_drops(
        steps in prop::collection::vec((status(), 0_usize..400), 0..40),
        events in 0_usize..8,
        bytes in 600_usize..3000,
        browser: bool,
    ) {
        let limits = Limits { history: HistoryLimits { events, bytes }, ..Limits::default() };
        let mut record = made(if browser { json!({"project_id": "p"}) } else { json!({}) });
        for (second, (status, size)) in (1..).zip(steps) {
            let before = record.session.clone();
            if let Ok(next) = set_status(&record, StatusRequest::to(status), at(second), &limits) {
                record = next;
            }
            prop_assert!(!before.status.is_terminal() || record.session.status == before.status);
            let body = json!({"event_type": "Note", "detail": {"text": "x".repeat(size)}});
            let event = NewEvent::from_body(body).expect("an event");
            record = append_event(&record, event, at(second), &limits).expect("every event fits alone");
            let (count, dropped) = (record.session.event_count, record.session.events_dropped);
            prop_assert!(record.events.len() <= events);
            prop_assert!(record.events.iter().map(json_bytes).sum::<usize>() <= bytes);
            let indices: Vec<u64> = record.events.iter().map(|event| event.index).collect();
            prop_assert_eq!(indices, (dropped..count).collect::<Vec<_>>());
        }
    }
}
