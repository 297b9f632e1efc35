//! `routing`: reads and changes how keys are spread over SQLite and DynamoDB, and tells who did.

use std::fmt::Write as _;

use indicatif::HumanCount;
use reqwest::Method;
use reqwest::header::{HeaderValue, IF_MATCH};
use serde_json::{Map, Value, json};

use super::client::{Service, ServiceArgs, call, json, with_body};
use super::exit::{Exit, Failure, Outcome};
use super::{Global, output};
use crate::domain::routing::Percent;

pub(super) const PATH: &str = "/v1/admin/routing";

/// What to do with the policy.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    service: ServiceArgs,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the policy in force (the default)
    Get,

    /// Change parts of the policy: it counts from the next operation on, and after a restart
    #[command(after_help = "Examples:
  crawlcache routing set --percent 25 --dual-write true --reason 'the second step'
  crawlcache routing set --percent 50 --dry-run          say how many keys would move
  crawlcache routing set --force none --percent 10       let the percentage decide again, after a rollback
  crawlcache routing set --force none --if-generation 7  only if nobody has changed it since

While a side is forced a percentage has no effect: --percent alone is refused then, with exit code 1.")]
    Set(Box<Set>),

    /// List the changes of the policy: who, when, why
    Log {
        /// How many, the newest first
        #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
    },
}

/// What changes.
#[derive(Debug, Default, clap::Args)]
struct Set {
    /// The share of keys that DynamoDB owns, 0 to 100 with at most two decimals
    #[arg(long, value_name = "PERCENT", value_parser = Percent::parse)]
    percent: Option<Percent>,

    /// Whether one side owns everything, whatever the percentage
    #[arg(long, value_name = "SIDE", value_parser = ["none", "sqlite", "dynamodb"])]
    force: Option<String>,

    /// Whether the side that does not own a key gets every write of it, too
    #[arg(long, value_name = "BOOLEAN")]
    dual_write: Option<bool>,

    /// The share of reads, 0 to 1, after which both sides are compared
    #[arg(long, value_name = "SHARE", value_parser = share)]
    shadow_read: Option<f64>,

    /// What becomes of a write whose owner, DynamoDB, cannot be reached
    #[arg(long, value_name = "WHAT", value_parser = ["queue", "reject"])]
    on_owner_failure: Option<String>,

    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Set --percent although a side is forced: it counts as soon as `force` is `none`
    #[arg(long, requires = "percent")]
    while_forced: bool,

    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Only if the policy in force has this number
    #[arg(long, value_name = "NUMBER")]
    if_generation: Option<u64>,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "give a number from 0 to 1".to_owned())
}

/// Asks the service.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let service = Service::patient(&args.service)?;
    match args.action.unwrap_or(Action::Get) {
        Action::Get => {
            let routing = call(&service, Method::GET, PATH, &[], None).await?;
            global.output().answer(&routing, || state(&routing))?;
        }
        Action::Set(set) => {
            let change = set.send(&service).await?;
            global.output().answer(&change, || changed(&change))?;
            warn(&change, global);
        }
        Action::Log { limit } => {
            let items = log(&service, limit).await?;
            if items.is_empty() && !global.json {
                output::note("the policy was never changed: that of the configuration is in force");
                return Ok(Exit::Done);
            }
            global.output().answer(&items, || items.iter().map(entry).collect::<Vec<_>>().join("\n"))?;
        }
    }
    Ok(Exit::Done)
}

impl Set {
    fn patch(&self) -> Map<String, Value> {
        let members = [
            ("percent", self.percent.map(|percent| json!(percent))),
            ("force", self.force.as_ref().map(|force| json!(force))),
            ("dual_write", self.dual_write.map(|dual_write| json!(dual_write))),
            ("shadow_read", self.shadow_read.map(|share| json!(share))),
            ("on_owner_failure", self.on_owner_failure.as_ref().map(|what| json!(what))),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// Refuses a percentage that would have no effect, because one side is forced to own everything.
    async fn check_effect(&self, service: &Service) -> Outcome<()> {
        if self.percent.is_none() || self.force.is_some() || self.while_forced {
            return Ok(());
        }
        let routing = call(service, Method::GET, PATH, &[], None).await?;
        let force = word(&routing["policy"]["force"]);
        if force == "none" {
            return Ok(());
        }
        let way = match routing["pinned_by"].as_str() {
            Some(by) => format!("unset {by} and start the service again, or add"),
            None => "add --force none to let it decide, or".to_owned(),
        };
        let detail = format!(
            "force = {force} owns everything, so that --percent would have no effect: {way} --while-forced to set it for \
             later"
        );
        Err(Failure::new(Exit::Failed, "routing_forced", detail))
    }

    async fn send(&self, service: &Service) -> Outcome<Value> {
        let mut patch = self.patch();
        if patch.is_empty() {
            return Err(Failure::usage(
                "say what to change: --percent, --force, --dual-write, --shadow-read or --on-owner-failure",
            ));
        }
        if let Some(reason) = &self.reason {
            patch.insert("reason".to_owned(), json!(reason));
        }
        self.check_effect(service).await?;
        let query = [("dry_run", self.dry_run.then(|| "true".to_owned()))];
        let body = Value::Object(patch).to_string();
        let kind = [("content-type", "application/merge-patch+json")];
        let mut request = with_body(service.request(Method::PATCH, PATH, &query), &kind, body.into());
        if let Some(generation) = self.if_generation {
            let tag = HeaderValue::try_from(format!("\"{generation}\"")).expect("digits in quotes");
            request.headers_mut().insert(IF_MATCH, tag);
        }
        json(service.send(request).await?).await
    }
}

async fn log(service: &Service, limit: u64) -> Outcome<Vec<Value>> {
    const PAGE: u64 = 1000;
    let mut items: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let left = limit - (items.len() as u64).min(limit);
        let query = [("limit", Some(left.clamp(1, PAGE).to_string())), ("cursor", cursor.take())];
        let page = call(service, Method::GET, "/v1/admin/routing/log", &query, None).await?;
        items.extend(page["items"].as_array().cloned().unwrap_or_default());
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || items.len() as u64 >= limit {
            return Ok(items);
        }
    }
}

/// What to mind, on standard error.
pub(super) fn warn(change: &Value, global: &Global) {
    let warnings = change["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
    for warning in warnings.iter().filter_map(Value::as_str).filter(|_| !global.json) {
        output::note(format!("mind: {warning}"));
    }
}

/// The policy in one sentence.
pub(super) fn policy(routing: &Value) -> String {
    let policy = &routing["policy"];
    let mut text = format!("{} % of the keys in DynamoDB", routing["effective_percent"]);
    if policy["force"] != "none" {
        let by = routing["pinned_by"].as_str().map(|by| format!(", held by {by}")).unwrap_or_default();
        let _ = write!(text, " (force = {}{by}; percent = {})", word(&policy["force"]), policy["percent"]);
    }
    text.push_str(if policy["dual_write"] == true { ", dual writes" } else { ", single writes" });
    let shadow = policy["shadow_read"].as_f64().unwrap_or(0.0);
    if shadow > 0.0 {
        let _ = write!(text, ", {} % of the reads compared", (shadow * 10_000.0).round() / 100.0);
    }
    let _ = write!(text, ", {} when DynamoDB fails", word(&policy["on_owner_failure"]));
    text
}

/// What the configuration says otherwise, in a sentence each.
pub(super) fn overruled(routing: &Value) -> Vec<String> {
    let overruled = routing["overruled"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let sentence = |one: &Value| {
        let (member, said_by) = (word(&one["member"]), word(&one["said_by"]));
        let (configured, in_force) = (text(&one["configured"]), text(&one["in_force"]));
        format!("{member} = {configured} ({said_by}): {in_force} was set while it ran, and counts")
    };
    overruled.iter().map(sentence).collect()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn since(routing: &Value) -> String {
    match routing["changed_at"].as_str() {
        Some(at) => format!("since {at}"),
        None => "as configured".to_owned(),
    }
}

fn state(routing: &Value) -> String {
    let mut lines =
        vec![format!("policy {}, {}: {}", routing["generation"], since(routing), policy(routing))];
    lines.extend(overruled(routing).into_iter().map(|text| format!("the configuration says {text}")));
    lines.join("\n")
}

/// What a change came to.
pub(super) fn changed(change: &Value) -> String {
    let changes = change["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if changes.is_empty() {
        return format!("nothing changes\n{}", state(change));
    }
    let mut lines = Vec::new();
    let would = if change["dry_run"] == true { "would change" } else { "changed" };
    for one in changes {
        lines.push(format!("{would} {}", member(one)));
    }
    let moves = &change["moves"];
    for (name, side) in [("to_dynamodb", "DynamoDB"), ("to_sqlite", "SQLite")] {
        if let Some(buckets @ 1..) = moves[name].as_u64() {
            #[expect(clippy::cast_precision_loss, reason = "there are 10,000 buckets")]
            let share = buckets as f64 * 100.0 / moves["buckets"].as_u64().unwrap_or(10_000) as f64;
            lines.push(format!("{share} % of the keys, {} buckets, go to {side}", HumanCount(buckets)));
        }
    }
    lines.push(state(change));
    lines.join("\n")
}

fn member(change: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("{} from {} to {}", word(&change["member"]), text(&change["before"]), text(&change["after"]))
}

fn entry(item: &Value) -> String {
    let changes = item["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let changes: Vec<String> = changes.iter().map(member).collect();
    let reason = word(&item["reason"]);
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let who = word(&item["who"]);
    format!("{}  {}  {who}: {}{reason}", item["generation"], word(&item["changed_at"]), changes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(force: &str, effective: u64) -> Value {
        json!({
            "generation": 7, "changed_at": "2026-01-15T10:30:00Z", "effective_percent": effective, "pinned_by": null,
            "policy": {"percent": 25, "force": force, "dual_write": true, "shadow_read": 0.05, "on_owner_failure": "queue"},
        })
    }

    #[test]
    fn a_policy_is_a_sentence() {
        assert_eq!(
            state(&routing("none", 25)),
            "policy 7, since 2026-01-15T10:30:00Z: 25 % of the keys in DynamoDB, dual writes, 5 % of the reads compared, \
             queue when DynamoDB fails"
        );
        let mut pinned = routing("sqlite", 0);
        pinned["pinned_by"] = json!("FORCE_SQLITE");
        assert!(policy(&pinned).starts_with(
            "0 % of the keys in DynamoDB (force = sqlite, held by FORCE_SQLITE; percent = 25), dual writes"
        ));
    }

    #[test]
    fn a_change_says_what_moves() {
        let mut change = routing("none", 25);
        change["dry_run"] = json!(true);
        change["changes"] = json!([{"member": "percent", "before": 10, "after": 25}]);
        change["moves"] = json!({"to_dynamodb": 1500, "to_sqlite": 0, "buckets": 10_000});
        let text = changed(&change);
        assert!(
            text.starts_with(
                "would change percent from 10 to 25\n15 % of the keys, 1,500 buckets, go to DynamoDB\npolicy 7"
            ),
            "{text}"
        );
        assert!(changed(&routing("none", 25)).starts_with("nothing changes\n"));
    }

    #[test]
    fn a_patch_names_only_what_changes() {
        let set = Set { percent: Percent::parse("12.5").ok(), dual_write: Some(false), ..Set::default() };
        assert_eq!(Value::Object(set.patch()), json!({"percent": 12.5, "dual_write": false}));
        assert!(Set::default().patch().is_empty());
        assert!(share("1.01").is_err() && share("NaN").is_err() && share("0.05").is_ok());
    }
}
