//! What AWS, or what stands in for it, has to offer: an answer, the right time, permissions, tables, a bucket.

use super::remedy::{condition, remedy};
use super::{Check, Report, Verdict};
use crate::cli::exit::Outcome;
use crate::clock::Clock;
use crate::config::{Config, Dynamodb};
use crate::domain::Timestamp;
use crate::metrics::Metrics;
use crate::store::Error;
use crate::store::dynamodb::probe::{
    Contact, LOOPBACK, ProbeResult, contact, identity, probe_bucket, probe_tables,
};
use crate::store::dynamodb::{Ahead, Aws, Tables};

/// A clock that is further off makes ages, expiry and the times of sessions of several hosts disagree.
const NOTICEABLE_MILLIS: u64 = 1000;

/// AWS accepts signatures for five minutes.
const REFUSED_MILLIS: u64 = 300_000;

/// Who waits wants an answer: one retry tells whether a failure lasts.
const RETRIES: u32 = 1;

/// Makes the checks; what makes no sense before something is put right is skipped.
pub(super) async fn check(
    config: &Config,
    from: &str,
    clock: &Clock,
    writes: bool,
    report: &mut Report,
) -> Outcome<()> {
    let dynamodb =
        Dynamodb { max_retries: config.dynamodb.max_retries.min(RETRIES), ..config.dynamodb.clone() };
    let aws = Aws::connect(&dynamodb, &config.s3, &Metrics::new()).await;
    report.add(Check::ok("dynamodb", format!("{} ({from})", aws.place())))?;
    let is_usable =
        credentials(&aws, clock.now(), report).await? && reach(&aws, &dynamodb, clock, report).await?;
    if !is_usable {
        return report.add(Check::new("permissions and tables", Verdict::Skipped, "put that right first"));
    }
    for result in probe_tables(&aws, &dynamodb, clock.now(), writes).await {
        report.add(permission(&result))?;
    }
    match Tables::new(aws.clone(), &dynamodb).check().await {
        Ok(findings) => {
            for finding in findings {
                let name = format!("{} {}", finding.table, finding.subject.replace('_', " "));
                let check = Check::new(name, finding.severity.into(), finding.message);
                report.add(Check { remedy: finding.remedy, ..check })?;
            }
        }
        Err(error) => report.add(failed("tables", &error, "dynamodb:DescribeTable", "both tables"))?,
    }
    for result in probe_bucket(&aws, &config.s3, writes).await {
        report.add(permission(&result))?;
    }
    Ok(())
}

fn failed(name: &str, error: &Error, action: &str, target: &str) -> Check {
    let condition = condition(error);
    let detail = if name == condition { error.to_string() } else { format!("{condition}: {error}") };
    Check::failed(name, detail, remedy(error, action, target))
}

fn permission(result: &ProbeResult) -> Check {
    let ProbeResult { action, target, error } = result;
    let name = format!("{action} on {target}");
    match error {
        None => Check::ok(name, "allowed"),
        Some(error) => failed(&name, error, action, target),
    }
}

/// Whether there are credentials that may be valid.
async fn credentials(aws: &Aws, now: Timestamp, report: &mut Report) -> Outcome<bool> {
    let name = "credentials";
    let identity = match identity(aws).await {
        Ok(identity) => identity,
        Err(error) => {
            report.add(failed(name, &error, "dynamodb:DescribeTable", "both tables"))?;
            return Ok(false);
        }
    };
    let id = identity.access_key_id;
    // Enough to tell keys apart.
    let end = id.char_indices().rev().nth(3).map_or(id.as_str(), |(at, _)| &id[at..]);
    let whose = match identity.source.as_str() {
        LOOPBACK => "none, but an endpoint on this host takes any".to_owned(),
        source => format!("a key that ends in {end}, from {source}"),
    };
    match identity.expires_at {
        Some(at) if at <= now => {
            let error = Error::Credentials { backend: "dynamodb", detail: format!("expired at {at}") };
            report.add(failed(name, &error, "", ""))?;
            return Ok(false);
        }
        Some(at) => report.add(Check::ok(name, format!("{whose}, until {at}")))?,
        None => report.add(Check::ok(name, whose))?,
    }
    Ok(true)
}

/// Whether somebody answers, what time it is there, and whether requests are accepted at all.
async fn reach(aws: &Aws, config: &Dynamodb, clock: &Clock, report: &mut Report) -> Outcome<bool> {
    let table = config.results_table();
    let Contact { latency, clock_ahead, error } = contact(aws, &table, clock).await;
    let name = "reachability";
    // What asks for fewer requests has answered.
    let is_silent = |error: &&Error| error.is_transient() && !matches!(error, Error::Throttled { .. });
    if let Some(error) = error.as_ref().filter(is_silent) {
        report.add(failed(name, error, "dynamodb:DescribeTable", &table))?;
        return Ok(false);
    }
    report.add(Check::ok(name, format!("answers in {} ms", latency.as_millis())))?;
    report.add(clock_check(clock_ahead, error.as_ref()))?;
    match &error {
        Some(error @ Error::Credentials { .. }) => {
            report.add(failed("authentication", error, "dynamodb:DescribeTable", &table))?;
            Ok(false)
        }
        Some(error @ Error::Throttled { .. }) => {
            report.add(failed("throttling", error, "dynamodb:DescribeTable", &table))?;
            Ok(true)
        }
        Some(Error::ClockSkew { .. }) => Ok(false),
        // A permission that is missing is told with the others.
        _ => Ok(true),
    }
}

fn clock_check(ahead: Option<Ahead>, error: Option<&Error>) -> Check {
    let name = "clock";
    let Some(ahead) = ahead else {
        return match error {
            Some(error @ Error::ClockSkew { .. }) => failed(name, error, "", ""),
            _ => Check::new(name, Verdict::Skipped, "the answer names no time"),
        };
    };
    let (off, uncertainty) = (ahead.millis().unsigned_abs(), ahead.uncertainty_millis().unsigned_abs());
    // The service's clock is right, whatever this one says.
    let side = if ahead.millis() > 0 { "behind" } else { "ahead of" };
    let detail = format!("{off} ms {side} the service's, give or take {uncertainty} ms");
    let skew = Error::ClockSkew { backend: "dynamodb", detail: String::new() };
    let remedy = remedy(&skew, "", "");
    match off.saturating_sub(uncertainty) {
        _ if matches!(error, Some(Error::ClockSkew { .. })) => {
            Check::failed(name, format!("clock skew: {detail}, which refuses the signature"), remedy)
        }
        REFUSED_MILLIS.. => Check::failed(name, format!("clock skew: {detail}"), remedy),
        NOTICEABLE_MILLIS.. => Check::warning(name, detail, remedy),
        _ => Check::ok(name, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        let ahead =
            |millis: i64, uncertainty: i64| Some(Ahead::between(millis - uncertainty, millis + uncertainty));
        for (ahead, status) in [
            (ahead(0, 500), Verdict::Ok),
            (ahead(-400, 20), Verdict::Ok),
            (ahead(-1400, 500), Verdict::Ok),
            (ahead(1400, 20), Verdict::Warning),
            (ahead(60_000, 500), Verdict::Warning),
            (ahead(-1_200_000, 500), Verdict::Failed),
            (None, Verdict::Skipped),
        ] {
            assert_eq!(clock_check(ahead, None).status, status, "{ahead:?}");
        }
        let detail = clock_check(ahead(1_200_000, 20), None).detail;
        assert!(detail.contains("1200000 ms behind") && detail.contains("give or take 20 ms"), "{detail}");
        let skew = Error::ClockSkew { backend: "dynamodb", detail: String::new() };
        assert_eq!(clock_check(ahead(0, 20), Some(&skew)).status, Verdict::Failed);
    }
}
