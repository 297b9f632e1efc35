//! `tables`: made, described, checked and deleted on DynamoDB Local.

use serde_json::{Value, json};

use crate::aws::{Refusal, StandIn};
use crate::dynamodb::Local;
use crate::host::{command, run};

/// What a check has found that is not fine, as severity and subject.
fn problems(local: &Local, code: i32) -> Vec<String> {
    let report = local.run(&["tables", "check", "--json"]).expect(code).json();
    let findings = report["findings"].as_array().expect("a list");
    let bad = findings.iter().filter(|finding| finding["severity"] != json!("ok"));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    bad.map(|finding| format!("{} {}", text(&finding["severity"]), text(&finding["subject"]))).collect()
}

#[test]
fn tables_are_made_described_checked_and_deleted() {
    let Some(local) = Local::new() else { return };
    let (results, sessions) = (local.results(), local.sessions());
    let dry = local.run(&["tables", "create", "--dry-run"]).expect(0);
    assert!(
        dry.text().contains(&format!("would make the table {results}, key url (S), index time-index")),
        "{dry:?}"
    );
    let missing = local.run(&["tables", "describe"]).expect(3);
    assert_eq!(
        missing.text().matches("crawlcache tables create").count(),
        2,
        "nothing was made: {missing:?}"
    );
    assert_eq!(problems(&local, 1), ["wrong table", "wrong table"]);

    let made = local.run(&["tables", "create"]).expect(0);
    assert_eq!(made.text(), "all 8 steps are done\n");
    assert!(made.stderr.contains(&format!("have items of {sessions} expire by `ttl`: done")), "{made:?}");
    assert!(
        made.stderr.contains("recovery of") && made.stderr.contains("not supported by this endpoint"),
        "{made:?}"
    );
    let again = local.run(&["tables", "create", "--json"]).expect(0);
    assert_eq!(again.json(), json!({"steps": [], "failed": 0, "findings": []}));
    assert!(again.stderr.is_empty(), "{again:?}");
    assert!(problems(&local, 0).is_empty());

    let text = local.run(&["tables", "describe"]).expect(0);
    for part in [
        "status        ACTIVE",
        "url (S)",
        "on demand",
        "by `ttl`",
        "recovery      not supported by this endpoint",
    ] {
        assert!(text.text().contains(part), "no {part} in {}", text.text());
    }
    let all = local.run(&["tables", "describe", "--json"]).expect(0).json();
    assert_eq!((&all[0]["table"], &all[0]["name"]), (&json!("results"), &json!(results)));
    assert_eq!(all[1]["found"]["keys"]["partition"], json!({"name": "session_id", "type": "S"}));
    assert_eq!(all[1]["found"]["time_to_live"], json!({"enabled": true, "attribute": "ttl"}));
    let unsupported = json!({"unknown": "not supported by this endpoint"});
    assert_eq!(all[0]["found"]["tags"], unsupported);

    let refused = local.run(&["tables", "delete"]).expect(2);
    assert!(refused.stderr.contains(&results) && refused.stderr.contains("--yes"), "{refused:?}");
    let one = local.run(&["tables", "delete", "--yes", "--only", "sessions", "--json"]).expect(0).json();
    assert_eq!(one, json!([{"table": sessions, "outcome": "deleted", "error": null}]));
    assert_eq!(problems(&local, 1), ["wrong table"]);
    let rest = local.run(&["tables", "delete", "--yes"]).expect(0);
    assert_eq!(rest.text(), format!("deleted  {results}\nabsent   {sessions}\n"));
}

#[test]
fn an_update_adds_what_is_missing() {
    let Some(local) = Local::for_indexes() else { return };
    // As the guides that crawlers follow have it made.
    let index = "[{\"IndexName\":\"timestamp-index\",\"Projection\":{\"ProjectionType\":\"ALL\"},\
                 \"KeySchema\":[{\"AttributeName\":\"created_at\",\"KeyType\":\"HASH\"}]}]";
    local.foreign(&local.results(), "url", &[("created_at", "S")], index);
    let left = local.run(&["tables", "create"]).expect(1);
    assert!(left.text().contains("tables create --update"), "{left:?}");
    let all = ["wrong index time-index", "warning index timestamp-index", "wrong time_to_live"];
    assert_eq!(problems(&local, 1), all);
    let dry = local.run(&["tables", "create", "--update", "--dry-run", "--json"]).expect(0).json();
    let actions: Vec<_> =
        dry["steps"].as_array().expect("a list").iter().map(|step| &step["action"]).collect();
    assert_eq!(actions, ["time_to_live", "index", "wait"]);
    assert_eq!(problems(&local, 1), all);
    local.run(&["tables", "create", "--update"]).expect(0);
    assert_eq!(problems(&local, 0), ["warning index timestamp-index"]);
}

#[test]
fn tables_of_wallcrawler_are_adopted_and_left_alone() {
    let Some(local) = Local::new() else { return };
    let index = |name: &str, partition: &str, sort: &str, projection: &str| {
        format!(
            "{{\"IndexName\":\"{name}\",\"Projection\":{{\"ProjectionType\":\"{projection}\"}},\"KeySchema\":[\
             {{\"AttributeName\":\"{partition}\",\"KeyType\":\"HASH\"}},{{\"AttributeName\":\"{sort}\",\"KeyType\":\"RANGE\"}}]}}"
        )
    };
    let indexes = [
        index("projectId-createdAt-index", "projectId", "createdAt", "ALL"),
        index("status-expiresAt-index", "status", "expiresAt", "KEYS_ONLY"),
    ];
    let attributes = [("projectId", "S"), ("createdAt", "N"), ("status", "S"), ("expiresAt", "N")];
    local.foreign(&local.sessions(), "sessionId", &attributes, &format!("[{}]", indexes.join(",")));
    local.run(&["tables", "create", "--update"]).expect(0);
    assert_eq!(problems(&local, 0), ["warning time_to_live"], "it is not ours to change");
    let text = local.run(&["tables", "describe"]).expect(0);
    assert!(text.text().contains("sessionId (S) (made by Wallcrawler, used as it is)"), "{text:?}");
}

#[test]
fn a_table_with_another_key_is_wrong() {
    let Some(local) = Local::new() else { return };
    local.foreign(&local.results(), "id", &[], "");
    let made = local.run(&["tables", "create", "--update"]).expect(1);
    assert!(made.text().contains("its key is id (S), and must be url (S)"), "{made:?}");
    assert_eq!(problems(&local, 1), ["wrong keys"]);
}

#[test]
fn a_protected_table_stays() {
    let Some(local) = Local::new() else { return };
    local
        .run(&["tables", "create", "--deletion-protection", "--tag", "team=crawl", "--encryption", "aws"])
        .expect(0);
    let refused = local.run(&["tables", "delete", "--yes", "--json"]).expect(1).error();
    assert_eq!(refused["code"], json!("protected"));
    assert!(
        refused["detail"].as_str().expect("text").contains("--no-deletion-protection-enabled"),
        "{refused}"
    );
    let all = local.run(&["tables", "describe", "--json"]).expect(0).json();
    assert_eq!(all[0]["found"]["deletion_protection"], json!(true));
}

#[test]
fn without_a_bucket_there_is_nothing_to_sweep() {
    let Some(local) = Local::new() else { return };
    let swept = local.run(&["tables", "sweep", "--json"]).expect(0);
    assert_eq!(swept.json()["orphans"], json!(0));
    assert!(swept.stderr.contains("s3.bucket") && swept.stderr.contains("expire by themselves"), "{swept:?}");
}

#[test]
fn mistakes_are_usage() {
    for wrong in [
        &["tables"][..],
        &["tables", "create", "--encryption", "mine"],
        &["tables", "create", "--tag", "team"],
        &["tables", "delete", "--only", "pages"],
        &["tables", "sweep", "--older-than", "soon"],
        &["tables", "sweep", "--older-than", "1h"],
    ] {
        run(wrong).expect(2);
    }
    for name in ["create", "describe", "check", "delete", "sweep"] {
        let help = run(&["tables", name, "--help"]).expect(0);
        assert!(help.text().contains(&format!("  crawlcache tables {name}")), "{help:?}");
    }
}

#[test]
fn a_service_that_is_away_is_unreachable() {
    let mut command = command(&["tables", "check", "--json"]);
    command.env("DYNAMODB_ENDPOINT", "http://127.0.0.1:1").env("DYNAMODB_MAX_RETRIES", "0");
    let done = crate::host::Done::from(command.output().expect("started")).expect(4);
    assert_eq!(done.error()["code"], json!("unavailable"));
}

#[test]
fn what_fails_does_not_stop_the_rest_and_can_be_run_again() {
    let Some(local) = Local::new() else { return };
    let behind = |refused: &'static str| {
        let standin = StandIn::start(Some(local.endpoint.clone()), move |operation| {
            (operation == refused).then(|| Refusal::new("AccessDeniedException", "not authorized to do this"))
        });
        let mut command = local.command(&["tables", "create", "--json"]);
        command.env("DYNAMODB_ENDPOINT", &standin.url);
        crate::host::Done::from(command.output().expect("started")).expect(1).json()
    };
    let outcomes = |report: &Value| -> Vec<String> {
        let steps = report["steps"].as_array().expect("a list").iter();
        steps.map(|step| step["outcome"].as_str().expect("text").to_owned()).collect()
    };
    let report = behind("CreateTable");
    let one = ["failed", "skipped", "skipped", "skipped"];
    assert_eq!(outcomes(&report), [one, one].concat());
    assert!(report["steps"][0]["error"].as_str().expect("text").contains("denies access"), "{report}");
    assert_eq!(problems(&local, 1), ["wrong table", "wrong table"]);

    let report = behind("UpdateTimeToLive");
    let one = ["done", "done", "failed", "not_supported_by_this_endpoint"];
    assert_eq!(outcomes(&report), [one, one].concat());
    assert_eq!(problems(&local, 1), ["wrong time_to_live", "wrong time_to_live"]);
    let again = local.run(&["tables", "create", "--update", "--json"]).expect(0).json();
    assert_eq!(outcomes(&again), ["done", "done"]);
    assert!(problems(&local, 0).is_empty());
}
