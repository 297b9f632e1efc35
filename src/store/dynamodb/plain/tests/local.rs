//! The plain layout on DynamoDB Local: what it holds is what the database gives back.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};

use super::super::super::testing;
use super::*;

/// DynamoDB's limit for an item.
const HARD_LIMIT: usize = 409_600;

async fn make_table(client: &Client, table: &str) {
    client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(
            KeySchemaElement::builder()
                .attribute_name("url")
                .key_type(KeyType::Hash)
                .build()
                .expect("complete"),
        )
        .attribute_definitions(
            AttributeDefinition::builder()
                .attribute_name("url")
                .attribute_type(ScalarAttributeType::S)
                .build()
                .expect("complete"),
        )
        .send()
        .await
        .expect("the table is made");
}

fn with(member: &str) -> String {
    format!(r#"{{"url":"{URL}",{member}}}"#)
}

/// Documents at the limits of what is held.
fn at_the_limits() -> Vec<String> {
    let deep = |open: &str, close: &str| {
        let levels = MAX_DEPTH - 1;
        format!(r#""a":{}"x"{}"#, open.repeat(levels), close.repeat(levels))
    };
    let fill = |unit: &str, count: usize| format!(r#""list":[{}]"#, vec![unit; count].join(","));
    vec![
        with(&deep("[", "]")),
        with(&deep(r#"{"a":"#, "}")),
        with(&format!(r#""a":{},"b":-{},"c":0.{}"#, "9".repeat(38), "9".repeat(38), "7".repeat(37))),
        with(
            r#""a":0.00000123,"b":100000000000000000000000000000,"c":-0.5,"d":12345678901234567890.25,"e":0"#,
        ),
        with(&format!(r#""{}":1,"b":{{"{}":1}}"#, "n".repeat(65_535), "m".repeat(65_535))),
        with(r#""a":"","b":[],"c":{},"d":null,"e":[null,"",{"f":[]}],"f":"\u0000\ud83d\ude00\uffff""#),
        with(&fill("1", (HARD_LIMIT - 3000) / 5)),
        with(&fill("-12345678901.5", (HARD_LIMIT - 3000) / 12)),
        with(&fill(r#"{"a":[]}"#, (HARD_LIMIT - 3000) / 10)),
        with(&format!(r#""html":"{}""#, "é".repeat((HARD_LIMIT - 3000) / 2))),
    ]
}

#[tokio::test]
async fn the_database_gives_back_what_is_held() {
    let Some(settings) = testing::settings() else { return };
    let aws = testing::connect(&settings).await;
    let (client, table) = (aws.dynamodb(), format!("{}plain", settings.table_prefix));
    make_table(client, &table).await;
    let mut documents = at_the_limits();
    let certain = documents.len();
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..40 {
        documents.push(properties::document(true).new_tree(&mut runner).expect("a document").current());
        documents.push(properties::document(false).new_tree(&mut runner).expect("a document").current());
    }
    let mut held = 0;
    for (index, raw) in documents.iter().enumerate() {
        let entry = stored(&key(), raw);
        let item = match write(&entry.meta, &entry.frame, HARD_LIMIT) {
            Ok(item) => complete(item, &entry.meta),
            Err(refused) if index < certain => panic!("{refused:?}: {}", &raw[..80]),
            Err(_) => continue,
        };
        held += 1;
        let shown = &raw[..raw.floor_char_boundary(200)];
        let put = client.put_item().table_name(&table).set_item(Some(item)).send().await;
        put.unwrap_or_else(|error| panic!("{error:?}: {shown}"));
        let got =
            client.get_item().table_name(&table).key("url", text(URL)).consistent_read(true).send().await;
        let item = got.expect("is read").item.expect("is there");
        let back = read(&item, &key()).expect("is read");
        assert_eq!(without_times(&json(&back)), without_times(raw), "{shown}");
        assert_eq!(properties::numbers(&json(&back)), properties::numbers(raw), "{shown}");
        assert_eq!(back.meta.etag, entry.meta.etag, "{shown}");
    }
    assert!(held >= certain + 20, "only {held} of {} were held", documents.len());
    client.delete_table().table_name(&table).send().await.expect("the table is removed");
}
