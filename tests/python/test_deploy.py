"""What is deployed is valid and is what the documents say: the templates, the policies, the image, the scripts.

Nothing here needs an AWS account or a container engine. Where a real server can be asked, one is: the tables of the
template are made on DynamoDB Local, and the root directory of the image is entered and the program run inside it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import parliament
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import BINARY, ROOT
from moto import mock_aws

DEPLOY = ROOT / "deploy"
TEMPLATES = sorted((DEPLOY / "cloudformation").glob("*.yaml"))
TABLES_TEMPLATE = DEPLOY / "cloudformation" / "crawlcache.yaml"
POLICIES = sorted((DEPLOY / "iam").glob("*.json"))

# The schema that crawlcache itself makes. It is frozen: another one would be another table.
RESULTS_INDEXES = {"time-index": ("time_shard", "listed_at"), "host-index": ("host_shard", "listed_at")}
SESSIONS_INDEXES = {"project-index": ("project_key", "project_order"), "status-index": ("status_shard", "status_order")}


# --- reading templates ---------------------------------------------------------------------------------------------


class TemplateLoader(yaml.SafeLoader):
    """Reads the short forms of CloudFormation's functions as their long forms."""


def long_form(loader: TemplateLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    """`!Sub x` is `{"Fn::Sub": x}`; `!Ref` and `!Condition` have no prefix."""
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


TemplateLoader.add_multi_constructor("!", long_form)


def template(path: Path) -> dict[str, Any]:
    """A template with its functions in their long form."""
    return yaml.load(path.read_text(), Loader=TemplateLoader)


NOTHING = object()


class Resolved:
    """The tables template with parameters put in: only the functions that its tables and policies use."""

    def __init__(self, **given: str) -> None:
        self.document = template(TABLES_TEMPLATE)
        declared = self.document["Parameters"]
        assert given.keys() <= declared.keys(), f"the template has no parameter {given.keys() - declared.keys()}"
        self.parameters = {name: given.get(name, what.get("Default")) for name, what in declared.items()}

    def condition(self, what: Any) -> bool:
        """The value of a condition, by name or as an expression."""
        if isinstance(what, str):
            return self.condition(self.document["Conditions"][what])
        ((function, value),) = what.items()
        match function:
            case "Fn::Equals":
                left, right = (self.value(side) for side in value)
                return left == right
            case "Fn::Not":
                return not self.condition(value[0])
            case "Fn::Or":
                return any(self.condition(each) for each in value)
            case "Condition":
                return self.condition(value)
        raise AssertionError(f"unknown condition {function}")

    def substituted(self, match: re.Match[str]) -> str:
        """What stands for one `${...}`."""
        name = match.group(1)
        fixed = {"AWS::Partition": "aws", "AWS::Region": "eu-central-1", "AWS::AccountId": "123456789012"}
        if name in fixed:
            return fixed[name]
        if name.endswith(".Arn"):
            return self.value({"Fn::GetAtt": name.split(".")})
        return str(self.value({"Ref": name}))

    def value(self, what: Any) -> Any:
        """The template's value as CloudFormation would hand it to a service."""
        if isinstance(what, list):
            return [each for each in map(self.value, what) if each is not NOTHING]
        if not isinstance(what, dict):
            return what
        if len(what) == 1:
            ((function, value),) = what.items()
            match function:
                case "Ref" if value == "AWS::NoValue":
                    return NOTHING
                case "Ref" if value in self.parameters:
                    return self.parameters[value]
                case "Ref":
                    return self.value(self.document["Resources"][value]["Properties"]["TableName"])
                case "Fn::GetAtt":
                    return f"arn:aws:dynamodb:eu-central-1:123456789012:table/{self.value({'Ref': value[0]})}"
                case "Fn::Sub":
                    return re.sub(r"\$\{([\w:.]+)\}", self.substituted, value)
                case "Fn::If":
                    return self.value(value[1] if self.condition(value[0]) else value[2])
        values = {key: self.value(each) for key, each in what.items()}
        return {key: each for key, each in values.items() if each is not NOTHING}

    def for_moto(self, what: Any) -> Any:
        """The template with its optional list items decided: moto keeps those that are absent as null."""
        if isinstance(what, list):
            return [self.for_moto(self.decided(each)) for each in what if self.decided(each) != {"Ref": "AWS::NoValue"}]
        if isinstance(what, dict) and "Fn::If" in what:
            return {"Fn::If": [what["Fn::If"][0], *map(self.for_moto, what["Fn::If"][1:])]}
        if isinstance(what, dict):
            return {key: self.for_moto(each) if key != "Conditions" else each for key, each in what.items()}
        return what

    def decided(self, what: Any) -> Any:
        """One item of a list; itself unless it is one of those that may be absent."""
        match what:
            case {"Fn::If": [condition, present, {"Ref": "AWS::NoValue"}]}:
                return present if self.condition(condition) else {"Ref": "AWS::NoValue"}
        return what

    def properties(self, resource: str) -> dict[str, Any]:
        """The properties of one resource."""
        return self.value(self.document["Resources"][resource]["Properties"])


# --- the templates -------------------------------------------------------------------------------------------------


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    """cfn-lint's opinion; warnings count, and it downloads nothing."""
    program = Path(os.environ.get("CFN_LINT", shutil.which("cfn-lint", path=f"{Path(os.sys.executable).parent}:{os.environ['PATH']}") or "cfn-lint"))
    return subprocess.run(
        [program, "--non-zero-exit-code", "informational", "-r", "eu-central-1", "us-east-1", "--", path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_templates_have_no_findings(path: Path) -> None:
    done = lint(path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_finds_the_billing_mode_of_the_older_documents(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TABLES_TEMPLATE.read_text().replace("BillingMode: PAY_PER_REQUEST", "BillingMode: ON_DEMAND"))
    done = lint(wrong)
    assert done.returncode != 0
    assert "ON_DEMAND" in done.stdout


def frozen(name: str, key: str, indexes: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """A table as crawlcache makes it, in the words of DescribeTable."""
    attributes = {key} | {attribute for pair in indexes.values() for attribute in pair}
    return {
        "name": name,
        "key": [(key, "HASH")],
        "attributes": {attribute: "S" for attribute in attributes},
        "indexes": {
            index: {"key": [(first, "HASH"), (second, "RANGE")], "projection": "KEYS_ONLY"}
            for index, (first, second) in indexes.items()
        },
    }


def described(table: dict[str, Any]) -> dict[str, Any]:
    """What DescribeTable says, reduced to the schema."""
    def keys(schema: list[dict[str, str]]) -> list[tuple[str, str]]:
        return [(part["AttributeName"], part["KeyType"]) for part in schema]

    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    return {
        "name": table["TableName"],
        "key": keys(table["KeySchema"]),
        "attributes": {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]},
        "indexes": {
            index["IndexName"]: {"key": keys(index["KeySchema"]), "projection": index["Projection"]["ProjectionType"]}
            for index in table.get("GlobalSecondaryIndexes", [])
        },
    }


INDEX_CHOICES = [(True, False), (True, True), (False, True), (False, False)]


def chosen(time_index: bool, host_index: bool) -> dict[str, tuple[str, str]]:
    """The indexes of the results table under two parameters."""
    wanted = {"time-index": time_index, "host-index": host_index}
    return {name: keys for name, keys in RESULTS_INDEXES.items() if wanted[name]}


@pytest.fixture
def dynamodb() -> Any:
    """A client of the DynamoDB Local that the test script started."""
    endpoint = os.environ.get("TEST_DYNAMODB_ENDPOINT")
    if not endpoint:
        if os.environ.get("TEST_REQUIRE_DYNAMODB"):
            pytest.fail("TEST_REQUIRE_DYNAMODB is set, but TEST_DYNAMODB_ENDPOINT is not")
        pytest.skip("no DynamoDB Local: eval \"$(scripts/test-services start)\"")
    return client(endpoint)


def client(endpoint: str) -> Any:
    """A client of a DynamoDB Local, which fails at once rather than repeating."""
    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="dummy",
        aws_secret_access_key="dummy",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize(("time_index", "host_index"), INDEX_CHOICES)
def test_the_template_makes_the_frozen_tables_on_dynamodb_local(dynamodb: Any, time_index: bool, host_index: bool) -> None:
    prefix = f"cfn-{uuid.uuid4().hex[:12]}-"
    stack = Resolved(TablePrefix=prefix, TimeIndex=str(time_index).lower(), HostIndex=str(host_index).lower())
    expected = {
        "ResultsTable": frozen(f"{prefix}crawl4ai-results", "url", chosen(time_index, host_index)),
        "SessionsTable": frozen(f"{prefix}crawl4ai-sessions", "session_id", SESSIONS_INDEXES),
    }
    accepted = {"TableName", "BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes"}
    for resource, schema in expected.items():
        properties = stack.properties(resource)
        name = properties["TableName"]
        dynamodb.create_table(**{key: value for key, value in properties.items() if key in accepted})
        try:
            lifetime = properties["TimeToLiveSpecification"]
            dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=lifetime)
            assert described(dynamodb.describe_table(TableName=name)["Table"]) == schema
            answer = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
            assert answer == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}
        finally:
            dynamodb.delete_table(TableName=name)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS as moto plays it, in this process."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        yield


@pytest.mark.parametrize(("time_index", "host_index"), INDEX_CHOICES)
@pytest.mark.usefixtures("aws")
@pytest.mark.filterwarnings("ignore:Tried to parse AWS..CloudWatch..Alarm")
def test_the_stack_is_created_with_tables_and_policies(time_index: bool, host_index: bool) -> None:
    given = {
        "TablePrefix": "prod-",
        "TimeIndex": str(time_index).lower(),
        "HostIndex": str(host_index).lower(),
        "Bucket": "documents",
        "BucketPrefix": "crawlcache/",
    }
    rendered = Resolved(**given)
    stacks = boto3.client("cloudformation")
    stacks.create_stack(
        StackName="crawlcache",
        TemplateBody=json.dumps(rendered.for_moto(rendered.document)),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    stack = stacks.describe_stacks(StackName="crawlcache")["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    tables = boto3.client("dynamodb")
    expected = {
        outputs["ResultsTableName"]: frozen("prod-crawl4ai-results", "url", chosen(time_index, host_index)),
        outputs["SessionsTableName"]: frozen("prod-crawl4ai-sessions", "session_id", SESSIONS_INDEXES),
    }
    for name, schema in expected.items():
        assert described(tables.describe_table(TableName=name)["Table"]) == schema
    for output in ("RunPolicyArn", "CreatePolicyArn", "MigratePolicyArn", "DeletePolicyArn"):
        assert boto3.client("iam").get_policy(PolicyArn=outputs[output])


@pytest.mark.usefixtures("aws")
def test_alarms_are_accepted_and_notify_the_topic() -> None:
    """moto's CloudFormation makes no alarms, so each is made as CloudFormation would: by CloudWatch's own call."""
    topic = boto3.client("sns").create_topic(Name="alarms")["TopicArn"]
    stack, silent = Resolved(AlarmTopicArn=topic), Resolved()
    cloudwatch = boto3.client("cloudwatch")
    for name, resource in stack.document["Resources"].items():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            cloudwatch.put_metric_alarm(AlarmName=name, **stack.properties(name))
            assert "AlarmActions" not in silent.properties(name), "without a topic nobody is notified"
    alarms = cloudwatch.describe_alarms(MaxRecords=100)["MetricAlarms"]
    assert len(alarms) >= 15
    for alarm in alarms:
        assert alarm["AlarmActions"] == alarm["OKActions"] == [topic], alarm["AlarmName"]
        assert alarm["TreatMissingData"] == "notBreaching", alarm["AlarmName"]


def test_tables_survive_their_stack_and_are_protected() -> None:
    stack = Resolved()
    for resource in ("ResultsTable", "SessionsTable"):
        declared = stack.document["Resources"][resource]
        assert declared["DeletionPolicy"] == declared["UpdateReplacePolicy"] == "Retain"
        properties = stack.properties(resource)
        assert properties["DeletionProtectionEnabled"] == "true"
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": "true"}
        assert "SSESpecification" not in properties, "the key that AWS owns costs nothing"
        key = "arn:aws:kms:eu-central-1:123456789012:key/abc"
        assert Resolved(KmsKeyArn=key).properties(resource)["SSESpecification"]["KMSMasterKeyId"] == key


def test_every_alarm_watches_a_metric_that_exists_with_these_dimensions() -> None:
    """DynamoDB publishes each metric with certain dimensions only; an alarm on others never goes off."""
    known = {
        "ReadThrottleEvents": [{"TableName"}, {"TableName", "GlobalSecondaryIndexName"}],
        "WriteThrottleEvents": [{"TableName"}, {"TableName", "GlobalSecondaryIndexName"}],
        "SystemErrors": [{"TableName", "Operation"}],
        "SuccessfulRequestLatency": [{"TableName", "Operation"}],
        "ConsumedReadCapacityUnits": [{"TableName"}, {"TableName", "GlobalSecondaryIndexName"}],
        "ConsumedWriteCapacityUnits": [{"TableName"}, {"TableName", "GlobalSecondaryIndexName"}],
        "UserErrors": [set()],
    }
    operations = set(botocore.session.get_session().get_service_model("dynamodb").operation_names)
    watched = set()
    indexes = set()
    for name, resource in template(TABLES_TEMPLATE)["Resources"].items():
        if resource["Type"] != "AWS::CloudWatch::Alarm":
            continue
        properties = resource["Properties"]
        metrics = [each["MetricStat"]["Metric"] for each in properties.get("Metrics", []) if "MetricStat" in each]
        for metric in metrics or [properties]:
            assert metric["Namespace"] == "AWS/DynamoDB"
            dimensions = {each["Name"]: each["Value"] for each in metric.get("Dimensions", [])}
            assert set(dimensions) in known[metric["MetricName"]], name
            assert dimensions.get("Operation", "GetItem") in operations, name
            indexes.add(dimensions.get("GlobalSecondaryIndexName"))
            watched.add(metric["MetricName"])
    assert watched == set(known)
    assert indexes - {None} == RESULTS_INDEXES.keys() | SESSIONS_INDEXES.keys()


# --- the policies --------------------------------------------------------------------------------------------------


def actions(policy: dict[str, Any]) -> set[str]:
    """Everything that a policy allows."""
    allowed: set[str] = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        some = statement["Action"]
        allowed |= {some} if isinstance(some, str) else set(some)
    return allowed


def concrete(text: str) -> str:
    """A policy file with its placeholders filled in."""
    for placeholder, value in {"REGION": "eu-central-1", "ACCOUNT": "123456789012", "BUCKET": "documents", "PREFIX": "crawlcache/"}.items():
        text = text.replace(placeholder, value)
    return text


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_are_valid_and_name_what_they_are_for(path: Path) -> None:
    text = concrete(path.read_text())
    findings = parliament.analyze_policy_string(text).findings
    assert not findings, [str(finding) for finding in findings]
    model = botocore.session.get_session()
    policy = json.loads(text)
    for action in actions(policy):
        service, operation = action.split(":")
        assert "*" not in operation, f"{action} allows more than is meant"
        # The permission of `BatchExecuteStatement`, which is none by its own name.
        if service == "dynamodb" and operation != "PartiQLInsert":
            assert operation in model.get_service_model("dynamodb").operation_names
    for statement in policy["Statement"]:
        for resource in statement["Resource"]:
            assert re.match(r"arn:aws:(dynamodb:eu-central-1:123456789012:table/crawl4ai-(results|sessions)|s3:::documents)", resource)


def test_the_check_of_policies_can_fail() -> None:
    made_up = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["dynamodb:ReadItem"],"Resource":["*"]}]}'
    assert parliament.analyze_policy_string(made_up).findings


def test_each_policy_allows_what_its_role_needs_and_no_more() -> None:
    allowed = {path.stem: actions(json.loads(path.read_text())) for path in POLICIES}
    assert set(allowed) == {"run", "create", "migrate", "delete"}
    running = {"GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem", "Query"}
    running |= {"DescribeTable", "DescribeTimeToLive"}
    on_s3 = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"}
    assert allowed["run"] == {f"dynamodb:{each}" for each in running} | on_s3
    copies = {"dynamodb:Scan", "dynamodb:PartiQLInsert", "dynamodb:BatchWriteItem"}
    assert allowed["migrate"] == allowed["run"] | copies
    assert [name for name in allowed if "dynamodb:DeleteTable" in allowed[name]] == ["delete"]
    assert not any("Item" in action for action in allowed["create"])


def test_queries_are_allowed_on_indexes() -> None:
    for name in ("run", "migrate"):
        policy = json.loads((DEPLOY / "iam" / f"{name}.json").read_text())
        (query,) = [each for each in policy["Statement"] if "dynamodb:Query" in each["Action"]]
        tables = {each for each in query["Resource"] if "/index/" not in each}
        assert set(query["Resource"]) == tables | {f"{table}/index/*" for table in tables}
        assert len(tables) == 2


@pytest.mark.parametrize("name", ["run", "create", "migrate", "delete"])
def test_the_policies_of_the_template_are_those_of_the_files(name: str) -> None:
    stack = Resolved(Bucket="documents", BucketPrefix="crawlcache/")
    inside = stack.properties(f"{name.capitalize()}Policy")["PolicyDocument"]
    beside = json.loads(concrete((DEPLOY / "iam" / f"{name}.json").read_text()))

    def comparable(policy: dict[str, Any]) -> list[tuple[Any, ...]]:
        def many(value: Any) -> list[str]:
            return sorted([value] if isinstance(value, str) else value)

        return [
            (each["Sid"], many(each["Action"]), many(each["Resource"]), each.get("Condition"))
            for each in policy["Statement"]
        ]

    assert comparable(inside) == comparable(beside)


# --- the image and compose -----------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text())
    text = re.sub(r"\\\n\s*", " ", text)
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    """The instructions of the stage that becomes the image."""
    lines = instructions()
    start = max(index for index, (word, _) in enumerate(lines) if word == "FROM")
    return lines[start:]


def test_the_image_is_pinned_and_unprivileged() -> None:
    lines = instructions()
    arguments = dict(value.split("=", 1) for word, value in lines if word == "ARG")
    stages: set[str] = set()
    for word, value in lines:
        if word != "FROM":
            continue
        base, _, name = value.partition(" AS ")
        for argument, content in arguments.items():
            base = base.replace(f"${{{argument}}}", content)
        if base not in stages | {"scratch"}:
            assert re.fullmatch(r"[a-z./-]+:\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", base), f"{base} is not pinned"
        if name:
            stages.add(name)
    final = dict(last_stage())
    user = final["USER"].split(":")
    assert all(part.isdigit() and int(part) > 0 for part in user), "a number, so that a runtime can check it"
    health = final["HEALTHCHECK"]
    assert json.loads(health[health.index("CMD ") + 4 :]) == ["/crawlcache", "healthcheck"]
    assert json.loads(final["ENTRYPOINT"]) == ["/crawlcache"], "no shell between the runtime's signals and the program"
    assert json.loads(final["CMD"]) == ["serve"]
    assert final["STOPSIGNAL"] == "SIGTERM"
    assert final["EXPOSE"] == "8080"
    assert final["VOLUME"] == "/data"
    assert "RUN" not in final, "there is nothing to run a command with"
    assert [value for word, value in lines if word == "RUN" and "cargo" in value and "prepare" not in value and "--locked" not in value] == []


def test_the_image_is_built_by_a_compiler_that_is_new_enough() -> None:
    wanted = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["rust-version"]
    (version,) = [value.split("=")[1] for word, value in instructions() if word == "ARG"]
    assert tuple(map(int, version.split("."))) >= tuple(map(int, wanted.split(".")))


def test_everything_that_the_build_copies_reaches_the_engine() -> None:
    """The list of what is sent is a list of exceptions from nothing."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    sent = {line.removeprefix("!") for line in lines[1:]}
    assert all(line.startswith("!") for line in lines[1:])
    assert [path for path in sent if not (ROOT / path).exists()] == []
    for word, value in instructions():
        if word == "COPY" and "--from" not in value:
            for source in value.split()[:-1]:
                assert source == "." or source in sent, f"{source} is not sent"
    # What the build reads: the manifests and their targets, whatever the sources include, the script of the layout.
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    needed = {"Cargo.toml", "Cargo.lock", ".cargo/config.toml", "src/main.rs", "deploy/image/root.sh"}
    needed |= {f"benches/{each['name']}.rs" for each in manifest.get("bench", [])}
    for source in (ROOT / "src").rglob("*.rs"):
        for included in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
            needed.add(os.path.relpath((source.parent / included).resolve(), ROOT))
        for folder in re.findall(r'embed_migrations!\("([^"]+)"\)', source.read_text()):
            needed.add(folder)
    unsent = [path for path in needed if not any(path == each or path.startswith(f"{each}/") for each in sent)]
    assert unsent == []


def enter(root: Path) -> list[str]:
    """What runs a program in another root directory as an unprivileged user."""
    if os.geteuid() == 0:
        return ["chroot", "--userspec=65532:65532", str(root)]
    return ["unshare", "--map-root-user", "chroot", str(root)]


def test_the_program_runs_in_the_root_directory_of_the_image(tmp_path: Path) -> None:
    root = tmp_path / "image"
    tmp_path.chmod(0o755)
    subprocess.run(["bash", DEPLOY / "image" / "root.sh", BINARY, root], check=True, timeout=60)
    here = enter(root)
    if subprocess.run([*here, "/crawlcache", "--version"], capture_output=True, check=False).returncode == 125:
        pytest.skip("this user may not change the root directory")
    version = subprocess.run([*here, "/crawlcache", "--version"], capture_output=True, text=True, check=True, timeout=30)
    assert version.stdout.startswith("crawlcache ")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"CRAWLCACHE_SERVER__LISTEN": f"127.0.0.1:{port}", "CRAWLCACHE_SERVER__DATA_DIR": "/data", "PATH": os.environ["PATH"]}
    with subprocess.Popen([*here, "/crawlcache", "serve"], env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                if "listens on" in line:
                    break
            check = [*here, "/crawlcache", "healthcheck", "--url", f"http://127.0.0.1:{port}"]
            assert subprocess.run(check, env=environment, check=False, timeout=30).returncode == 0
        finally:
            server.terminate()
        server.stderr.read()
        assert server.wait(timeout=60) == 0
    assert subprocess.run(check, env=environment, capture_output=True, check=False, timeout=30).returncode != 0
    shells = [path for path in root.rglob("*") if path.name in ("sh", "bash", "busybox")]
    assert shells == []


def compose() -> dict[str, Any]:
    """The compose file."""
    return yaml.safe_load((ROOT / "docker-compose.aws.yml").read_text())


def test_compose_publishes_the_documented_ports_on_loopback_only() -> None:
    services = compose()["services"]
    assert {name: service["ports"] for name, service in services.items()} == {
        "dynamodb-local": ["127.0.0.1:8000:8000"],
        "dynamodb-admin": ["127.0.0.1:8001:8001"],
        "redis": ["127.0.0.1:6379:6379"],
        "crawlcache": ["127.0.0.1:8080:8080"],
    }
    assert compose()["networks"]["crawl4ai-network"]["name"] == "crawl4ai-network"
    for name, service in services.items():
        assert service["networks"] == ["crawl4ai-network"], name
        assert service["healthcheck"]["test"], name
        if "build" not in service:
            assert re.fullmatch(r"[a-z/-]+:\d+\.\d+\.\d+[\w.-]*", service["image"]), f"{service['image']} is not pinned"
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose()["volumes"], name
    assert services["crawlcache"]["healthcheck"]["test"] == ["CMD", "/crawlcache", "healthcheck"]


def test_compose_runs_the_version_of_dynamodb_local_that_the_tests_run() -> None:
    pinned = (ROOT / "scripts" / "services.d" / "dynamodb-local.xml").read_text()
    version = re.search(r"<artifactId>DynamoDBLocal</artifactId>\s*<version>([\d.]+)</version>", pinned)
    assert version
    assert compose()["services"]["dynamodb-local"]["image"] == f"amazon/dynamodb-local:{version.group(1)}"


def variables() -> dict[str, str]:
    """Every variable of crawlcache that the image and the compose file set."""
    found = dict(compose()["services"]["crawlcache"]["environment"])
    for word, value in last_stage():
        if word == "ENV":
            found |= dict(part.split("=", 1) for part in shlex.split(value))
    return {name: value for name, value in found.items() if name.startswith("CRAWLCACHE_")}


def test_every_variable_that_is_set_is_a_setting() -> None:
    settings = tomllib.loads((ROOT / "config" / "default.toml").read_text())
    assert len(variables()) >= 5
    for name in variables():
        section, _, key = name.removeprefix("CRAWLCACHE_").lower().partition("__")
        assert key in settings.get(section, {}), f"{name} is no setting"


# --- the scripts ---------------------------------------------------------------------------------------------------


def scripts() -> list[Path]:
    """Every shell script that comes with this part of the repository."""
    named = ["test", "test-services", "fetch-dynamodb-local", "fetch-promtool", "fetch-openapi-tools", "go.sh", "start-dynamodb.sh", "services.d/servers.sh"]
    return [*(ROOT / "scripts" / name for name in named), DEPLOY / "image" / "root.sh"]


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_shell_scripts_have_no_findings(path: Path) -> None:
    program = Path(os.sys.executable).parent / "shellcheck"
    done = subprocess.run([program, "-x", path], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Starter:
    """scripts/start-dynamodb.sh with a state of its own, always without Docker."""

    def __init__(self, state: Path) -> None:
        self.environment = {**os.environ, "START_DYNAMODB_DIR": str(state)}

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """One call of the script."""
        return subprocess.run(
            [ROOT / "scripts" / "start-dynamodb.sh", "--no-docker", *options],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=300,
            check=False,
        )

    def start(self, *options: str) -> str:
        """Starts it and returns the endpoint that it printed."""
        done = self.run(*options)
        assert done.returncode == 0, done.stderr
        found = re.search(r"export DYNAMODB_ENDPOINT=(http://127\.0\.0\.1:\d+)", done.stdout)
        assert found, done.stdout
        assert "--stop" in done.stdout
        return found.group(1)


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    """The script, stopped at the end."""
    if shutil.which("java") is None:
        pytest.fail("java is needed: see scripts/test")
    one = Starter(tmp_path / "state")
    yield one
    one.run("--stop")


def put(server: Any) -> None:
    """Makes a table with one item."""
    server.create_table(
        TableName="pages",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "url", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "url", "KeyType": "HASH"}],
    )
    server.put_item(TableName="pages", Item={"url": {"S": "https://example.com/"}, "version": {"N": "1"}})


def stored(server: Any) -> Any:
    """That item."""
    return server.get_item(TableName="pages", Key={"url": {"S": "https://example.com/"}}, ConsistentRead=True).get("Item")


def test_start_dynamodb_starts_answers_and_stops(starter: Starter) -> None:
    endpoint = starter.start("--port", "0")
    server = client(endpoint)
    put(server)
    assert stored(server) == {"url": {"S": "https://example.com/"}, "version": {"N": "1"}}
    with pytest.raises(ClientError) as refused:
        server.update_item(
            TableName="pages",
            Key={"url": {"S": "https://example.com/"}},
            UpdateExpression="SET version = :new",
            ConditionExpression="version = :old",
            ExpressionAttributeValues={":new": {"N": "3"}, ":old": {"N": "2"}},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert refused.value.response["Item"]["version"] == {"N": "1"}

    again = starter.run("--port", "0")
    assert again.returncode == 1
    assert endpoint in again.stderr, "it says that it runs already, and where"

    assert "dynamodb" in starter.run("--stop").stdout
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(endpoint.rsplit(":", 1)[1]))) != 0
    assert "nothing ran" in starter.run("--stop").stdout


def test_start_dynamodb_listens_on_loopback_only(starter: Starter) -> None:
    port = int(starter.start("--port", "0").rsplit(":", 1)[1])
    listening = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    addresses = {row[1].split(":")[0] for row in listening if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    # 127.0.0.1 as the kernel writes it, alone and mapped into IPv6.
    assert addresses
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_start_dynamodb_keeps_tables_in_a_directory(starter: Starter, tmp_path: Path) -> None:
    put(client(starter.start("--port", "0", "--data", str(tmp_path / "tables"))))
    starter.run("--stop")
    assert stored(client(starter.start("--port", "0", "--data", str(tmp_path / "tables")))) is not None


def test_start_dynamodb_refuses_a_port_that_is_taken(starter: Starter) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = starter.run("--port", port)
    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr
    assert "--port" in done.stderr, "it says what to do"


@pytest.mark.parametrize("options", [["--port"], ["--port", "none"], ["--port", "65536"], ["--data"], ["--bogus"]])
def test_start_dynamodb_refuses_wrong_options(starter: Starter, options: list[str]) -> None:
    done = starter.run(*options)
    assert done.returncode == 2
    assert done.stderr.startswith("start-dynamodb.sh: ")


@pytest.mark.parametrize(("version", "complaint"), [(None, "java is needed"), ("11.0.2", "needs 17 or newer")])
def test_start_dynamodb_says_which_java_it_needs(tmp_path: Path, version: str | None, complaint: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "basename", "cat", "dirname", "env", "grep", "head", "mkdir", "rm", "sed", "tr"):
        (programs / name).symlink_to(shutil.which(name) or name)
    if version:
        java = programs / "java"
        java.write_text(f"#!/usr/bin/env bash\necho 'openjdk version \"{version}\"' >&2\n")
        java.chmod(0o755)
    one = Starter(tmp_path / "state")
    one.environment["PATH"] = str(programs)
    done = one.run("--port", "0")
    assert done.returncode == 1
    assert complaint in done.stderr
