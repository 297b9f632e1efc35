//! Items as other programs write them: read, changed, and left to those programs otherwise as they were.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue::{self, B, Bool, L, M, N, Ns, Ss};
use serde_json::json;

use super::super::super::item::{Item, number, text};
use super::super::testing::{SessionsTable, Shape, item};
use super::*;
use crate::domain::session::{Profile, TtlMode};
use crate::store::{SessionDeleteOutcome, SessionFilter, SessionQuery};

const CREATED: u64 = 1_768_470_000;
const EXPIRES: u64 = 4_000_000_000;

fn map<const N: usize>(members: [(&str, AttributeValue); N]) -> AttributeValue {
    M(item(members))
}

/// What JSON cannot say, in an attribute of its own and within others.
fn unsayable() -> [(&'static str, AttributeValue); 3] {
    [
        ("tags", Ss(vec!["a".to_owned(), "b".to_owned()])),
        ("thumbnail", B(Blob::new(b"\x00\x01"))),
        ("weights", Ns(vec!["1.5".to_owned(), "2".to_owned()])),
    ]
}

/// As the description of its table has it.
fn older(name: &str) -> Item {
    let event = map([
        ("eventType", text("StatusChanged")),
        ("timestamp", number(CREATED)),
        ("source", text("wallcrawler.utils")),
        ("detail", map([("previousStatus", text("CREATING")), ("newStatus", text("READY"))])),
        ("labels", Ss(vec!["x".to_owned()])),
    ]);
    let mut attributes = item([
        ("sessionId", text(name)),
        ("status", text("READY")),
        ("projectId", text("jobseek")),
        ("connectUrl", text("ws://10.0.0.1:9223?signingKey=jwt")),
        ("publicIP", text("10.0.0.1")),
        ("signingKey", text("jwt")),
        ("ecsTaskArn", text("arn:aws:ecs:task/1")),
        ("userMetadata", map([("userId", text("user123")), ("groups", Ss(vec!["g".to_owned()]))])),
        (
            "modelConfig",
            map([
                ("modelName", text("gpt-4")),
                ("modelAPIKey", text("encrypted-key")),
                ("verbose", number(2_u64)),
            ]),
        ),
        ("createdAt", number(CREATED)),
        ("updatedAt", number(CREATED + 5)),
        ("expiresAt", number(EXPIRES)),
        ("readyAt", number(CREATED + 4)),
        ("eventHistory", L(vec![event])),
        ("resourceLimits", map([("maxCPU", number(1024_u64))])),
        (
            "billingInfo",
            map([("cpuSeconds", N("120.5".to_owned())), ("memoryMBHours", N("2.10".to_owned()))]),
        ),
        ("precise", N("12345678901234567890.123456789".to_owned())),
    ]);
    attributes.extend(unsayable().map(|(name, value)| (name.to_owned(), value)));
    attributes
}

/// As the younger generation's create function writes it, and its task processor after it.
fn younger(name: &str) -> Item {
    let mut attributes = item([
        ("sessionId", text(name)),
        ("id", text(name)),
        ("status", text("RUNNING")),
        ("internalStatus", text("READY")),
        ("projectId", text("jobseek")),
        ("keepAlive", Bool(false)),
        ("region", text("us-east-1")),
        ("startedAt", text("2026-01-15T09:40:00Z")),
        ("createdAt", text("2026-01-15T09:40:00Z")),
        ("updatedAt", text("2026-01-15T09:40:05Z")),
        ("expiresAt", number(EXPIRES)),
        ("proxyBytes", number(0_u64)),
        ("publicIP", text("10.0.0.1")),
        ("ecsTaskArn", text("arn:aws:ecs:task/1")),
        ("userMetadata", map([("env", text("staging"))])),
        ("modelConfig", map([("ModelName", text("gpt-4")), ("ModelAPIKey", text("secret"))])),
    ]);
    attributes.extend(unsayable().map(|(name, value)| (name.to_owned(), value)));
    attributes
}

fn project(project_id: &str, status: Option<Status>) -> SessionQuery {
    let filter = SessionFilter::Project {
        project_id: project_id.to_owned(),
        created_after: Some(Timestamp::from_secs(CREATED)),
        created_before: Some(Timestamp::from_secs(CREATED + 1)),
        status,
        ascending: false,
    };
    SessionQuery { namespace: Namespace::default(), filter, live_at: Some(NOW), limit: 10, after: None }
}

fn in_status(status: Status) -> SessionQuery {
    let filter = SessionFilter::Status { status, expires_after: None, expires_before: None };
    SessionQuery { filter, ..project("", None) }
}

async fn ids(table: &SessionsTable, query: &SessionQuery) -> Vec<String> {
    let page = table.store.list(query).await.expect("a page");
    page.items.iter().map(|record| record.session.id.to_string()).collect()
}

#[tokio::test]
async fn the_older_generation_of_wallcrawler() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerNumber).await else { return };
    table.write(older("sess_a1b2c3d4")).await;
    let read = get(&table.store, "sess_a1b2c3d4").await;
    let session = &read.session;
    assert_eq!((session.profile, session.status), (Profile::Browser, Status::Ready));
    assert_eq!((session.ttl.mode, session.ttl.seconds), (TtlMode::Fixed, 3600));
    assert_eq!(session.project_id.as_deref(), Some("jobseek"));
    assert_eq!(session.created_at, Timestamp::from_secs(CREATED));
    assert_eq!(session.expires_at, Timestamp::from_secs(EXPIRES));
    assert_eq!(session.ready_at, Some(Timestamp::from_secs(CREATED + 4)));
    assert_eq!(
        (session.public_ip.as_deref(), session.signing_key.as_deref()),
        (Some("10.0.0.1"), Some("jwt"))
    );
    assert_eq!(json!(session.user_metadata), json!({"userId": "user123"}), "a set is not shown");
    assert_eq!(session.model_config["modelAPIKey"], json!("encrypted-key"));
    assert_eq!(json!(session.billing_info), json!({"cpuSeconds": 120.5, "memoryMBHours": 2.1}));
    assert_eq!(session.extra.keys().collect::<Vec<_>>(), ["precise"], "binary data and sets are not shown");
    assert_eq!((session.event_count, session.events_dropped), (1, 0));
    assert_eq!(read.events[0].event_type, "StatusChanged");
    assert_eq!(read.events[0].detail["newStatus"], json!("READY"));

    let (before, after, _) = change(&table, "sess_a1b2c3d4", to_status(Status::Active)).await;
    assert_eq!(
        differing(&before, &after),
        [
            "ccDigest",
            "ccEventCount",
            "ccJson",
            "ccVersion",
            "eventHistory",
            "lastActiveAt",
            "status",
            "updatedAt"
        ]
    );
    assert_eq!(after["status"], text("ACTIVE"));
    assert_eq!(after["updatedAt"], number(1_768_473_000_u64), "seconds, in the type of the index's times");
    let events = after["eventHistory"].as_l().expect("a list");
    assert_eq!(events[0], before["eventHistory"].as_l().expect("a list")[0], "its set included");
    assert_eq!(events[1].as_m().expect("a map")["eventType"], text("StatusChanged"));

    let (before, after, _) =
        change(&table, "sess_a1b2c3d4", patched(json!({"user_metadata": {"step": 2}, "precise": null})))
            .await;
    assert_eq!(differing(&before, &after), ["ccDigest", "precise", "userMetadata"], "in the same instant");
    let metadata = after["userMetadata"].as_m().expect("a map");
    assert_eq!((&metadata["step"], &metadata["groups"]), (&number(2_u64), &Ss(vec!["g".to_owned()])));
    change(&table, "sess_a1b2c3d4", patched(json!({"user_metadata": null}))).await;
    let rest = table.item("sess_a1b2c3d4").await.expect("an item");
    assert_eq!(rest["userMetadata"], map([("groups", Ss(vec!["g".to_owned()]))]), "not ours to remove");
    for (name, value) in unsayable() {
        assert_eq!(rest[name], value);
    }
}

#[tokio::test]
async fn the_younger_generation_of_wallcrawler() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerText).await else { return };
    table.write(younger("sess_b")).await;
    let read = get(&table.store, "sess_b").await.session;
    assert_eq!((read.status, read.created_at), (Status::Ready, Timestamp::from_secs(CREATED)));
    assert_eq!(read.extra.keys().collect::<Vec<_>>(), ["keepAlive", "proxyBytes", "region"]);

    let (before, after, _) = change(&table, "sess_b", touched).await;
    assert_eq!(differing(&before, &after), ["ccDigest", "ccJson", "ccVersion", "lastActiveAt", "updatedAt"]);
    assert_eq!(after["updatedAt"], text("2026-01-15T10:30:00Z"));
    let (_, after, _) = change(&table, "sess_b", with_event).await;
    let event = after["eventHistory"].as_l().expect("a list")[0].as_m().expect("a map").clone();
    assert_eq!(
        (&event["eventType"], &event["timestamp"]),
        (&text("Navigated"), &text("2026-01-15T10:30:00Z"))
    );
    let (_, after, _) = change(&table, "sess_b", to_status(Status::Failed)).await;
    assert_eq!((&after["internalStatus"], &after["status"]), (&text("FAILED"), &text("ERROR")));
    assert_eq!(after["endedAt"], text("2026-01-15T10:30:00Z"));
    assert!(!after.contains_key("terminatedAt") && after["id"] == text("sess_b"));
    for (name, value) in unsayable() {
        assert_eq!(after[name], value);
    }
}

#[tokio::test]
async fn an_end_that_only_one_attribute_reports() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerText).await else { return };
    table.write(younger("sess_c")).await;
    let version = get(&table.store, "sess_c").await.session.version;
    // The controller in the container: an internal word in the SDK's attribute, and a number where a text was.
    table.set("sess_c", "status", text("STOPPED")).await;
    table.set("sess_c", "updatedAt", number(CREATED + 60)).await;
    let read = get(&table.store, "sess_c").await.session;
    assert_eq!((read.status, read.updated_at), (Status::Stopped, Timestamp::from_secs(CREATED + 60)));
    assert_ne!(read.version, version);
    assert_eq!(ids(&table, &in_status(Status::Stopped)).await, ["sess_c"]);
    let (_, after, _) = change(&table, "sess_c", patched(json!({"user_metadata": {"seen": true}}))).await;
    assert_eq!((&after["internalStatus"], &after["status"]), (&text("STOPPED"), &text("COMPLETED")));
    assert_eq!(ids(&table, &in_status(Status::Stopped)).await, ["sess_c"]);
}

/// What a program leaves that updates an item after the service has deleted it.
#[tokio::test]
async fn an_item_with_almost_nothing() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerText).await else { return };
    table
        .write(item([
            ("sessionId", text("ghost")),
            ("status", text("RUNNING")),
            ("updatedAt", number(CREATED)),
        ]))
        .await;
    let read = get(&table.store, "ghost").await.session;
    assert_eq!((read.status, read.expires_at), (Status::Active, Timestamp::MAX), "it never expires");
    assert_eq!(
        (read.created_at, read.updated_at),
        (Timestamp::from_secs(CREATED), Timestamp::from_secs(CREATED))
    );
    let (_, after, _) = change(&table, "ghost", patched(json!({"note": 1}))).await;
    assert!(!after.contains_key("expiresAt"), "{after:?}");
    assert_eq!(after["createdAt"], text("2026-01-15T09:40:00Z"), "the time of its last change has moved on");
    let deleted = table.store.delete(&Namespace::default(), &id("ghost"), SessionCondition::Any).await;
    assert_eq!(deleted, Ok(SessionDeleteOutcome::Deleted));
}

#[tokio::test]
async fn a_tool_servers_session() {
    let Some(table) = SessionsTable::make(Shape::Crawl4ai).await else { return };
    table
        .write(item([
            ("session_id", text("mcp-1")),
            ("created_at", text("2026-01-15T09:40:00.250000")),
            ("updated_at", text("2026-01-15T09:40:00.250000")),
            ("ttl", number(EXPIRES)),
            ("status", text("active")),
            ("state", map([("cursor", number(7_u64)), ("raw", B(Blob::new(b"x")))])),
            ("browser", text("chromium")),
            ("seen", Ss(vec!["https://example.com/".to_owned()])),
        ]))
        .await;
    let read = get(&table.store, "mcp-1").await.session;
    assert_eq!((read.profile, read.status), (Profile::Mcp, Status::Active));
    assert_eq!((read.ttl.mode, read.ttl.seconds), (TtlMode::Sliding, 86_400));
    assert_eq!(read.created_at, Timestamp::from_millis(CREATED * 1000 + 250));
    assert_eq!((read.state, read.expires_at), (Some(json!({"cursor": 7})), Timestamp::from_secs(EXPIRES)));
    let (before, after, _) = change(&table, "mcp-1", patched(json!({"state": {"cursor": 8}}))).await;
    assert_eq!(after["ttl"], number(1_768_473_000_u64 + 86_400 + 1), "rounded up");
    assert_eq!((&after["status"], &after["seen"]), (&before["status"], &before["seen"]));
    assert_eq!(after["state"], map([("cursor", number(8_u64)), ("raw", B(Blob::new(b"x")))]));
    // The tool server slides the expiry that it knows.
    table.set("mcp-1", "ttl", number(EXPIRES)).await;
    assert_eq!(get(&table.store, "mcp-1").await.session.expires_at, Timestamp::from_secs(EXPIRES));
}

#[tokio::test]
async fn access_patterns_of_wallcrawler() {
    for (shape, of) in [
        (Shape::WallcrawlerNumber, older as fn(&str) -> Item),
        (Shape::WallcrawlerText, younger as fn(&str) -> Item),
    ] {
        let Some(table) = SessionsTable::make(shape).await else { return };
        for name in ["a", "b", "not an id"] {
            table.write(of(name)).await;
        }
        let mut elsewhere = of("c");
        elsewhere.insert("projectId".to_owned(), text("research"));
        table.write(elsewhere).await;
        let sorted = async |query: &SessionQuery| {
            let mut ids = ids(&table, query).await;
            ids.sort_unstable();
            ids
        };
        assert_eq!(sorted(&project("jobseek", None)).await, ["a", "b"], "{shape:?}");
        assert_eq!(sorted(&project("jobseek", Some(Status::Failed))).await, [""; 0], "{shape:?}");
        assert_eq!(sorted(&in_status(Status::Ready)).await, ["a", "b", "c"], "{shape:?}");
        assert_eq!(sorted(&in_status(Status::Active)).await, [""; 0], "{shape:?}");
        change(&table, "b", to_status(Status::Active)).await;
        assert_eq!(sorted(&in_status(Status::Active)).await, ["b"], "{shape:?}");
        let expired =
            SessionQuery { live_at: Some(Timestamp::from_secs(EXPIRES)), ..in_status(Status::Ready) };
        assert_eq!(sorted(&expired).await, [""; 0], "{shape:?}");
    }
}

/// The access patterns that Wallcrawler lists for its table, in every shape: none of them needs a scan.
#[tokio::test]
async fn no_access_pattern_scans() {
    for shape in [Shape::Own, Shape::WallcrawlerNumber, Shape::WallcrawlerText] {
        let Some(table) = SessionsTable::make(shape).await else { return };
        let (store, sent) = table.recorded();
        let namespace = Namespace::default();
        store_any(&store, session("s", 10)).await;
        let read = get(&store, "s").await;
        let condition = SessionCondition::Version(read.session.version);
        let next = to_status(Status::Stopped)(&read);
        assert_eq!(store.put(put(next, condition)).await, Ok(SessionPutOutcome::Replaced));
        let everything = SessionQuery { live_at: None, ..in_status(Status::Stopped) };
        let of_project = SessionFilter::Project {
            project_id: "p".to_owned(),
            created_after: Some(at(5)),
            created_before: Some(at(15)),
            status: None,
            ascending: false,
        };
        let of_project = SessionQuery { filter: of_project, ..everything.clone() };
        for query in [everything, of_project] {
            assert_eq!(store.list(&query).await.expect("a page").items.len(), 1, "{shape:?}");
        }
        store.get_many(&namespace, &[id("s")]).await.expect("read");
        store.delete(&namespace, &id("s"), SessionCondition::Any).await.expect("deleted");
        store.status().await.expect("a status");
        let sent: Vec<String> = sent.lock().expect("no panic").iter().cloned().collect();
        let expected =
            ["BatchGetItem", "DeleteItem", "DescribeTable", "GetItem", "PutItem", "Query", "UpdateItem"];
        assert_eq!(sent, expected, "{shape:?}");
    }
}

#[tokio::test]
async fn attributes_of_others_may_have_any_name() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerText).await else { return };
    let mut foreign = younger("named");
    let by_chance = ["events", "ttl", "created_at", "profile", "ttl_seconds", "user_metadata"];
    foreign.extend(by_chance.map(|name| (name.to_owned(), text("by chance"))));
    table.write(foreign).await;
    let (_, after, next) = change(
        &table,
        "named",
        patched(
            json!({"sessionId": "mine", "internalStatus": "mine", "ccDigest": 1.0, "session_id": "x", "": 1}),
        ),
    )
    .await;
    assert!(by_chance.into_iter().all(|name| after[name] == text("by chance")));
    assert_eq!((&after["sessionId"], &after["session_id"]), (&text("named"), &text("x")));
    assert_eq!(next.session.extra["internalStatus"], json!("mine"));
    let empty: HashMap<String, AttributeValue> = HashMap::new();
    assert_ne!(after["ccJson"].as_m().unwrap_or(&empty).len(), 0);
    change(&table, "named", patched(json!({"sessionId": null, "internalStatus": 5}))).await;
}
