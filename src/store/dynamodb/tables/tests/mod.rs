//! The tables against DynamoDB Local.

mod aws;

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement,
    KeyType as SdkKeyType, Projection as SdkProjection, ProjectionType, ScalarAttributeType,
};

use super::*;
use crate::config::Config;
use crate::store::LeaseStore as _;
use crate::store::conformance::{at, claim, key};
use crate::store::dynamodb::{DynamodbResults, testing};

/// An index of a foreign table: its name, and its keys with their types.
type ForeignIndex<'i> = (&'i str, &'i [(&'i str, &'i str)], ProjectionType);

async fn tables() -> Option<(Tables, config::Dynamodb)> {
    let settings = testing::settings()?;
    Some((Tables::new(testing::connect(&settings).await, &settings), settings))
}

fn schema(keys: &[(&str, &str)]) -> Vec<KeySchemaElement> {
    let kinds = [SdkKeyType::Hash, SdkKeyType::Range];
    let element = |((name, _), kind): (&(&str, &str), SdkKeyType)| {
        KeySchemaElement::builder().attribute_name(*name).key_type(kind).build().unwrap()
    };
    keys.iter().zip(kinds).map(element).collect()
}

/// Makes a table as others would.
async fn foreign(tables: &Tables, name: &str, key: &str, indexes: &[ForeignIndex<'_>]) {
    let mut request = tables
        .aws
        .dynamodb()
        .create_table()
        .table_name(name)
        .set_key_schema(Some(schema(&[(key, "S")])))
        .billing_mode(BillingMode::PayPerRequest);
    let mut attributes = vec![(key, "S")];
    for (index, keys, projection) in indexes {
        attributes.extend(keys.iter().filter(|key| !attributes.contains(key)).copied().collect::<Vec<_>>());
        let projection = SdkProjection::builder().projection_type(projection.clone()).build();
        let index = GlobalSecondaryIndex::builder().index_name(*index).projection(projection);
        request = request.global_secondary_indexes(index.set_key_schema(Some(schema(keys))).build().unwrap());
    }
    for (name, kind) in attributes {
        let kind = ScalarAttributeType::from(kind);
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind);
        request = request.attribute_definitions(attribute.build().unwrap());
    }
    request.send().await.unwrap();
}

async fn apply_all(tables: &Tables, options: &CreateOptions) -> Vec<(&'static str, Applied)> {
    let mut done = Vec::new();
    for step in tables.plan(options).await.unwrap() {
        done.push((step.action(), tables.apply(&step).await.unwrap()));
    }
    done
}

async fn problems(tables: &Tables) -> Vec<(Severity, String)> {
    let all = tables.check().await.unwrap();
    let bad = all.into_iter().filter(|finding| finding.severity != Severity::Ok);
    bad.map(|finding| (finding.severity, finding.subject)).collect()
}

async fn clean(tables: &Tables) {
    for table in Table::ALL {
        tables.delete(table).await.unwrap();
    }
}

#[tokio::test]
async fn missing_tables_are_made_once() {
    let Some((tables, settings)) = tables().await else { return };
    let missing = tables.ready().await.unwrap_err();
    let Error::MissingTable { detail, .. } = &missing else { panic!("{missing}") };
    assert!(detail.contains("crawlcache tables create"), "{detail}");

    // Two servers that start at once.
    let (one, other) = (tables.create_missing(), tables.create_missing());
    let (one, other) = tokio::join!(one, other);
    one.unwrap();
    other.unwrap();
    tables.create_missing().await.unwrap();
    tables.ready().await.unwrap();
    assert_eq!(problems(&tables).await, []);

    let all = tables.describe().await.unwrap();
    let results = all[0].found.as_ref().unwrap();
    assert_eq!(all[0].name, settings.results_table());
    assert_eq!((results.keys.to_string().as_str(), results.billing), ("url (S)", Billing::OnDemand));
    let expected = TimeToLive { enabled: true, attribute: Some("ttl".to_owned()) };
    assert_eq!(results.time_to_live, Told::Known(expected));
    let sessions = all[1].found.as_ref().unwrap();
    let mut names: Vec<_> = sessions.indexes.iter().map(|index| index.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["project-index", "status-index"]);
    clean(&tables).await;
    assert!(tables.describe().await.unwrap().iter().all(|table| table.found.is_none()));
}

#[tokio::test]
async fn a_plan_is_carried_out_once() {
    let Some((tables, _)) = tables().await else { return };
    let options = CreateOptions::default();
    let done = apply_all(&tables, &options).await;
    // DynamoDB Local has no recovery.
    let expected = [
        ("create", Applied::Done),
        ("wait", Applied::Done),
        ("time_to_live", Applied::Done),
        ("point_in_time_recovery", Applied::Unsupported),
    ];
    assert_eq!(done, [expected.clone(), expected].concat());
    assert_eq!(apply_all(&tables, &options).await, []);
    assert_eq!(apply_all(&tables, &CreateOptions { update: true, ..options }).await, []);
    clean(&tables).await;
}

#[tokio::test]
async fn a_foreign_table_of_results_gets_what_it_lacks() {
    let Some(settings) = testing::settings_for_indexes() else { return };
    let settings = config::Dynamodb { host_index: true, ..settings };
    // One that has stopped finishing indexes fails the test.
    let tables =
        Tables::new(testing::connect(&settings).await, &settings).with_patience(Duration::from_mins(1));
    let by_time: ForeignIndex<'_> = ("timestamp-index", &[("created_at", "S")], ProjectionType::All);
    foreign(&tables, &settings.results_table(), "url", &[by_time]).await;
    let options = CreateOptions::default();
    apply_all(&tables, &options).await;
    tables.ready().await.unwrap();
    let wrong = |subject: &str| (Severity::Wrong, subject.to_owned());
    let foreign = (Severity::Warning, "index timestamp-index".to_owned());
    let expected =
        [wrong("index time-index"), wrong("index host-index"), foreign.clone(), wrong("time_to_live")];
    assert_eq!(problems(&tables).await, expected);

    let done = apply_all(&tables, &CreateOptions { update: true, ..options }).await;
    let actions: Vec<_> = done.iter().map(|(action, _)| *action).collect();
    assert_eq!(actions, ["time_to_live", "index", "wait", "index", "wait"]);
    assert_eq!(problems(&tables).await, [foreign]);
    clean(&tables).await;
}

#[tokio::test]
async fn tables_of_wallcrawler_are_used_as_they_are() {
    for (kind, missing) in [("S", false), ("N", false), ("N", true)] {
        let Some((tables, settings)) = tables().await else { return };
        let project = [("projectId", "S"), ("createdAt", kind)];
        let status = [("status", "S"), ("expiresAt", "N")];
        let indexes: [ForeignIndex<'_>; 2] = [
            ("projectId-createdAt-index", &project, ProjectionType::All),
            ("status-expiresAt-index", &status, ProjectionType::KeysOnly),
        ];
        let indexes = if missing { &indexes[1..] } else { &indexes };
        foreign(&tables, &settings.sessions_table(), "sessionId", indexes).await;
        apply_all(&tables, &CreateOptions { update: true, ..CreateOptions::default() }).await;
        tables.ready().await.unwrap();
        let found = tables.describe().await.unwrap().remove(1).found.unwrap();
        assert!(found.is_adopted);
        assert_eq!(found.indexes.len(), indexes.len(), "nothing was added");
        let off = (Severity::Warning, "time_to_live".to_owned());
        let lacks = (Severity::Wrong, "index projectId-createdAt-index".to_owned());
        let expected = if missing { vec![lacks, off] } else { vec![off] };
        assert_eq!(problems(&tables).await, expected);
        clean(&tables).await;
    }
}

#[tokio::test]
async fn wrong_schemas_are_found() {
    let Some((tables, settings)) = tables().await else { return };
    foreign(&tables, &settings.results_table(), "id", &[]).await;
    let by_status: ForeignIndex<'_> = ("status-index", &[("status", "S")], ProjectionType::KeysOnly);
    foreign(&tables, &settings.sessions_table(), "session_id", &[by_status]).await;
    let wrong = tables.ready().await.unwrap_err();
    assert!(matches!(&wrong, Error::WrongSchema { .. }), "{wrong}");
    let problems = problems(&tables).await;
    let wrong = |subject: &str| (Severity::Wrong, subject.to_owned());
    assert_eq!(
        problems,
        [wrong("keys"), wrong("index project-index"), wrong("index status-index"), wrong("time_to_live")]
    );
    let steps = tables.plan(&CreateOptions { update: true, ..CreateOptions::default() }).await.unwrap();
    assert!(steps.iter().all(|step| step.table() == settings.sessions_table()), "{steps:?}");

    tables.delete(Table::Results).await.unwrap();
    apply_all(&tables, &CreateOptions::default()).await;
    let wrong = tables.ready().await.unwrap_err();
    assert!(
        matches!(&wrong, Error::WrongSchema { detail, .. } if detail.contains("status-index")),
        "{wrong}"
    );
    clean(&tables).await;
}

#[tokio::test]
async fn protected_tables_stay() {
    let Some((tables, settings)) = tables().await else { return };
    let tables = tables.with_patience(Duration::from_secs(30));
    let tags = vec![("team".to_owned(), "crawl".to_owned())];
    let options = CreateOptions {
        deletion_protection: true,
        encryption: Encryption::Aws,
        tags,
        ..CreateOptions::default()
    };
    apply_all(&tables, &options).await;
    let refused = tables.delete(Table::Results).await.unwrap_err();
    assert!(refused.to_string().contains("protected"), "{refused}");
    let found = tables.describe().await.unwrap().remove(0).found.unwrap();
    assert!(found.deletion_protection);
    for name in [settings.results_table(), settings.sessions_table()] {
        let request = tables.aws.dynamodb().update_table().table_name(name);
        request.deletion_protection_enabled(false).send().await.unwrap();
    }
    clean(&tables).await;
    assert!(!tables.delete(Table::Results).await.unwrap(), "there is none");
}

#[tokio::test]
async fn objects_that_no_item_names_are_swept() {
    let Some(settings) = testing::settings() else { return };
    let Some((aws, s3)) = testing::connect_with_bucket(&settings).await else { return };
    let tables = Tables::new(aws.clone(), &settings);
    tables.create_missing().await.unwrap();
    let client = aws.s3().unwrap();
    let put = async |key: &str| {
        client.put_object().bucket(&s3.bucket).key(key).body(b"body".to_vec().into()).send().await.unwrap();
    };
    let named = format!("{}{}", s3.prefix, "a".repeat(32));
    let orphan = format!("{}{}", s3.prefix, "b".repeat(32));
    let foreign = format!("{}report.csv", s3.prefix);
    for key in [&named, &orphan, &foreign] {
        put(key).await;
    }
    let item = [("url", "https://a/"), ("object", named.as_str())];
    let item = item.map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())));
    let request = aws.dynamodb().put_item().table_name(settings.results_table());
    request.set_item(Some(item.into())).send().await.unwrap();
    let results = DynamodbResults::new(
        aws.clone(),
        &Config { dynamodb: settings.clone(), ..Config::default() },
        &crate::clock::Clock::system(),
        &crate::metrics::Metrics::new(),
    );
    let page = key("https://a/");
    results.acquire(&claim(&page, 1, 100)).await.unwrap();

    let orphans = Orphans::new(aws.clone(), &settings, &s3).unwrap();
    let now = crate::clock::Clock::system().now();
    let sweep = |older_than_seconds, dry_run| Sweep {
        now: now.plus_secs(3600),
        older_than_seconds,
        dry_run,
        read_units: 1000,
    };
    let young = orphans.sweep(&sweep(7200, false), |_| {}).await.unwrap();
    assert_eq!((young.objects, young.foreign, young.orphans, young.deleted), (2, 1, 0, 0));
    let dry = orphans.sweep(&sweep(60, true), |_| {}).await.unwrap();
    assert_eq!((dry.orphans, dry.orphan_bytes, dry.deleted), (1, 4, 0));
    let mut last = Swept::default();
    let swept = orphans.sweep(&sweep(60, false), |swept| last = *swept).await.unwrap();
    assert_eq!((swept.orphans, swept.deleted, swept.failed), (1, 1, 0));
    assert!(swept.read_units > 0.0 && last == swept, "{swept:?}");
    let rest = client.list_objects_v2().bucket(&s3.bucket).prefix(&s3.prefix).send().await.unwrap();
    let rest: Vec<_> = rest.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(rest, [&named, &foreign]);

    let probes = crate::store::dynamodb::probe::probe_bucket(&aws, &s3, true).await;
    assert!(probes.len() == 4 && probes.iter().all(|probe| probe.error.is_none()), "{probes:?}");
    for key in [&named, &foreign] {
        client.delete_object().bucket(&s3.bucket).key(key).send().await.unwrap();
    }
    let held = results.held(&[page.id()], at(101)).await.unwrap();
    assert!(held[0].is_some(), "leases are no bodies");
    clean(&tables).await;
    let missing = orphans.sweep(&sweep(60, false), |_| {}).await.unwrap();
    assert_eq!(missing.objects, 0);
    put(&orphan).await;
    let missing = orphans.sweep(&sweep(60, false), |_| {}).await.unwrap_err();
    assert!(matches!(missing, Error::MissingTable { .. }), "nothing is deleted: {missing}");
    client.delete_object().bucket(&s3.bucket).key(&orphan).send().await.unwrap();
}
