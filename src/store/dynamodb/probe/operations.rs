//! Every operation on the tables that the stores need, each once, on keys that nothing else has.

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::KeysAndAttributes;

use super::{ProbeResult, probe_name};
use crate::config;
use crate::domain::Timestamp;
use crate::store::dynamodb::Aws;
use crate::store::dynamodb::failure::{Failure, Kind};
use crate::store::dynamodb::item::{Item, number, text};
use crate::store::dynamodb::tables::{Found, TableSpec, describe_table, is_unsupported};

/// What a probe leaves when it may write but not delete is gone after this time.
const LEFTOVER_SECONDS: u64 = 3600;

/// Tries the operations on both tables. Without `writes` nothing is written, and those operations are left out.
pub async fn probe_tables(
    aws: &Aws,
    config: &config::Dynamodb,
    now: Timestamp,
    writes: bool,
) -> Vec<ProbeResult> {
    let mut results = Vec::new();
    for spec in TableSpec::all(config) {
        let name = spec.name.clone();
        let said = describe_table(aws, &name).await;
        let (found, is_denied) = match &said {
            Ok(Some(said)) => (Found::of(&spec, said).ok(), false),
            Ok(None) => (None, false),
            Err(failure) => (None, failure.kind == Kind::AccessDenied),
        };
        results.push(ProbeResult::new("dynamodb:DescribeTable", &name, said));
        let spec = match &found {
            Some(found) => spec.with_keys(&found.keys),
            None => spec,
        };
        // What may not be described is tried as it should be; what is missing or has other keys is not tried.
        if !is_denied && found.as_ref().is_none_or(|found| found.keys != spec.keys) {
            continue;
        }
        let ttl = aws.dynamodb().describe_time_to_live().table_name(&name).send();
        let told = aws.call(ttl).await;
        // What an endpoint does not have needs no permission; the tables' findings tell of it.
        if !told.as_ref().is_err_and(is_unsupported) {
            results.push(ProbeResult::new("dynamodb:DescribeTimeToLive", &name, told));
        }
        let probe = Probe { aws, spec: &spec, key: probe_name(), gone: now.plus_secs(LEFTOVER_SECONDS) };
        probe.read(&mut results).await;
        let has = |name: &str| {
            found.as_ref().is_none_or(|found| found.indexes.iter().any(|index| index.name == name))
        };
        for index in spec.indexes.iter().filter(|index| has(index.name)) {
            probe.query(index.name, &index.made_keys().partition.name, &mut results).await;
        }
        if writes {
            probe.write(&mut results).await;
        }
    }
    results
}

struct Probe<'p> {
    aws: &'p Aws,
    spec: &'p TableSpec,
    key: String,
    gone: Timestamp,
}

impl Probe<'_> {
    fn key(&self) -> Item {
        Item::from([(self.spec.keys.partition.name.clone(), text(&self.key))])
    }

    fn item(&self) -> Item {
        let mut item = self.key();
        item.insert(self.spec.ttl.to_owned(), number(self.gone.as_secs()));
        item
    }

    async fn read(&self, results: &mut Vec<ProbeResult>) {
        let (client, name) = (self.aws.dynamodb(), &self.spec.name);
        let get = self.aws.call(client.get_item().table_name(name).set_key(Some(self.key())).send()).await;
        results.push(ProbeResult::new("dynamodb:GetItem", name, get));
        let batch = match KeysAndAttributes::builder().keys(self.key()).build() {
            Ok(keys) => self.aws.call(client.batch_get_item().request_items(name, keys).send()).await,
            Err(error) => Err(unbuilt(&error)),
        };
        results.push(ProbeResult::new("dynamodb:BatchGetItem", name, batch));
    }

    async fn query(&self, index: &str, partition: &str, results: &mut Vec<ProbeResult>) {
        let request = self
            .aws
            .dynamodb()
            .query()
            .table_name(&self.spec.name)
            .index_name(index)
            .key_condition_expression("#partition = :value")
            .expression_attribute_names("#partition", partition)
            .expression_attribute_values(":value", text(&self.key))
            .limit(1);
        let target = format!("{}/index/{index}", self.spec.name);
        results.push(ProbeResult::new("dynamodb:Query", &target, self.aws.call(request.send()).await));
    }

    async fn write(&self, results: &mut Vec<ProbeResult>) {
        let (client, name) = (self.aws.dynamodb(), &self.spec.name);
        let put = self.aws.call(client.put_item().table_name(name).set_item(Some(self.item())).send()).await;
        results.push(ProbeResult::new("dynamodb:PutItem", name, put));
        let update = client
            .update_item()
            .table_name(name)
            .set_key(Some(self.key()))
            .update_expression("set #ttl = :gone")
            .expression_attribute_names("#ttl", self.spec.ttl)
            .expression_attribute_values(":gone", number(self.gone.as_secs()));
        results.push(ProbeResult::new("dynamodb:UpdateItem", name, self.aws.call(update.send()).await));
        let delete = client.delete_item().table_name(name).set_key(Some(self.key())).send();
        let deleted = self.aws.call(delete).await;
        results.push(ProbeResult::new("dynamodb:DeleteItem", name, deleted));
    }
}

fn unbuilt(error: &BuildError) -> Failure {
    Failure::new(Kind::Other, format!("the request cannot be built: {error}"))
}
