//! What the tables are: everything that the service tells about them, as far as it tells.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{
    self, BillingMode, ContinuousBackupsDescription, KeySchemaElement, PointInTimeRecoveryStatus,
    ProvisionedThroughputDescription as Units, ScalarAttributeType, SseType, TimeToLiveStatus,
};
use serde::{Serialize, Serializer};

use super::spec::{KeyAttribute, KeyType, Keys, Projection, TableSpec};
use crate::store::dynamodb::Aws;
use crate::store::dynamodb::capacity::Table;
use crate::store::dynamodb::failure::{Failure, Kind};

/// Something that not every endpoint tells, and not everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// What it is.
    Known(T),
    /// Why it is not known.
    Unknown(String),
    /// The endpoint has nothing of the kind.
    Unsupported,
}

/// What is told of something that an endpoint does not have.
pub(super) const UNSUPPORTED: &str = "not supported by this endpoint";

impl<T> Told<T> {
    /// What it is, if that is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) | Self::Unsupported => None,
        }
    }
}

impl<T: Serialize> Serialize for Told<T> {
    /// The value, or `{"unknown": "the reason"}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(value) => value.serialize(serializer),
            Self::Unknown(reason) => BTreeMap::from([("unknown", reason.as_str())]).serialize(serializer),
            Self::Unsupported => BTreeMap::from([("unknown", UNSUPPORTED)]).serialize(serializer),
        }
    }
}

/// A table, or that there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableDescription {
    /// Which of the two.
    pub table: Table,
    /// Its full name.
    pub name: String,
    /// What it is; `None` where there is no such table.
    pub found: Option<Found>,
}

/// A table that is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// `ACTIVE`, `CREATING`, `UPDATING`, `DELETING` and so on.
    pub status: String,
    /// Its name for all of AWS.
    pub arn: Option<String>,
    /// Its keys.
    pub keys: Keys,
    /// Whether its keys are those of a table of Wallcrawler, which is used as it is.
    pub is_adopted: bool,
    /// How it is paid for.
    pub billing: Billing,
    /// How many items it holds; the service counts anew every few hours.
    pub items: u64,
    /// Their size in bytes; the service counts anew every few hours.
    pub size_bytes: u64,
    /// Its indexes.
    pub indexes: Vec<IndexDescription>,
    /// Whether and by which attribute items expire.
    pub time_to_live: Told<TimeToLive>,
    /// Whether it can be restored to any second of the last weeks.
    pub point_in_time_recovery: Told<bool>,
    /// Whose key encrypts it: `owned` by the service, `aws` managed in the account, or the name of a key.
    pub encryption: String,
    /// Whether it refuses to be deleted.
    pub deletion_protection: bool,
    /// Its tags.
    pub tags: Told<BTreeMap<String, String>>,
}

/// How a table is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum Billing {
    /// By request.
    OnDemand,
    /// By capacity that is set aside, in units a second.
    Provisioned {
        /// For reads.
        read_units: i64,
        /// For writes.
        write_units: i64,
    },
}

/// An index that is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IndexDescription {
    /// Its name.
    pub name: String,
    /// `ACTIVE`, `CREATING` and so on.
    pub status: String,
    /// Its keys.
    pub keys: Keys,
    /// Which attributes it copies.
    pub projection: Projection,
    /// How many items it holds.
    pub items: u64,
    /// Their size in bytes.
    pub size_bytes: u64,
}

impl IndexDescription {
    /// The part of its key that is of another type than the attribute of that name which crawlcache writes: DynamoDB
    /// then refuses the item.
    pub(super) fn refuses(&self) -> Option<&KeyAttribute> {
        let written = |name: &str| match name {
            "created_at" | "updated_at" | "expires_at" | "etag" => Some(KeyType::S),
            "ttl" | "version" | "status_code" => Some(KeyType::N),
            _ => None,
        };
        let parts = [Some(&self.keys.partition), self.keys.sort.as_ref()];
        parts.into_iter().flatten().find(|part| written(&part.name).is_some_and(|kind| kind != part.kind))
    }
}

/// Whether items expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimeToLive {
    /// Whether it is on, or being switched on.
    pub enabled: bool,
    /// The attribute with the Unix seconds.
    pub attribute: Option<String>,
}

/// What `DescribeTable` says of a table; `None` where there is none.
pub(in crate::store::dynamodb) async fn describe_table(
    aws: &Aws,
    name: &str,
) -> Result<Option<types::TableDescription>, Failure> {
    let request = aws.dynamodb().describe_table().table_name(name).send();
    match aws.call(request).await {
        Ok(answer) => Ok(answer.table),
        Err(failure) if failure.kind == Kind::MissingTable => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// A table with everything about it.
pub(super) async fn whole(aws: &Aws, spec: &TableSpec) -> Result<TableDescription, Failure> {
    let found = match describe_table(aws, &spec.name).await? {
        None => None,
        Some(said) => {
            let mut found = Found::of(spec, &said)?;
            let (ttl, recovery, tags) = futures_util::join!(
                Box::pin(time_to_live(aws, &spec.name)),
                Box::pin(recovery(aws, &spec.name)),
                Box::pin(tags(aws, found.arn.as_deref()))
            );
            found.time_to_live = told(ttl)?;
            found.point_in_time_recovery = told(recovery)?;
            found.tags = told(tags)?;
            Some(found)
        }
    };
    Ok(TableDescription { table: spec.table, name: spec.name.clone(), found })
}

impl Found {
    /// What `DescribeTable` alone says.
    pub(in crate::store::dynamodb) fn of(
        spec: &TableSpec,
        said: &types::TableDescription,
    ) -> Result<Self, Failure> {
        let definitions = said.attribute_definitions();
        let keys = keys_of(said.key_schema(), definitions)?;
        let index = |index: &types::GlobalSecondaryIndexDescription| {
            Ok(IndexDescription {
                name: index.index_name().unwrap_or_default().to_owned(),
                status: index.index_status().map_or("UNKNOWN", |status| status.as_str()).to_owned(),
                keys: keys_of(index.key_schema(), definitions)?,
                projection: projection(index.projection()),
                items: count(index.item_count()),
                size_bytes: count(index.index_size_bytes()),
            })
        };
        let mode = said.billing_mode_summary().and_then(|summary| summary.billing_mode());
        let provisioned = said.provisioned_throughput();
        let not_asked = || "it was not asked for".to_owned();
        Ok(Self {
            status: said.table_status().map_or("UNKNOWN", |status| status.as_str()).to_owned(),
            arn: said.table_arn().map(str::to_owned),
            is_adopted: spec.clone().with_keys(&keys).is_adopted,
            keys,
            billing: match mode {
                Some(BillingMode::PayPerRequest) => Billing::OnDemand,
                _ => Billing::Provisioned {
                    read_units: provisioned.and_then(Units::read_capacity_units).unwrap_or(0),
                    write_units: provisioned.and_then(Units::write_capacity_units).unwrap_or(0),
                },
            },
            items: count(said.item_count()),
            size_bytes: count(said.table_size_bytes()),
            indexes: said.global_secondary_indexes().iter().map(index).collect::<Result<_, Failure>>()?,
            time_to_live: Told::Unknown(not_asked()),
            point_in_time_recovery: Told::Unknown(not_asked()),
            encryption: encryption(said),
            deletion_protection: said.deletion_protection_enabled().unwrap_or(false),
            tags: Told::Unknown(not_asked()),
        })
    }
}

fn count(number: Option<i64>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

fn projection(projection: Option<&types::Projection>) -> Projection {
    match projection.and_then(|projection| projection.projection_type()) {
        Some(types::ProjectionType::KeysOnly) => Projection::KeysOnly,
        Some(types::ProjectionType::Include) => Projection::Include,
        _ => Projection::All,
    }
}

fn encryption(said: &types::TableDescription) -> String {
    let Some(sse) = said.sse_description() else { return "owned".to_owned() };
    match (sse.sse_type(), sse.kms_master_key_arn()) {
        (Some(SseType::Kms), Some(key)) => key.to_owned(),
        (Some(_), _) => "aws".to_owned(),
        (None, _) => "owned".to_owned(),
    }
}

/// Keys with their types, which the service lists apart.
fn keys_of(schema: &[KeySchemaElement], definitions: &[types::AttributeDefinition]) -> Result<Keys, Failure> {
    let attribute = |element: &KeySchemaElement| {
        let name = element.attribute_name();
        let definition = definitions.iter().find(|definition| definition.attribute_name() == name);
        let kind = match definition.map(types::AttributeDefinition::attribute_type) {
            Some(ScalarAttributeType::S) => KeyType::S,
            Some(ScalarAttributeType::N) => KeyType::N,
            Some(ScalarAttributeType::B) => KeyType::B,
            _ => return Err(Failure::new(Kind::Other, format!("the type of the key `{name}` is not told"))),
        };
        Ok(KeyAttribute { name: name.to_owned(), kind })
    };
    let of = |kind| schema.iter().find(|element| *element.key_type() == kind).map(attribute).transpose();
    let partition = of(types::KeyType::Hash)?
        .ok_or_else(|| Failure::new(Kind::Other, "a table without a partition key is described"))?;
    Ok(Keys { partition, sort: of(types::KeyType::Range)? })
}

async fn time_to_live(aws: &Aws, name: &str) -> Result<TimeToLive, Failure> {
    let answer = aws.call(aws.dynamodb().describe_time_to_live().table_name(name).send()).await?;
    let said = answer.time_to_live_description();
    let status = said.and_then(|said| said.time_to_live_status());
    Ok(TimeToLive {
        enabled: matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)),
        attribute: said.and_then(|said| said.attribute_name()).map(str::to_owned),
    })
}

async fn recovery(aws: &Aws, name: &str) -> Result<bool, Failure> {
    let answer = aws.call(aws.dynamodb().describe_continuous_backups().table_name(name).send()).await?;
    let said = answer
        .continuous_backups_description()
        .and_then(ContinuousBackupsDescription::point_in_time_recovery_description);
    let status = said.and_then(|said| said.point_in_time_recovery_status());
    Ok(status == Some(&PointInTimeRecoveryStatus::Enabled))
}

async fn tags(aws: &Aws, arn: Option<&str>) -> Result<BTreeMap<String, String>, Failure> {
    let mut tags = BTreeMap::new();
    let mut next = None;
    loop {
        let request = aws.dynamodb().list_tags_of_resource().set_resource_arn(arn.map(str::to_owned));
        let answer = aws.call(request.set_next_token(next).send()).await?;
        tags.extend(answer.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())));
        next = answer.next_token;
        if next.is_none() {
            return Ok(tags);
        }
    }
}

/// What this endpoint does not have, or these credentials may not read, leaves the rest to be told.
fn told<T>(said: Result<T, Failure>) -> Result<Told<T>, Failure> {
    match said {
        Ok(value) => Ok(Told::Known(value)),
        Err(failure) if is_unsupported(&failure) => Ok(Told::Unsupported),
        Err(failure) if failure.kind == Kind::AccessDenied => Ok(Told::Unknown(failure.detail)),
        Err(failure) => Err(failure),
    }
}

/// Whether the endpoint has nothing of the kind. DynamoDB Local, which has no tags, says so in its own way.
pub(in crate::store::dynamodb) fn is_unsupported(failure: &Failure) -> bool {
    failure.kind == Kind::Unknown || failure.detail.contains("not currently supported")
}
