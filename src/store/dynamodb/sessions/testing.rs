//! Tables of sessions for tests, in each of the shapes that exist, and items in them as other programs see them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    Projection, ProjectionType, ScalarAttributeType,
};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use super::super::Aws;
use super::super::item::{Item, text};
use super::super::testing::{connect, settings};
use super::DynamodbSessions;
use crate::clock::Clock;
use crate::config::{Config, EncryptionKey};
use crate::domain::Timestamp;
use crate::metrics::Metrics;

/// The shape of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As `crawlcache tables create` makes it.
    Own,
    /// As Crawl4AI's tool server makes it: without indexes.
    Crawl4ai,
    /// Wallcrawler's older generation: times are numbers.
    WallcrawlerNumber,
    /// Wallcrawler's younger generation: times are texts.
    WallcrawlerText,
    /// Some other table, with a sort key.
    Other,
}

impl Shape {
    const fn key(self) -> &'static str {
        match self {
            Self::Own | Self::Crawl4ai => "session_id",
            Self::WallcrawlerNumber | Self::WallcrawlerText => "sessionId",
            Self::Other => "pk",
        }
    }
}

/// A table of its own, and a store on it.
#[derive(Debug)]
pub(crate) struct SessionsTable {
    pub(crate) store: DynamodbSessions,
    pub(crate) aws: Aws,
    pub(crate) config: Config,
    pub(crate) name: String,
    pub(crate) shape: Shape,
}

impl SessionsTable {
    /// Makes one; `None` where `DynamoDB` Local is not running. It expires nothing: tests live in 1970.
    pub(crate) async fn make(shape: Shape) -> Option<Self> {
        let config = Config { dynamodb: settings()?, ..Config::default() };
        let aws = connect(&config.dynamodb).await;
        let name = config.dynamodb.sessions_table();
        let (definitions, indexes) = definitions(shape);
        let mut keys = vec![element(shape.key(), KeyType::Hash)];
        if shape == Shape::Other {
            keys.push(element("sk", KeyType::Range));
        }
        aws.dynamodb()
            .create_table()
            .table_name(&name)
            .billing_mode(BillingMode::PayPerRequest)
            .set_key_schema(Some(keys))
            .set_attribute_definitions(Some(definitions))
            .set_global_secondary_indexes((!indexes.is_empty()).then_some(indexes))
            .send()
            .await
            .expect("a new table");
        let store = Self::open(&aws, &config);
        Some(Self { store, aws, config, name, shape })
    }

    fn open(aws: &Aws, config: &Config) -> DynamodbSessions {
        let clock = Clock::manual(Timestamp::from_secs(1000));
        DynamodbSessions::new(aws.clone(), config, &clock, &Metrics::new())
    }

    /// Another store on it, with another configuration.
    pub(crate) fn reopened(&self, change: impl FnOnce(&mut Config)) -> DynamodbSessions {
        let mut config = self.config.clone();
        change(&mut config);
        Self::open(&self.aws, &config)
    }

    /// Another store on it that seals with a key of these two digits.
    pub(crate) fn with_key(&self, digits: &str) -> DynamodbSessions {
        self.reopened(|config| {
            config.sessions.encryption_key = EncryptionKey::from_hex(&digits.repeat(32)).expect("64 digits");
        })
    }

    /// Another store on it, and the names of the operations that it sends.
    pub(crate) fn recorded(&self) -> (DynamodbSessions, Arc<Mutex<BTreeSet<String>>>) {
        let sent = Arc::default();
        let recorder = Recorder(Arc::clone(&sent));
        let client = self.aws.dynamodb().config().to_builder().interceptor(recorder).build();
        let client = aws_sdk_dynamodb::Client::from_conf(client);
        let aws = Aws::with_client(client, &self.config.dynamodb, &Metrics::new());
        (Self::open(&aws, &self.config), sent)
    }

    /// Writes an item as other programs do: whole.
    pub(crate) async fn write(&self, item: Item) {
        let put = self.aws.dynamodb().put_item().table_name(&self.name).set_item(Some(item));
        put.send().await.expect("written");
    }

    /// Sets one attribute as other programs do: without a condition, so that an item appears if there is none.
    pub(crate) async fn set(&self, id: &str, name: &str, value: AttributeValue) {
        let request =
            self.aws.dynamodb().update_item().table_name(&self.name).key(self.shape.key(), text(id));
        let request = request.update_expression("SET #n = :v").expression_attribute_names("#n", name);
        request.expression_attribute_values(":v", value).send().await.expect("set");
    }

    /// Deletes an item, as the service does when it has expired.
    pub(crate) async fn delete(&self, id: &str) {
        let request =
            self.aws.dynamodb().delete_item().table_name(&self.name).key(self.shape.key(), text(id));
        request.send().await.expect("deleted");
    }

    /// The item of an id, as other programs see it.
    pub(crate) async fn item(&self, id: &str) -> Option<Item> {
        let request = self.aws.dynamodb().get_item().table_name(&self.name).consistent_read(true);
        request.key(self.shape.key(), text(id)).send().await.expect("read").item
    }
}

/// Remembers which operations are sent.
#[derive(Debug)]
struct Recorder(Arc<Mutex<BTreeSet<String>>>);

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Recorder {
    fn name(&self) -> &'static str {
        "Recorder"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let metadata = bag.load::<Metadata>().expect("every operation has a name");
        self.0.lock().expect("no test panics in here").insert(metadata.name().to_owned());
        Ok(())
    }
}

/// An item of these attributes.
pub(crate) fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    HashMap::from(attributes.map(|(name, value)| (name.to_owned(), value)))
}

fn element(name: &str, kind: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("complete")
}

fn definitions(shape: Shape) -> (Vec<AttributeDefinition>, Vec<GlobalSecondaryIndex>) {
    use ScalarAttributeType::{N, S};
    let (mut definitions, mut indexes) = (Vec::new(), Vec::new());
    let mut define = |name: &str, kind: ScalarAttributeType| {
        let one = AttributeDefinition::builder().attribute_name(name).attribute_type(kind);
        definitions.push(one.build().expect("complete"));
    };
    let mut index = |name: &str, hash: &str, range: &str, projection: ProjectionType| {
        let keys = vec![element(hash, KeyType::Hash), element(range, KeyType::Range)];
        let projection = Projection::builder().projection_type(projection).build();
        let one = GlobalSecondaryIndex::builder()
            .index_name(name)
            .set_key_schema(Some(keys))
            .projection(projection);
        indexes.push(one.build().expect("complete"));
    };
    define(shape.key(), S);
    match shape {
        Shape::Own => {
            for name in ["project_key", "project_order", "status_shard", "status_order"] {
                define(name, S);
            }
            index("project-index", "project_key", "project_order", ProjectionType::KeysOnly);
            index("status-index", "status_shard", "status_order", ProjectionType::KeysOnly);
        }
        Shape::Crawl4ai => {}
        Shape::WallcrawlerNumber | Shape::WallcrawlerText => {
            define("projectId", S);
            define("createdAt", if shape == Shape::WallcrawlerNumber { N } else { S });
            define("status", S);
            define("expiresAt", N);
            index("projectId-createdAt-index", "projectId", "createdAt", ProjectionType::All);
            index("status-expiresAt-index", "status", "expiresAt", ProjectionType::KeysOnly);
        }
        Shape::Other => define("sk", S),
    }
    (definitions, indexes)
}
