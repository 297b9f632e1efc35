//! `doctor`: each thing that can be wrong is found, told apart and has a remedy.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use crate::aws::{Refusal, StandIn};
use crate::dynamodb::Local;
use crate::host::{Done, Server, command};

/// The check whose name begins so.
#[track_caller]
fn find<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().expect("a list");
    let found = checks.iter().find(|check| check["name"].as_str().expect("text").starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

/// Fails the test unless that check came out so, and says so.
#[track_caller]
fn assert_check(report: &Value, name: &str, status: &str, part: &str) {
    let check = find(report, name);
    let text = format!("{} {}", check["detail"], check["remedy"]);
    assert!(check["status"] == json!(status) && text.contains(part), "{check:#}");
    assert_eq!(check["remedy"].is_string(), ["failed", "warning"].contains(&status), "{check:#}");
}

struct Patient {
    directory: tempfile::TempDir,
}

impl Patient {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    /// In a data directory of its own, and on a free port.
    fn prepare(&self, command: &mut Command) {
        command.args(["--data-dir", self.directory.path().to_str().expect("text")]);
        command.args(["--set", "server.listen=127.0.0.1:0", "--json"]);
    }

    fn examine(&self, arguments: &[&str]) -> Done {
        let mut command = command(&[&["doctor"], arguments].concat());
        self.prepare(&mut command);
        command.output().expect("started").into()
    }

    /// With an endpoint of DynamoDB, and credentials for it.
    fn examine_aws(&self, endpoint: &str, set: &[(&str, &str)]) -> Done {
        let mut command = command(&["doctor", "--dynamodb"]);
        self.prepare(&mut command);
        command
            .env("DYNAMODB_ENDPOINT", endpoint)
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "5ec4e7")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("DYNAMODB_MAX_RETRIES", "0")
            .envs(set.iter().copied());
        let done = Done::from(command.output().expect("started"));
        assert!(!done.text().contains("5ec4e7") && !done.text().contains("AKID"), "{done:?}");
        done
    }
}

#[test]
fn a_host_without_trouble_is_fine() {
    let patient = Patient::new();
    let report = patient.examine(&[]).expect(0).json();
    assert_eq!(report["failed"], json!(0));
    assert_check(&report, "configuration", "ok", "store.backend = sqlite (default)");
    assert_check(&report, "data directory", "ok", "is writable");
    assert_check(&report, "tokens", "ok", "open to this host");
    assert_check(&report, "listen address", "ok", "free");
    assert_check(&report, "database", "ok", "none yet");
    find(&report, "disk");
    assert_eq!(fs::read_dir(patient.directory.path()).expect("listed").count(), 0, "nothing is left");

    let mut text = command(&["doctor", "--data-dir"]);
    text.arg(patient.directory.path()).args(["--set", "server.listen=127.0.0.1:0"]);
    let text = Done::from(text.output().expect("started")).expect(0);
    assert!(text.text().starts_with("ok       configuration: valid"), "{text:?}");
    assert!(text.stderr.contains("0 failed"), "{text:?}");
}

#[test]
fn a_running_service_is_recognised() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(directory.path());
    let listen = format!("server.listen={}", server.address());
    let ask = || {
        let mut command = command(&["doctor", "--json", "--set", &listen, "--data-dir"]);
        Done::from(command.arg(directory.path()).output().expect("started"))
    };
    let report = ask().expect(0).json();
    assert_check(&report, "listen address", "ok", "crawlcache");
    assert_check(&report, "database", "ok", "in use by the running process");
    let address = server.address().to_owned();
    drop(server);
    assert_check(&ask().expect(0).json(), "database", "ok", "opens");
    let _other = TcpListener::bind(address).expect("free again");
    assert_check(&ask().expect(1).json(), "listen address", "failed", "another program");
}

#[test]
fn trouble_of_the_host_is_found() {
    let patient = Patient::new();
    let report = patient.examine(&["--set", "memory.bites=1"]).expect(1).json();
    assert_check(&report, "configuration", "failed", "memory.bytes");
    let data_dir = patient.directory.path();
    fs::write(data_dir.join("crawlcache.db"), "no database at all, but long enough").expect("written");
    fs::write(data_dir.join("tokens.toml"), "no tokens").expect("written");
    let report = patient.examine(&[]).expect(1).json();
    assert_check(&report, "database", "failed", "move it away");
    assert_check(&report, "tokens", "failed", "tokens.toml");

    let file = data_dir.join("crawlcache.db");
    let mut command = command(&["doctor", "--json", "--set", "server.listen=0.0.0.0:0", "--data-dir"]);
    let report = Done::from(command.arg(file).output().expect("started")).expect(1).json();
    assert_check(&report, "data directory", "failed", "is a file");
}

#[test]
fn a_service_open_to_all_needs_tokens() {
    let patient = Patient::new();
    let mut command = command(&["doctor", "--json", "--set", "server.listen=0.0.0.0:0", "--data-dir"]);
    let report =
        Done::from(command.arg(patient.directory.path()).output().expect("started")).expect(1).json();
    assert_check(&report, "tokens", "failed", "crawlcache token create");
}

#[test]
fn everything_is_tried_on_dynamodb() {
    let Some(local) = Local::new() else { return };
    let patient = Patient::new();
    let prefix = ("CRAWLCACHE_DYNAMODB__TABLE_PREFIX", local.prefix.as_str());
    let report = patient.examine_aws(&local.endpoint, &[prefix]).expect(1).json();
    assert_check(&report, &format!("{} table", local.results()), "failed", "crawlcache tables create");

    local.run(&["tables", "create"]).expect(0);
    let report = patient.examine_aws(&local.endpoint, &[prefix]).expect(0).json();
    assert_check(&report, "dynamodb", "ok", "environment DYNAMODB_ENDPOINT");
    assert_check(&report, "credentials", "ok", "ends in MPLE, from Environment");
    assert_check(&report, "reachability", "ok", "ms");
    assert_check(&report, "clock", "ok", "s");
    for operation in ["DescribeTable", "DescribeTimeToLive", "GetItem", "BatchGetItem", "Query", "PutItem"] {
        assert_check(&report, &format!("dynamodb:{operation} on {}", local.sessions()), "ok", "allowed");
    }
    for operation in ["UpdateItem", "DeleteItem"] {
        assert_check(&report, &format!("dynamodb:{operation} on {}", local.results()), "ok", "allowed");
    }
    let scan =
        crate::aws::ask(&local.endpoint, "Scan", &format!("{{\"TableName\":\"{}\"}}", local.results()));
    assert!(scan.contains("\"Count\":0"), "nothing is left: {scan}");
}

#[test]
fn read_only_writes_nothing() {
    let Some(local) = Local::new() else { return };
    local.run(&["tables", "create"]).expect(0);
    let standin = StandIn::start(Some(local.endpoint.clone()), |_| None);
    let mut command = local.command(&["doctor", "--dynamodb", "--read-only"]);
    Patient::new().prepare(&mut command);
    let done =
        Done::from(command.env("DYNAMODB_ENDPOINT", &standin.url).output().expect("started")).expect(0);
    assert!(done.text().contains("dynamodb:Query") && !done.text().contains("dynamodb:PutItem"), "{done:?}");
    let writes = ["PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"];
    let asked = standin.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| !writes.contains(&asked.as_str())), "{asked:?}");
}

#[test]
fn a_wrong_schema_is_found() {
    let Some(local) = Local::new() else { return };
    local.foreign(&local.results(), "id", &[], "");
    let prefix = ("CRAWLCACHE_DYNAMODB__TABLE_PREFIX", local.prefix.as_str());
    let report = Patient::new().examine_aws(&local.endpoint, &[prefix]).expect(1).json();
    assert_check(&report, &format!("{} keys", local.results()), "failed", "must be url (S)");
}

#[test]
fn an_endpoint_that_is_away_is_explained() {
    let patient = Patient::new();
    let report = patient.examine_aws("http://127.0.0.1:1", &[]).expect(1).json();
    assert_check(&report, "reachability", "failed", "nothing listens there");
    assert_check(&report, "permissions", "skipped", "first");

    let report = patient.examine_aws("http://nowhere.invalid:8000", &[]).expect(1).json();
    assert_check(&report, "reachability", "failed", "DNS");

    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let soon =
        [("CRAWLCACHE_DYNAMODB__ATTEMPT_MILLIS", "200"), ("CRAWLCACHE_DYNAMODB__OPERATION_MILLIS", "400")];
    let report = patient.examine_aws(&url, &soon).expect(1).json();
    assert_check(&report, "reachability", "failed", "timeout");

    let standin = StandIn::refusing(Refusal::new("ValidationException", "no TLS here"));
    let report = patient.examine_aws(&standin.url.replace("http:", "https:"), &[]).expect(1).json();
    assert_check(&report, "reachability", "failed", "TLS");
}

#[test]
fn credentials_are_told_apart() {
    let patient = Patient::new();
    for (code, message, part) in [
        ("ExpiredTokenException", "The security token included in the request is expired", "aws sso login"),
        (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            "AWS_ACCESS_KEY_ID",
        ),
        (
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided.",
            "AWS_SECRET_ACCESS_KEY",
        ),
    ] {
        let standin = StandIn::refusing(Refusal::new(code, message));
        let report = patient.examine_aws(&standin.url, &[]).expect(1).json();
        assert_check(&report, "reachability", "ok", "answers");
        let checks = report["checks"].as_array().expect("a list");
        let failed: Vec<_> = checks.iter().filter(|check| check["status"] == json!("failed")).collect();
        assert_eq!(failed.len(), 1, "{report:#}");
        let text = failed[0].to_string();
        assert!(text.contains("credentials") && text.contains(part), "{text}");
        assert_eq!(standin.asked().len(), 1, "no more is tried");
    }
    // Not on a loopback address, where a dummy pair would do.
    let none = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_REGION", "us-east-1")];
    let report = patient.examine_aws("http://nowhere.invalid:8000", &none).expect(1).json();
    assert_check(&report, "credentials", "failed", "AWS_PROFILE");
}

#[test]
fn a_wrong_clock_is_found() {
    let patient = Patient::new();
    let message = "Signature expired: 20260115T100000Z is now earlier than 20260115T101500Z";
    let refusal = Refusal { clock_ahead_seconds: 1200, ..Refusal::new("InvalidSignatureException", message) };
    let report = patient.examine_aws(&StandIn::refusing(refusal).url, &[]).expect(1).json();
    assert_check(&report, "clock", "failed", "NTP");
    assert!(find(&report, "clock")["detail"].as_str().expect("text").contains("s behind"), "{report}");
}

#[test]
fn missing_permissions_are_named() {
    let Some(local) = Local::new() else { return };
    local.run(&["tables", "create"]).expect(0);
    let standin = StandIn::start(Some(local.endpoint.clone()), |operation| {
        let message =
            format!("User: arn:aws:iam::1:user/a is not authorized to perform: dynamodb:{operation}");
        ["UpdateItem", "Query"].contains(&operation).then(|| Refusal::new("AccessDeniedException", message))
    });
    let prefix = ("CRAWLCACHE_DYNAMODB__TABLE_PREFIX", local.prefix.as_str());
    let report = Patient::new().examine_aws(&standin.url, &[prefix]).expect(1).json();
    let results = local.results();
    assert_check(
        &report,
        &format!("dynamodb:UpdateItem on {results}"),
        "failed",
        "allow `dynamodb:UpdateItem` on",
    );
    assert_check(
        &report,
        &format!("dynamodb:Query on {results}/index/time-index"),
        "failed",
        "access denied",
    );
    assert_check(&report, &format!("dynamodb:PutItem on {results}"), "ok", "allowed");
}

#[test]
fn throttling_is_told() {
    let Some(local) = Local::new() else { return };
    local.run(&["tables", "create"]).expect(0);
    let standin = StandIn::start(Some(local.endpoint.clone()), |operation| {
        let code = "ProvisionedThroughputExceededException";
        (operation == "GetItem").then(|| Refusal::new(code, "The level of configured provisioned throughput"))
    });
    let prefix = ("CRAWLCACHE_DYNAMODB__TABLE_PREFIX", local.prefix.as_str());
    let report = Patient::new().examine_aws(&standin.url, &[prefix]).expect(1).json();
    assert_check(&report, "dynamodb:GetItem", "failed", "on demand");
}

#[test]
fn without_the_right_to_look_the_rest_is_tried() {
    let Some(local) = Local::new() else { return };
    local.run(&["tables", "create"]).expect(0);
    let standin = StandIn::start(Some(local.endpoint.clone()), |operation| {
        (operation == "DescribeTable").then(|| Refusal::new("AccessDeniedException", "not authorized"))
    });
    let prefix = ("CRAWLCACHE_DYNAMODB__TABLE_PREFIX", local.prefix.as_str());
    let report = Patient::new().examine_aws(&standin.url, &[prefix]).expect(1).json();
    let results = local.results();
    assert_check(
        &report,
        &format!("dynamodb:DescribeTable on {results}"),
        "failed",
        "allow `dynamodb:DescribeTable`",
    );
    assert_check(&report, &format!("dynamodb:PutItem on {results}"), "ok", "allowed");
    assert_check(&report, &format!("dynamodb:Query on {results}/index/time-index"), "ok", "allowed");
    assert_check(&report, "tables", "failed", "access denied");
}
