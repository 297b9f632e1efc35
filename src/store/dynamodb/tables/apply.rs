//! Carries out the steps of a plan, and deletes tables.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    self, AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexUpdate, IndexStatus, KeySchemaElement, PointInTimeRecoverySpecification,
    ProvisionedThroughput, ScalarAttributeType, SseSpecification, SseType, TableStatus, Tag,
    TimeToLiveSpecification,
};

use super::describe::{describe_table, is_unsupported};
use super::plan::{Action, CreateOptions, Encryption, Step};
use super::spec::{IndexSpec, KeyAttribute, KeyType, Keys, Projection, TableSpec};
use crate::store::dynamodb::Aws;
use crate::store::dynamodb::failure::{Failure, Kind};

/// From one look at a table that is changing to the next, at first and later.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was done.
    Done,
    /// Somebody else has done it.
    Already,
    /// The endpoint has nothing of the kind.
    Unsupported,
}

/// Carries out one step; `patience` bounds every wait.
pub(super) async fn apply(aws: &Aws, step: &Step, patience: Duration) -> Result<Applied, Failure> {
    let name = &step.table;
    let done = match &step.action {
        Action::Create(made) => create(aws, &made.0, &made.1).await,
        Action::Wait => return active(aws, name, patience).await.map(|()| Applied::Done),
        Action::Expire(attribute) => expire(aws, name, attribute).await,
        Action::Recover => return recover(aws, name, patience).await,
        Action::Index(made, units) => index(aws, &made.0, &made.1, *units).await,
        Action::Protect => {
            let request = aws.dynamodb().update_table().table_name(name).deletion_protection_enabled(true);
            aws.call(request.send()).await.map(drop)
        }
    };
    match done {
        Ok(()) => Ok(Applied::Done),
        Err(failure) if is_there_already(&step.action, &failure) => Ok(Applied::Already),
        // Items then stay until they are deleted; what is expired is not served.
        Err(failure) if matches!(step.action, Action::Expire(_)) && is_unsupported(&failure) => {
            Ok(Applied::Unsupported)
        }
        Err(failure) => Err(failure),
    }
}

/// Deletes a table and waits until it is gone; false when there is none.
pub(super) async fn delete(aws: &Aws, name: &str, patience: Duration) -> Result<bool, Failure> {
    match aws.call(aws.dynamodb().delete_table().table_name(name).send()).await {
        Ok(_) => {}
        Err(failure) if failure.kind == Kind::MissingTable => return Ok(false),
        Err(failure) => return Err(failure),
    }
    poll(patience, || async { Ok(describe_table(aws, name).await?.is_none().then_some(())) })
        .await?
        .ok_or_else(|| unfinished(name, "being deleted", patience))?;
    Ok(true)
}

fn is_there_already(action: &Action, failure: &Failure) -> bool {
    match action {
        Action::Create(..) => failure.kind == Kind::InUse,
        Action::Expire(_) => failure.detail.contains("TimeToLive is already enabled"),
        Action::Index(..) => failure.detail.contains("already exists"),
        Action::Wait | Action::Recover | Action::Protect => false,
    }
}

async fn create(aws: &Aws, spec: &TableSpec, options: &CreateOptions) -> Result<(), Failure> {
    let mut request = aws
        .dynamodb()
        .create_table()
        .table_name(&spec.name)
        .set_key_schema(Some(key_schema(&spec.keys)?))
        .set_attribute_definitions(Some(definitions(spec.key_attributes())?))
        .billing_mode(BillingMode::PayPerRequest);
    for index in &spec.indexes {
        let index = GlobalSecondaryIndex::builder()
            .index_name(index.name)
            .set_key_schema(Some(key_schema(index.made_keys())?))
            .projection(projection(index))
            .build();
        request = request.global_secondary_indexes(index.map_err(|error| unbuilt(&error))?);
    }
    for (key, value) in &options.tags {
        let tag = Tag::builder().key(key).value(value).build().map_err(|error| unbuilt(&error))?;
        request = request.tags(tag);
    }
    let sse = SseSpecification::builder().enabled(true).sse_type(SseType::Kms);
    request = match &options.encryption {
        Encryption::Owned => request,
        Encryption::Aws => request.sse_specification(sse.build()),
        Encryption::Key(key) => request.sse_specification(sse.kms_master_key_id(key).build()),
    };
    if options.deletion_protection {
        request = request.deletion_protection_enabled(true);
    }
    aws.call(request.send()).await.map(drop)
}

async fn expire(aws: &Aws, name: &str, attribute: &str) -> Result<(), Failure> {
    let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name(attribute).build();
    let ttl = ttl.map_err(|error| unbuilt(&error))?;
    let request = aws.dynamodb().update_time_to_live().table_name(name).time_to_live_specification(ttl);
    aws.call(request.send()).await.map(drop)
}

/// A new table refuses as long as its backups are being set up.
async fn recover(aws: &Aws, name: &str, patience: Duration) -> Result<Applied, Failure> {
    let on = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build();
    let on = on.map_err(|error| unbuilt(&error))?;
    let attempt = || async {
        let request = aws.dynamodb().update_continuous_backups().table_name(name);
        match aws.call(request.point_in_time_recovery_specification(on.clone()).send()).await {
            Ok(_) => Ok(Some(Applied::Done)),
            Err(failure) if is_unsupported(&failure) => Ok(Some(Applied::Unsupported)),
            Err(failure) if failure.detail.starts_with("ContinuousBackupsUnavailableException") => Ok(None),
            Err(failure) => Err(failure),
        }
    };
    poll(patience, attempt).await?.ok_or_else(|| unfinished(name, "setting up its backups", patience))
}

async fn index(
    aws: &Aws,
    spec: &TableSpec,
    index: &IndexSpec,
    units: Option<(i64, i64)>,
) -> Result<(), Failure> {
    let throughput = units.map(|(read, write)| {
        let throughput = ProvisionedThroughput::builder();
        throughput.read_capacity_units(read).write_capacity_units(write).build()
    });
    let action = CreateGlobalSecondaryIndexAction::builder()
        .index_name(index.name)
        .set_key_schema(Some(key_schema(index.made_keys())?))
        .projection(projection(index))
        .set_provisioned_throughput(throughput.transpose().map_err(|error| unbuilt(&error))?)
        .build()
        .map_err(|error| unbuilt(&error))?;
    // The key of the table must be among them.
    let attributes = spec.keys.attributes().chain(index.made_keys().attributes()).collect();
    let request = aws
        .dynamodb()
        .update_table()
        .table_name(&spec.name)
        .set_attribute_definitions(Some(definitions(attributes)?))
        .global_secondary_index_updates(GlobalSecondaryIndexUpdate::builder().create(action).build());
    aws.call(request.send()).await.map(drop)
}

/// Waits until a table and its indexes are active.
async fn active(aws: &Aws, name: &str, patience: Duration) -> Result<(), Failure> {
    let is_active = |said: &types::TableDescription| {
        said.table_status() == Some(&TableStatus::Active)
            && said
                .global_secondary_indexes()
                .iter()
                .all(|index| index.index_status() == Some(&IndexStatus::Active))
    };
    // A table that has just been made may not be known everywhere yet.
    let look =
        || async { Ok(describe_table(aws, name).await?.as_ref().is_some_and(is_active).then_some(())) };
    poll(patience, look).await?.ok_or_else(|| unfinished(name, "not active yet", patience))
}

/// Asks until there is an answer; `None` when patience is at its end.
async fn poll<T, F: Future<Output = Result<Option<T>, Failure>>>(
    patience: Duration,
    ask: impl Fn() -> F,
) -> Result<Option<T>, Failure> {
    let begun = Instant::now();
    let mut pause = LOOKS.0;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(Some(answer));
        }
        if begun.elapsed() + pause > patience {
            return Ok(None);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

fn unfinished(name: &str, what: &str, patience: Duration) -> Failure {
    let detail = format!("{name} is still {what} after {} s; what was begun goes on", patience.as_secs());
    Failure::new(Kind::Timeout, detail)
}

fn projection(index: &IndexSpec) -> types::Projection {
    let kind = match index.projection {
        Projection::All => types::ProjectionType::All,
        _ => types::ProjectionType::KeysOnly,
    };
    types::Projection::builder().projection_type(kind).build()
}

fn key_schema(keys: &Keys) -> Result<Vec<KeySchemaElement>, Failure> {
    let kinds = [types::KeyType::Hash, types::KeyType::Range];
    let element = |(attribute, kind): (&KeyAttribute, types::KeyType)| {
        KeySchemaElement::builder().attribute_name(&attribute.name).key_type(kind).build()
    };
    keys.attributes().zip(kinds).map(element).collect::<Result<_, _>>().map_err(|error| unbuilt(&error))
}

fn definitions(attributes: Vec<&KeyAttribute>) -> Result<Vec<AttributeDefinition>, Failure> {
    let definition = |attribute: &KeyAttribute| {
        let kind = match attribute.kind {
            KeyType::S => ScalarAttributeType::S,
            KeyType::N => ScalarAttributeType::N,
            KeyType::B => ScalarAttributeType::B,
        };
        AttributeDefinition::builder().attribute_name(&attribute.name).attribute_type(kind).build()
    };
    attributes.into_iter().map(definition).collect::<Result<_, _>>().map_err(|error| unbuilt(&error))
}

fn unbuilt(error: &BuildError) -> Failure {
    Failure::new(Kind::Other, format!("the request cannot be built: {error}"))
}
