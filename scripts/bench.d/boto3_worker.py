"""Puts and gets of the same documents on DynamoDB: by boto3, and by urllib3 through crawlcache. Runs in .cache/bench-python.

    boto3_worker.py SERVICE ENDPOINT CORPUS KEYS

Both put the JSON that they are given, and get it as bytes of JSON: boto3 compresses it as the service does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from closed_loop import STRIDE, expect, run_threads, serve

SERVICE, ENDPOINT, KEYS = sys.argv[1], sys.argv[2], int(sys.argv[4])
# Of this directory, some of whose modules have names of packages.
del sys.path[0]

import boto3  # noqa: E402
import urllib3  # noqa: E402
from botocore.config import Config  # noqa: E402

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TABLE, PAGE, LEVEL, CONNECTIONS = "boto3-results", "https://bench.example/page/", 3, 64
DOCUMENTS = [path.read_bytes() for path in sorted(Path(sys.argv[3]).iterdir())]
JSON_BODY = {"Content-Type": "application/json"}
dynamodb = boto3.client(
    "dynamodb", endpoint_url=ENDPOINT, region_name="us-east-1", aws_access_key_id="dummy", aws_secret_access_key="dummy",
    config=Config(max_pool_connections=CONNECTIONS, retries={"mode": "standard", "max_attempts": 4}),
)
http = urllib3.PoolManager(maxsize=CONNECTIONS)


def document(number: int) -> bytes:
    return DOCUMENTS[number % len(DOCUMENTS)]


def put_item(number: int) -> None:
    frame = zstd.compress(document(number), level=LEVEL)
    dynamodb.put_item(TableName=TABLE, Item={"url": {"S": f"{PAGE}{number}"}, "frame": {"B": frame}})


def get_item(number: int) -> bytes:
    found = dynamodb.get_item(TableName=TABLE, Key={"url": {"S": f"{PAGE}{number * STRIDE % KEYS}"}})
    return zstd.decompress(found["Item"]["frame"]["B"])


def put_result(number: int) -> None:
    put = http.request("PUT", f"{SERVICE}/v1/result?url={PAGE}{number}", body=document(number), headers=JSON_BODY)
    expect(put.status == 201, f"the put answers {put.status}")


def get_result(number: int) -> bytes:
    url = f"{SERVICE}/v1/result?url={PAGE}{number * STRIDE % KEYS}"
    answer = http.request("GET", url, headers={"Accept-Encoding": "zstd"}, decode_content=False)
    expect(answer.status == 200, f"the get answers {answer.status}")
    return zstd.decompress(answer.data)


def fill() -> object:
    """Puts every document on both sides, and compares all of both."""
    key = [{"AttributeName": "url", "KeyType": "HASH"}]
    dynamodb.create_table(
        TableName=TABLE, BillingMode="PAY_PER_REQUEST", KeySchema=key,
        AttributeDefinitions=[{"AttributeName": "url", "AttributeType": "S"}],
    )
    for number in range(KEYS):
        put_item(number)
        put_result(number)
    for number in range(KEYS):
        expect(json.loads(get_item(number)) == json.loads(get_result(number)), "both have the same document")
    return {"keys": KEYS}


serve({
    "fill": fill,
    "get_item": lambda seconds, at_once: run_threads(get_item, seconds, at_once),
    "get_result": lambda seconds, at_once: run_threads(get_result, seconds, at_once),
    "put_item": lambda seconds, at_once, first: run_threads(put_item, seconds, at_once, first),
    "put_result": lambda seconds, at_once, first: run_threads(put_result, seconds, at_once, first),
})
