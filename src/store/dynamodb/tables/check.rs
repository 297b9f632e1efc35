//! What is wrong with the tables, and what to do about it.

use serde::Serialize;

use super::describe::{Billing, Found, IndexDescription, TableDescription, UNSUPPORTED};
use super::spec::{IndexSpec, TableSpec};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It does not work, or not in the long run.
    Wrong,
}

/// Something found out about a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The table's full name.
    pub table: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: `table`, `status`, `keys`, `index NAME`, `time_to_live`, `point_in_time_recovery` or `billing`.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What to do about it, where something should be done.
    pub remedy: Option<String>,
}

/// What `tables create --update` puts right.
const UPDATE: &str = "crawlcache tables create --update";

/// Everything that a description tells about how a table should be.
pub(super) fn findings(spec: &TableSpec, description: &TableDescription) -> Vec<Finding> {
    let mut all = Findings { table: &spec.name, found: Vec::new() };
    let Some(found) = &description.found else {
        all.wrong("table", "it does not exist", "make it with `crawlcache tables create`");
        return all.found;
    };
    all.status(found);
    let spec = spec.clone().with_keys(&found.keys);
    if found.keys != spec.keys {
        all.wrong(
            "keys",
            format!("its key is {}, and must be {}", found.keys, spec.keys),
            "name another table in the configuration, or delete this one if it is not needed",
        );
        // Nothing else about it matters.
        return all.found;
    }
    let whose = if spec.is_adopted { ", a table of Wallcrawler that is used as it is" } else { "" };
    all.ok("keys", format!("its key is {}{whose}", found.keys));
    for index in &spec.indexes {
        all.index(&spec, index, found.indexes.iter().find(|found| found.name == index.name));
    }
    let is_wanted = |index: &&IndexDescription| spec.indexes.iter().any(|wanted| wanted.name == index.name);
    for index in found.indexes.iter().filter(|index| !is_wanted(index)) {
        all.foreign_index(index);
    }
    all.time_to_live(&spec, found);
    all.recovery(&spec, found);
    all.billing(found);
    all.found
}

struct Findings<'t> {
    table: &'t str,
    found: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, severity: Severity, subject: &str, message: String, remedy: Option<String>) {
        let (table, subject) = (self.table.to_owned(), subject.to_owned());
        self.found.push(Finding { table, severity, subject, message, remedy });
    }

    fn ok(&mut self, subject: &str, message: impl Into<String>) {
        self.add(Severity::Ok, subject, message.into(), None);
    }

    fn warning(&mut self, subject: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, subject, message.into(), Some(remedy.into()));
    }

    fn wrong(&mut self, subject: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Wrong, subject, message.into(), Some(remedy.into()));
    }

    fn status(&mut self, found: &Found) {
        match found.status.as_str() {
            "ACTIVE" => self.ok("status", "it is ACTIVE"),
            // Both are served while it lasts.
            "UPDATING" => self.ok("status", "it is UPDATING, and serves meanwhile"),
            "CREATING" => self.wrong("status", "it is CREATING", "wait until it is ACTIVE"),
            other => self.wrong(
                "status",
                format!("it is {other}"),
                "see in the console of AWS what is being done with it",
            ),
        }
    }

    fn index(&mut self, spec: &TableSpec, wanted: &IndexSpec, found: Option<&IndexDescription>) {
        let subject = format!("index {}", wanted.name);
        let Some(found) = found else {
            let (message, remedy) = if spec.is_adopted {
                let message = "it is missing: sessions cannot be listed by it";
                (message, "add it as Wallcrawler's own templates do".to_owned())
            } else {
                let message = "it is missing, though the configuration asks for it";
                (message, format!("add it with `{UPDATE}`"))
            };
            return self.wrong(&subject, message, remedy);
        };
        if !wanted.keys.contains(&found.keys) {
            let message = format!("its key is {}, and must be {}", found.keys, wanted.made_keys());
            let remedy = if spec.is_adopted {
                "make it anew as Wallcrawler's own templates do".to_owned()
            } else {
                format!("delete the index, then run `{UPDATE}`")
            };
            return self.wrong(&subject, message, remedy);
        }
        match found.status.as_str() {
            "ACTIVE" | "UPDATING" => {}
            status => {
                let message = format!("it is {status} and cannot be read yet");
                return self.warning(&subject, message, "wait: a large table takes hours");
            }
        }
        if found.projection != wanted.projection && !spec.is_adopted {
            let message = "it copies more than keys, which makes every write cost more";
            return self.warning(&subject, message, format!("delete the index, then run `{UPDATE}`"));
        }
        self.ok(&subject, format!("its key is {}", found.keys));
    }

    fn foreign_index(&mut self, index: &IndexDescription) {
        let subject = format!("index {}", index.name);
        if let Some(refused) = index.refuses() {
            let message = format!(
                "its key {refused} is of another type than what crawlcache writes: every write fails"
            );
            return self.wrong(&subject, message, "delete the index, or use a table of another name");
        }
        let cost = "crawlcache does not use it, and every write of an item with its key costs more";
        let message = if index.keys.partition.name == "created_at" {
            format!("{cost}; with `created_at` as its partition key it cannot be read by range either")
        } else {
            cost.to_owned()
        };
        self.warning(&subject, message, "delete it if no other program reads it");
    }

    fn time_to_live(&mut self, spec: &TableSpec, found: &Found) {
        let subject = "time_to_live";
        let ttl = match &found.time_to_live {
            super::Told::Known(ttl) => ttl,
            super::Told::Unknown(reason) => {
                let message = format!("it cannot be told whether items expire: {reason}");
                return self.warning(subject, message, "look in the console of AWS");
            }
            super::Told::Unsupported => {
                let message = "this endpoint has no expiry: what is expired is not served, and stays";
                return self.warning(
                    subject,
                    message,
                    "purge what is old now and then, or use another endpoint",
                );
            }
        };
        let other = ttl.attribute.as_deref().filter(|attribute| *attribute != spec.ttl);
        match other {
            Some(other) if ttl.enabled => self.wrong(
                subject,
                format!("items expire by `{other}`, not by `{}`: they stay for ever", spec.ttl),
                "switch it off, wait an hour as AWS demands, and run `crawlcache tables create --update`",
            ),
            _ if ttl.enabled => self.ok(subject, format!("items expire by `{}`", spec.ttl)),
            _ if spec.is_adopted => self.warning(
                subject,
                "it is off: sessions stay for ever",
                format!("switch it on for the attribute `{}`", spec.ttl),
            ),
            _ => self.wrong(
                subject,
                "it is off: items stay, and are paid for, for ever",
                format!("switch it on with `{UPDATE}`"),
            ),
        }
    }

    fn recovery(&mut self, spec: &TableSpec, found: &Found) {
        let subject = "point_in_time_recovery";
        match &found.point_in_time_recovery {
            super::Told::Known(true) => self.ok(subject, "it is on"),
            super::Told::Known(false) if spec.is_adopted => {
                self.warning(subject, "it is off: what is lost stays lost", "switch it on");
            }
            super::Told::Known(false) => self.warning(
                subject,
                "it is off: what is lost stays lost",
                format!("switch it on with `{UPDATE}`, if the content is worth more than its price"),
            ),
            super::Told::Unknown(reason) => self.ok(subject, reason.clone()),
            super::Told::Unsupported => self.ok(subject, UNSUPPORTED),
        }
    }

    fn billing(&mut self, found: &Found) {
        match found.billing {
            Billing::OnDemand => self.ok("billing", "on demand"),
            Billing::Provisioned { read_units, write_units } => self.ok(
                "billing",
                format!(
                    "provisioned, {read_units} read and {write_units} write units a second: beyond, requests are \
                     throttled unless the table scales by itself"
                ),
            ),
        }
    }
}
