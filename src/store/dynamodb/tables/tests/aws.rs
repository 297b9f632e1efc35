//! What only AWS has: recovery, tags, provisioned capacity, and refusals. The client answers by rules.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ErrorMetadata;
use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemOutput;
use aws_sdk_dynamodb::operation::describe_continuous_backups::DescribeContinuousBackupsOutput;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableOutput;
use aws_sdk_dynamodb::operation::describe_time_to_live::{DescribeTimeToLiveError, DescribeTimeToLiveOutput};
use aws_sdk_dynamodb::operation::get_item::GetItemOutput;
use aws_sdk_dynamodb::operation::list_tags_of_resource::{ListTagsOfResourceError, ListTagsOfResourceOutput};
use aws_sdk_dynamodb::operation::update_continuous_backups::{
    UpdateContinuousBackupsError, UpdateContinuousBackupsOutput,
};
use aws_sdk_dynamodb::operation::update_table::UpdateTableOutput;
use aws_sdk_dynamodb::operation::update_time_to_live::UpdateTimeToLiveError;
use aws_sdk_dynamodb::types::error::ContinuousBackupsUnavailableException;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, BillingModeSummary, ContinuousBackupsDescription,
    ContinuousBackupsStatus, KeySchemaElement, KeyType as SdkKeyType, PointInTimeRecoveryDescription,
    PointInTimeRecoveryStatus, ProvisionedThroughputDescription, ScalarAttributeType, SseDescription,
    SseType, TableDescription as SdkTable, TableStatus, Tag, TimeToLiveDescription, TimeToLiveStatus,
};
use aws_smithy_mocks::{Rule, RuleMode, mock};

use super::super::plan::Action;
use super::super::*;
use crate::metrics::Metrics;
use crate::store::conformance::at;
use crate::store::dynamodb::probe::probe_tables;
use crate::store::dynamodb::testing::answering;

fn tables(rules: &[&Rule]) -> Tables {
    let config = config::Config::default().dynamodb;
    let aws = Aws::with_client(answering(RuleMode::MatchAny, rules), &config, &Metrics::new());
    Tables::new(aws, &config).with_patience(Duration::from_secs(20))
}

/// A table as `DescribeTable` shows it, with provisioned capacity and a key of the account.
fn provisioned(name: &str) -> DescribeTableOutput {
    let key = if name.ends_with("results") { "url" } else { "session_id" };
    let definition =
        AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
    let element = KeySchemaElement::builder().attribute_name(key).key_type(SdkKeyType::Hash);
    let units = ProvisionedThroughputDescription::builder().read_capacity_units(5).write_capacity_units(7);
    let sse = SseDescription::builder().sse_type(SseType::Kms).kms_master_key_arn("arn:aws:kms:key");
    let table = SdkTable::builder()
        .table_name(name)
        .table_arn(format!("arn:aws:dynamodb:table/{name}"))
        .table_status(TableStatus::Active)
        .attribute_definitions(definition.build().unwrap())
        .key_schema(element.build().unwrap())
        .billing_mode_summary(BillingModeSummary::builder().billing_mode(BillingMode::Provisioned).build())
        .provisioned_throughput(units.build())
        .sse_description(sse.build());
    DescribeTableOutput::builder().table(table.build()).build()
}

fn described() -> Rule {
    mock!(Client::describe_table).then_compute_output(|asked| provisioned(asked.table_name().unwrap()))
}

fn expiring() -> Rule {
    mock!(Client::describe_time_to_live).then_output(|| {
        let ttl = TimeToLiveDescription::builder().attribute_name("ttl");
        let ttl = ttl.time_to_live_status(TimeToLiveStatus::Enabling).build();
        DescribeTimeToLiveOutput::builder().time_to_live_description(ttl).build()
    })
}

fn recoverable(status: PointInTimeRecoveryStatus) -> Rule {
    mock!(Client::describe_continuous_backups).then_output(move || {
        let recovery =
            PointInTimeRecoveryDescription::builder().point_in_time_recovery_status(status.clone());
        let backups = ContinuousBackupsDescription::builder()
            .continuous_backups_status(ContinuousBackupsStatus::Enabled)
            .point_in_time_recovery_description(recovery.build());
        let backups = backups.build().unwrap();
        DescribeContinuousBackupsOutput::builder().continuous_backups_description(backups).build()
    })
}

/// Two pages.
fn tagged() -> Rule {
    mock!(Client::list_tags_of_resource).then_compute_output(|asked| {
        let (key, next) = if asked.next_token().is_none() { ("team", Some("2")) } else { ("stage", None) };
        let tag = Tag::builder().key(key).value("v").build().unwrap();
        ListTagsOfResourceOutput::builder().tags(tag).set_next_token(next.map(str::to_owned)).build()
    })
}

#[tokio::test]
async fn everything_that_aws_tells_is_told() {
    let rules = [described(), expiring(), recoverable(PointInTimeRecoveryStatus::Enabled), tagged()];
    let tables = tables(&rules.each_ref());
    let found = tables.describe().await.unwrap().remove(0).found.unwrap();
    assert_eq!(found.billing, Billing::Provisioned { read_units: 5, write_units: 7 });
    assert_eq!(
        (found.encryption.as_str(), found.point_in_time_recovery),
        ("arn:aws:kms:key", Told::Known(true))
    );
    let tags = ["stage", "team"].map(|key| (key.to_owned(), "v".to_owned()));
    assert_eq!(found.tags, Told::Known(tags.into()));
}

#[tokio::test]
async fn what_may_not_be_read_leaves_the_rest() {
    let denied = mock!(Client::list_tags_of_resource).then_error(|| {
        let meta = ErrorMetadata::builder().code("AccessDeniedException").message("not authorized");
        ListTagsOfResourceError::generic(meta.build())
    });
    let rules = [described(), expiring(), recoverable(PointInTimeRecoveryStatus::Disabled), denied];
    let tables = tables(&rules.each_ref());
    let found = tables.describe().await.unwrap().remove(0).found.unwrap();
    assert!(matches!(&found.tags, Told::Unknown(reason) if reason.contains("not authorized")), "{found:?}");
    let findings = tables.check().await.unwrap();
    let recovery = findings.iter().find(|finding| finding.subject == "point_in_time_recovery").unwrap();
    assert_eq!(recovery.severity, Severity::Warning);
}

/// What an endpoint says that does not know an operation.
fn unknown() -> ErrorMetadata {
    let message = "Unsupported operation";
    ErrorMetadata::builder().code("UnknownOperationException").message(message).build()
}

#[tokio::test]
async fn an_endpoint_without_expiry_is_no_failure() {
    let rules = [
        described(),
        mock!(Client::describe_time_to_live).then_error(|| DescribeTimeToLiveError::generic(unknown())),
        mock!(Client::update_time_to_live).then_error(|| UpdateTimeToLiveError::generic(unknown())),
        recoverable(PointInTimeRecoveryStatus::Enabled),
        tagged(),
        mock!(Client::get_item).then_output(|| GetItemOutput::builder().build()),
        mock!(Client::batch_get_item).then_output(|| BatchGetItemOutput::builder().build()),
    ];
    let tables = tables(&rules.each_ref());
    let described = tables.describe().await.unwrap();
    assert!(described.iter().all(|table| table.found.as_ref().unwrap().time_to_live == Told::Unsupported));
    let told = serde_json::to_value(&described[0]).unwrap();
    assert_eq!(told["found"]["time_to_live"]["unknown"], "not supported by this endpoint");

    // A table that is new is asked to expire its items once, and one that is there never again.
    let expire = Step { table: "crawl4ai-results".to_owned(), action: Action::Expire("ttl") };
    assert_eq!(tables.apply(&expire).await.unwrap(), Applied::Unsupported);
    let steps = tables.plan(&CreateOptions { update: true, ..CreateOptions::default() }).await.unwrap();
    assert!(steps.iter().all(|step| step.action() != "time_to_live"), "{steps:?}");

    let findings = tables.check().await.unwrap();
    let mut about_ttl = findings.iter().filter(|finding| finding.subject == "time_to_live");
    assert!(about_ttl.all(|finding| finding.severity == Severity::Warning), "{findings:?}");
    let probed = probe_tables(&tables.aws, &config::Config::default().dynamodb, at(0), false).await;
    assert!(probed.iter().all(|result| result.action != "dynamodb:DescribeTimeToLive"), "{probed:?}");
}

#[tokio::test]
async fn an_index_of_a_provisioned_table_gets_capacity() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let updated = mock!(Client::update_table)
        .match_requests(|asked| {
            let create = asked.global_secondary_index_updates()[0].create().unwrap();
            let units = create.provisioned_throughput().unwrap();
            units.read_capacity_units() == 5 && units.write_capacity_units() == 7
        })
        .then_compute_output(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            UpdateTableOutput::builder().build()
        });
    let rules =
        [described(), expiring(), recoverable(PointInTimeRecoveryStatus::Disabled), tagged(), updated];
    let tables = tables(&rules.each_ref());
    let options = CreateOptions { update: true, point_in_time_recovery: false, ..CreateOptions::default() };
    let steps = tables.plan(&options).await.unwrap();
    for step in steps.iter().filter(|step| matches!(step.action, Action::Index(..))) {
        assert_eq!(tables.apply(step).await.unwrap(), Applied::Done);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3, "one of results, two of sessions: {steps:?}");
}

#[tokio::test]
async fn recovery_waits_for_the_backups_of_a_new_table() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let unavailable = mock!(Client::update_continuous_backups)
        .match_requests(move |_| count.fetch_add(1, Ordering::Relaxed) < 2)
        .then_error(|| {
            let meta = ErrorMetadata::builder();
            let meta = meta.code("ContinuousBackupsUnavailableException").message("being enabled").build();
            let error = ContinuousBackupsUnavailableException::builder().meta(meta).build();
            UpdateContinuousBackupsError::ContinuousBackupsUnavailableException(error)
        });
    let enabled = mock!(Client::update_continuous_backups)
        .then_output(|| UpdateContinuousBackupsOutput::builder().build());
    let rules = [
        described(),
        expiring(),
        recoverable(PointInTimeRecoveryStatus::Disabled),
        tagged(),
        unavailable,
        enabled,
    ];
    let tables = tables(&rules.each_ref());
    let steps = tables.plan(&CreateOptions { update: true, ..CreateOptions::default() }).await.unwrap();
    let step = steps.iter().find(|step| step.action() == "point_in_time_recovery").unwrap();
    assert_eq!(tables.apply(step).await.unwrap(), Applied::Done);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}
