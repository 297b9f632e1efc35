//! What is read here is what the SDK makes of the same answer.

use std::fmt;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::operation::RequestId as _;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnConsumedCapacity, ReturnValue};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::store::dynamodb::item::{binary, text};
use crate::store::dynamodb::testing::{self, ResultsTable};

/// Answers everything with the same.
#[derive(Clone, Debug)]
struct Always(u16, String);

impl HttpConnector for Always {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let status = self.0.try_into().expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(self.1.clone()))))
    }
}

fn client(answer: &Always, ours: bool) -> Client {
    let connector = SharedHttpConnector::new(answer.clone());
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(aws_sdk_dynamodb::config::retry::RetryConfig::disabled())
        .http_client(http_client_fn(move |_, _| connector.clone()));
    Client::from_conf(if ours { config.interceptor(ReadItems) } else { config }.build())
}

/// Whether an answer was read here, and that it comes to the same as with the SDK alone.
async fn compare(operation: &str, status: u16, body: &str) -> bool {
    let answer = Always(status, body.to_owned());
    let (ours, sdk) = (client(&answer, true), client(&answer, false));
    macro_rules! same {
        ($request:expr) => {{
            let request = |client: Client| $request(client);
            let (ours, sdk) = (request(ours).send().await, request(sdk).send().await);
            match (&ours, &sdk) {
                (Ok(ours), Ok(sdk)) => assert_eq!(ours, sdk, "{body}"),
                (Err(ours), Err(sdk)) => assert_eq!(said(ours), said(sdk), "{body}"),
                _ => panic!("{body}: {ours:?} against {sdk:?}"),
            }
        }};
    }
    match operation {
        "GetItem" => same!(|client: Client| client.get_item().table_name("t")),
        "PutItem" => same!(|client: Client| client.put_item().table_name("t")),
        "UpdateItem" => same!(|client: Client| client.update_item().table_name("t")),
        "BatchGetItem" => same!(|client: Client| client.batch_get_item()),
        "Scan" => same!(|client: Client| client.scan().table_name("t")),
        _ => panic!("{operation}"),
    }
    status == 200 && reader_of(operation).and_then(|reader| (reader.read)(body.as_bytes())).is_some()
}

fn said(error: &impl fmt::Debug) -> String {
    format!("{error:?}")
}

fn values() -> impl Strategy<Value = Value> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| base64(&bytes));
    let number = || any::<i64>().prop_map(|number| number.to_string());
    let leaf = prop_oneof![
        any::<String>().prop_map(|text| json!({ "S": text })),
        number().prop_map(|number| json!({ "N": number })),
        bytes().prop_map(|bytes| json!({ "B": bytes })),
        prop::collection::vec(any::<String>(), 0..3).prop_map(|all| json!({ "SS": all })),
        prop::collection::vec(number(), 0..3).prop_map(|all| json!({ "NS": all })),
        prop::collection::vec(bytes(), 0..3).prop_map(|all| json!({ "BS": all })),
        any::<bool>().prop_map(|value| json!({ "BOOL": value })),
        any::<bool>().prop_map(|value| json!({ "NULL": value })),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|all| json!({ "L": all })),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|all| json!({ "M": all })),
        ]
    })
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn items() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(any::<String>(), values(), 0..6).prop_map(|all| json!(all))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn items_are_what_the_sdk_makes_of_them(item in items(), other in items(), units in 0.0..1000.0_f64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let consumed = json!({ "TableName": "t", "CapacityUnits": units });
        let page = json!({ "Items": [item, other], "Count": 2, "ScannedCount": 3, "LastEvaluatedKey": other,
            "ConsumedCapacity": consumed });
        let batch = json!({ "Responses": { "t": [item, other], "u": [] }, "UnprocessedKeys": {},
            "ConsumedCapacity": [consumed] });
        for (operation, body) in [
            ("GetItem", json!({ "Item": item, "ConsumedCapacity": consumed })),
            ("PutItem", json!({ "Attributes": item, "ConsumedCapacity": consumed })),
            ("UpdateItem", json!({ "Attributes": item })),
            ("BatchGetItem", batch),
            ("Scan", page),
        ] {
            for text in [body.to_string(), format!(" {body:#}\n")] {
                prop_assert!(runtime.block_on(compare(operation, 200, &text)), "left to the SDK: {operation} {text}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_may_lack_everything() {
    for operation in ["GetItem", "PutItem", "UpdateItem", "BatchGetItem", "Scan"] {
        assert!(compare(operation, 200, "{}").await, "{operation}");
    }
    let escaped = r#"{"Item":{"\u0061\n":{"\u0053":"\ud83d\ude00\/"},"b":{"B":"/w=="}}}"#;
    assert!(compare("GetItem", 200, escaped).await);
}

#[tokio::test]
async fn anything_else_is_left_to_the_sdk() {
    let deep = format!("{{\"Item\":{{\"a\":{}{{\"S\":\"x\"}}{}}}}}", "{\"L\":[".repeat(80), "]}".repeat(80));
    for body in [
        "",
        "[]",
        "{",
        "{}{}",
        r#"{"Item":{"a":{}}}"#,
        r#"{"Item":{"a":{"S":"x","N":"1"}}}"#,
        r#"{"Item":{"a":{"S":null}}}"#,
        r#"{"Item":{"a":{"X":"x"}}}"#,
        r#"{"Item":{"a":{"__type":"x","S":"x"}}}"#,
        r#"{"Item":{"a":{"S":1}}}"#,
        r#"{"Item":{"a":{"B":"not base64"}}}"#,
        r#"{"Item":{"a":{"S":"\ud800"}}}"#,
        r#"{"Item":{"a":null}}"#,
        r#"{"Item":{"a":{"S":"x"}},"New":1}"#,
        r#"{"Item":{"a":{"S":"x"}},"ConsumedCapacity":{"CapacityUnits":1,"Table":{"CapacityUnits":1}}}"#,
        &deep,
    ] {
        assert!(!compare("GetItem", 200, body).await, "{body}");
    }
    let unprocessed = r#"{"Responses":{},"UnprocessedKeys":{"t":{"Keys":[{"url":{"S":"a"}}]}}}"#;
    assert!(!compare("BatchGetItem", 200, unprocessed).await);
    let unmet = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","Item":{"a":{"S":"x"}}}"#;
    assert!(!compare("UpdateItem", 400, unmet).await);
    assert!(!compare("GetItem", 500, "{}").await);
}

/// Only the SDK sets the request id of an output, so that one without was read here. Were an answer of the service not
/// as expected, or did the SDK look elsewhere for who reads it, nothing else would tell.
#[tokio::test]
async fn answers_of_the_service_are_read_here() {
    let Some(settings) = testing::settings() else { return };
    let aws = testing::connect(&settings).await;
    let _table = ResultsTable::make(&aws, &settings).await;
    let (client, table, total) = (aws.dynamodb(), settings.results_table(), ReturnConsumedCapacity::Total);
    let item = |url: &str| {
        let nested = Item::from([("list".to_owned(), AttributeValue::L(vec![text("x")]))]);
        let item = [
            ("url", text(url)),
            ("number", AttributeValue::N("1.5".to_owned())),
            ("frame", binary(vec![0, 159, 255])),
            ("texts", AttributeValue::Ss(vec!["x".to_owned()])),
            ("numbers", AttributeValue::Ns(vec!["2".to_owned()])),
            ("frames", AttributeValue::Bs(vec![Blob::new([7])])),
            ("map", AttributeValue::M(nested)),
            ("nothing", AttributeValue::Null(true)),
            ("flag", AttributeValue::Bool(false)),
        ];
        item.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<Item>()
    };
    let (a, b) = (item("https://a/"), item("https://b/"));
    // The outcome, which was read here and says what it has consumed.
    macro_rules! read_here {
        ($request:expr) => {{
            let output = $request.return_consumed_capacity(total.clone()).send().await.expect("an answer");
            assert_eq!(output.request_id(), None, "left to the SDK: {output:?}");
            assert!(output.consumed_capacity.is_some(), "{output:?}");
            output
        }};
    }
    for (item, before) in [(&a, None), (&b, None), (&a, Some(&a))] {
        let put = client.put_item().table_name(&table).set_item(Some(item.clone()));
        assert_eq!(read_here!(put.return_values(ReturnValue::AllOld)).attributes.as_ref(), before);
    }
    let key = Item::from([("url".to_owned(), text("https://a/"))]);
    let update = client.update_item().table_name(&table).set_key(Some(key.clone()));
    let update = update.update_expression("SET #f = #f").expression_attribute_names("#f", "flag");
    let update = update.return_values(ReturnValue::AllNew);
    assert_eq!(read_here!(update).attributes.as_ref(), Some(&a));
    let get = client.get_item().table_name(&table).set_key(Some(key.clone())).consistent_read(true);
    assert_eq!(read_here!(get).item.as_ref(), Some(&a));
    let keys = KeysAndAttributes::builder().keys(key).build().expect("keys");
    let batch = read_here!(client.batch_get_item().request_items(&table, keys));
    assert_eq!(batch.responses, Some(HashMap::from([(table.clone(), vec![a.clone()])])));
    let page = read_here!(client.scan().table_name(&table).limit(1));
    assert!(page.count == 1 && page.last_evaluated_key.is_some(), "{page:?}");
    assert!([a, b].contains(&page.items()[0]), "{page:?}");

    let query = client.query().table_name(&table).key_condition_expression("#u = :u");
    let query = query.expression_attribute_names("#u", "url").expression_attribute_values(":u", text("x"));
    let query = query.send().await.expect("an answer");
    assert!(
        query.request_id().is_some(),
        "the service names its requests, and the SDK keeps that: {query:?}"
    );
}
