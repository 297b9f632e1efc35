//! What documents cost on DynamoDB with an attribute a field: capacity units for a put and a get of each.
//!
//! Two tables: one with nothing but its key, and one with an index of all attributes on `created_at`.

#[path = "measure/corpus.rs"]
mod corpus;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    Projection, ProjectionType, ReturnConsumedCapacity, ScalarAttributeType,
};
use clap::Parser;
use serde_json::{Value, json};

use corpus::read_corpus;

#[derive(Parser)]
struct Arguments {
    /// Where DynamoDB is.
    #[arg(long)]
    endpoint: String,
    /// The folder of documents, each a JSON object with a field `url`.
    #[arg(long)]
    corpus: PathBuf,
}

/// Units consumed, and how many documents no item could hold.
#[derive(Default)]
struct Costs {
    put: f64,
    get: f64,
    too_large: usize,
}

#[expect(clippy::print_stdout, reason = "the report is what it is run for")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let shared = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("dummy", "dummy", None, None, "bench"))
        .endpoint_url(&arguments.endpoint)
        .load()
        .await;
    let client = Client::new(&shared);
    let documents = read_corpus(&arguments.corpus).context("the corpus cannot be read")?;
    let mut report = json!({ "documents": documents.len() });
    for (name, indexed) in [("plain", false), ("plain_indexed", true)] {
        create(&client, name, indexed).await?;
        let mut costs = Costs::default();
        for document in &documents {
            let document: Value = serde_json::from_slice(document)?;
            put_and_get(&client, name, &document, &mut costs).await?;
        }
        report[name] = json!({ "put": costs.put, "get": costs.get, "too_large": costs.too_large });
    }
    println!("{report}");
    Ok(())
}

async fn create(client: &Client, table: &str, indexed: bool) -> Result<()> {
    let key = |name: &str| KeySchemaElement::builder().attribute_name(name).key_type(KeyType::Hash).build();
    let attribute = |name: &str| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build()
    };
    let mut request = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key("url")?)
        .attribute_definitions(attribute("url")?);
    if indexed {
        let all = Projection::builder().projection_type(ProjectionType::All).build();
        let index = GlobalSecondaryIndex::builder()
            .index_name("timestamp-index")
            .key_schema(key("created_at")?)
            .projection(all)
            .build()?;
        request = request.attribute_definitions(attribute("created_at")?).global_secondary_indexes(index);
    }
    request.send().await.context("the table cannot be created")?;
    Ok(())
}

async fn put_and_get(client: &Client, table: &str, document: &Value, costs: &mut Costs) -> Result<()> {
    let url = document["url"].as_str().context("a document without a url")?;
    let mut item: HashMap<String, AttributeValue> = document
        .as_object()
        .context("a document that is no object")?
        .iter()
        .map(|(name, value)| (name.clone(), attribute_of(value)))
        .collect();
    for (name, value) in [("created_at", "2026-01-15T10:30:00Z"), ("updated_at", "2026-01-15T10:30:00Z")] {
        item.insert(name.to_owned(), AttributeValue::S(value.to_owned()));
    }
    item.insert("ttl".to_owned(), AttributeValue::N("1771065000".to_owned()));
    let total = ReturnConsumedCapacity::Total;
    let put =
        client.put_item().table_name(table).set_item(Some(item)).return_consumed_capacity(total.clone());
    match put.send().await {
        Ok(done) => {
            costs.put += done
                .consumed_capacity()
                .and_then(aws_sdk_dynamodb::types::ConsumedCapacity::capacity_units)
                .unwrap_or_default();
        }
        Err(error) if format!("{error:?}").contains("Item size") => {
            costs.too_large += 1;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    let key = AttributeValue::S(url.to_owned());
    let found =
        client.get_item().table_name(table).key("url", key).return_consumed_capacity(total).send().await?;
    costs.get += found
        .consumed_capacity()
        .and_then(aws_sdk_dynamodb::types::ConsumedCapacity::capacity_units)
        .unwrap_or_default();
    Ok(())
}

fn attribute_of(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(flag) => AttributeValue::Bool(*flag),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Array(items) => AttributeValue::L(items.iter().map(attribute_of).collect()),
        Value::Object(members) => AttributeValue::M(
            members.iter().map(|(name, value)| (name.clone(), attribute_of(value))).collect(),
        ),
    }
}
