"""Rows for a hit in memory beside what others do with the same bytes: bare hyper, nginx, Varnish, webdis, Redis, memcached."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import JSON, KEY, ZSTD, Bench, expect
from load import Sample, Wrk, sample
from peer_servers import (
    VALUE_KEY, ask_until, exchange, find_programs, set_in_memcached, set_in_redis, start_memcached, start_nginx_cache,
    start_nginx_static, start_redis, start_varnish, start_webdis,
)
from processes import Answer, Process, ask, start_bare, start_service
from table import LeftOut, Row, Versus

SIZES = (4_000, 30_000, 150_000)
# The size that the targets speak of, and by how much each is to be met there.
TARGET_SIZE = 30_000
LEAST = {"bare hyper": 0.85, "nginx proxy_cache": 1.0, "Varnish": 1.0, "webdis on Redis": 2.0}
# What an origin may use in a round although it is not asked: a tick or two of its clock.
IDLE_SECONDS = 0.03
LARGE_BYTES = 30_000_000
LARGE_CLIENTS = 8
OURS = "crawlcache"
# What each side needs of the programs that may not be there.
NEEDS = {
    "nginx static": ("nginx",),
    "nginx proxy_cache": ("nginx",),
    "Varnish": ("varnishd",),
    "webdis on Redis": ("redis-server", "webdis"),
    "Redis, own protocol": ("redis-server",),
    "memcached, own protocol": ("memcached",),
}
Run = Callable[[float], Sample]


@dataclass
class Hit:
    """The answer that everyone is to give, and where the sides keep their files."""

    bench: Bench
    stack: ExitStack
    folder: Path
    answer: Answer
    headers: dict[str, str]
    wrk: Wrk

    def of_http(self, process: Process, path: str, *, coded: bool = True) -> Run:
        """Load over HTTP, after a look at the answer: the same bytes, and the same coding unless it cannot say that."""
        same = ask_until(process, path, self.headers)
        who = f"the answer of {process.arguments[0]}"
        expect((same.status, same.body) == (self.answer.status, self.answer.body), who)
        for name in ("content-type", "content-encoding") if coded else ("content-type",):
            expect(same.header(name) == self.answer.header(name), f"{name} in {who}")
        # Of few large answers too much is under way when the time is up.
        length = len(self.answer.body) if len(self.answer.body) < LARGE_BYTES // 10 else None
        return lambda seconds: self.wrk.run(process, path, seconds, self.headers, body_bytes=length)

    def of_cache(self, process: Process, origin: Process) -> Run:
        """Load on a cache in front of `origin`, which must have nothing to do meanwhile."""
        run = self.of_http(process, "/")

        def checked(seconds: float) -> Sample:
            before = origin.cpu_seconds()
            measured = run(seconds)
            expect(origin.cpu_seconds() - before <= IDLE_SECONDS, f"{process.arguments[0]} asks its origin")
            return measured

        return checked

    def of_protocol(self, process: Process, protocol: str, request: bytes, answer: bytes) -> Run:
        """Load in another protocol."""
        expect(exchange(process.address, request, len(answer)) == answer, f"the value in {protocol}")
        value = self.folder / f"{protocol}.value"
        value.write_bytes(self.answer.body)
        work = ["--key", VALUE_KEY, "--value", str(value), protocol]
        command = [self.bench.loop_of("peer_load"), "--address", process.address, "--clients", str(self.wrk.clients), *work]

        def run(seconds: float) -> Sample:
            before = process.cpu_seconds()
            report = subprocess.run([*command, "--seconds", str(seconds)], check=True, stdout=subprocess.PIPE, text=True).stdout
            return sample(json.loads(report), process.cpu_seconds() - before)

        return run


def store(bench: Bench, service: Process, document: bytes) -> None:
    """Puts the document, and has it brought into memory."""
    put = ask(service.address, "PUT", f"{KEY}0", JSON, document)
    expect(put.status in (200, 201), f"the put answers {put.status}")
    ask(service.address, "GET", f"{KEY}0", ZSTD)


def checked_hit(service: Process, document: bytes, headers: dict[str, str]) -> Answer:
    """An answer from memory, which has the document in it."""
    answer = ask_until(service, f"{KEY}0", headers)
    expect(answer.status == 200, f"the hit answers {answer.status}")
    expect("detail=memory" in (answer.header("cache-status") or ""), "the hit is not from memory")
    body = answer.body
    if headers:
        expect(answer.header("content-encoding") == "zstd", "the hit is not zstd")
        if shutil.which("zstd") is None:
            expect(body[:4] == b"\x28\xb5\x2f\xfd", "the body is no zstd frame")
            return answer
        body = subprocess.run(["zstd", "-dc"], input=body, check=True, capture_output=True).stdout
    expect(json.loads(body) == json.loads(document), "the document came back changed")
    return answer


def start_sides(hit: Hit, programs: dict[str, str]) -> dict[str, Run]:
    """Starts everyone who can be had, and says how to measure each."""
    sides: dict[str, Run] = {}
    bare = hit.stack.enter_context(start_bare(hit.bench.bare, hit.answer, hit.folder / "body"))
    sides["bare hyper"] = hit.of_http(bare, "/")
    enter = hit.stack.enter_context
    if nginx := programs.get("nginx"):
        static = enter(start_nginx_static(nginx, hit.folder / "nginx-static", hit.answer))
        sides["nginx static"] = hit.of_http(static, f"/{VALUE_KEY}")
        cache = enter(start_nginx_cache(nginx, hit.folder / "nginx-cache", bare))
        sides["nginx proxy_cache"] = hit.of_cache(cache, bare)
    if varnishd := programs.get("varnishd"):
        sides["Varnish"] = hit.of_cache(enter(start_varnish(varnishd, hit.folder / "varnish", bare)), bare)
    body, key = hit.answer.body, VALUE_KEY.encode()
    if redis_server := programs.get("redis-server"):
        redis = enter(start_redis(redis_server, hit.folder / "redis"))
        set_in_redis(redis, body)
        if webdis := programs.get("webdis"):
            front = enter(start_webdis(webdis, hit.folder / "webdis", redis))
            # It can set the type, but not the coding.
            sides["webdis on Redis"] = hit.of_http(front, f"/GET/{VALUE_KEY}?type=application/json", coded=False)
        sides["Redis, own protocol"] = hit.of_protocol(
            redis, "redis", b"GET %s\r\n" % key, b"$%d\r\n%s\r\n" % (len(body), body))
    if memcached := programs.get("memcached"):
        values = enter(start_memcached(memcached, hit.folder / "memcached"))
        set_in_memcached(values, body)
        sides["memcached, own protocol"] = hit.of_protocol(
            values, "memcached", b"get %s\r\n" % key, b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (key, len(body), body))
    return sides


def rows(bench: Bench) -> list[Row]:
    """The same bytes from everyone, in the same rounds."""
    programs = find_programs(*sorted({name for needs in NEEDS.values() for name in needs}))
    made: list[Row] = []
    for size in SIZES:
        made += rows_of_size(bench, programs, size)
    for side, needs in NEEDS.items():
        if missing := [name for name in needs if name not in programs]:
            made.append(LeftOut(f"memory hit, zstd, against {side}", f"{' and '.join(missing)} cannot be had here"))
    return made


def rows_of_size(bench: Bench, programs: dict[str, str], size: int) -> list[Row]:
    folder = bench.data_dir(f"peers-{size}")
    folder.mkdir()
    document = (bench.bodies.stored(size) / "0000.json").read_bytes()
    with ExitStack() as stack:
        service = stack.enter_context(start_service(bench.service, folder / "crawlcache")[0])
        store(bench, service, document)
        answer = checked_hit(service, document, ZSTD)
        hit = Hit(bench, stack, folder, answer, ZSTD, bench.wrk)
        sides = {OURS: hit.of_http(service, f"{KEY}0"), **start_sides(hit, programs)}
        samples = bench.in_turn(sides, bench.options.seconds if size == TARGET_SIZE else bench.brief)
    title = f"memory hit, zstd, {size // 1000} KB stored, {len(answer.body):,} B"
    least = LEAST if size == TARGET_SIZE else {}
    return [
        Versus(title, name, ours=samples[OURS], reference=samples[name], least_ratio=least.get(name))
        for name in sides if name != OURS
    ]


def large_rows(bench: Bench) -> list[Row]:
    """One document of many megabytes, few clients."""
    programs = find_programs("nginx")
    document = (bench.bodies.of_json(LARGE_BYTES, 1) / "0000.json").read_bytes()
    wrk = Wrk(bench.options.threads, min(bench.options.clients, LARGE_CLIENTS))
    made: list[Row] = []
    for name, headers in (("zstd", ZSTD), ("identity", {})):
        folder = bench.data_dir(f"large-{name}")
        folder.mkdir()
        with ExitStack() as stack:
            service = stack.enter_context(start_service(bench.service, folder / "crawlcache")[0])
            store(bench, service, document)
            answer = checked_hit(service, document, headers)
            hit = Hit(bench, stack, folder, answer, headers, wrk)
            sides = {OURS: hit.of_http(service, f"{KEY}0"), **start_sides(hit, programs)}
            sides.pop("nginx proxy_cache", None)
            samples = bench.in_turn(sides, bench.brief)
        title = f"{len(document) / 1e6:.0f} MB document, {name}, {len(answer.body):,} B, {wrk.clients} clients"
        made += [Versus(title, side, ours=samples[OURS], reference=samples[side]) for side in sides if side != OURS]
        if "nginx" not in programs:
            made.append(LeftOut(f"{title}, against nginx static", "nginx cannot be had here"))
    return made
