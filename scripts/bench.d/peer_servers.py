"""The servers that crawlcache is compared with: each is configured for speed, keeps to a folder of its own, and stays in the foreground."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from processes import READY_SECONDS, TICKS_PER_SECOND, Answer, Headers, Process, ask, free_address

SCRIPTS = Path(__file__).resolve().parent.parent
VALUE_KEY = "document"
# What these servers write themselves.
OWN_HEADERS = ("date", "content-length", "content-type", "connection", "transfer-encoding")


def find_programs(*names: str) -> dict[str, str]:
    """The programs that can be had, by name; on standard error, why the others cannot."""
    done = subprocess.run([SCRIPTS / "fetch-peers", *names], stdout=subprocess.PIPE, text=True, check=False)
    lines = (line.partition(" ") for line in done.stdout.splitlines())
    return {name: path for name, _, path in lines}


def reach(name: str) -> bool:
    """Whether a program can be had: it is on the PATH then."""
    if shutil.which(name) is None and (found := find_programs(name)):
        os.environ["PATH"] += os.pathsep + str(Path(found[name]).parent)
    return shutil.which(name) is not None


class Peer(Process):
    """A server of several processes: its CPU time is that of its children too, and of the servers behind it."""

    behind: tuple[Process, ...] = ()

    def cpu_seconds(self) -> float:
        own = {self.child.pid}
        ticks = 0
        stats = sorted((int(path.name), path) for path in Path("/proc").iterdir() if path.name.isdigit())
        for pid, path in stats:
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            # A child's number is the greater one, but where the numbers began anew.
            if pid in own or int(fields[1]) in own:
                own.add(pid)
                ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_SECOND + sum(process.cpu_seconds() for process in self.behind)


def launch(arguments: list[str | Path], address: str, folder: Path) -> Peer:
    """Starts a server and waits until it accepts connections. Its folder gets the log."""
    log = folder / "log"
    with log.open("w") as output:
        child = subprocess.Popen(arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True)
    peer = Peer(arguments, address, child)
    host, _, port = address.partition(":")
    begun = time.perf_counter()
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return peer
        except OSError:
            if child.poll() is not None or time.perf_counter() - begun > READY_SECONDS:
                child.kill()
                child.wait()
                raise RuntimeError(f"{arguments[0]} does not get ready:\n{log.read_text()}") from None
        time.sleep(0.01)


def cores() -> int:
    return os.cpu_count() or 1


def start_nginx(program: str, folder: Path, location: str, outside: str = "") -> Peer:
    """nginx with one location, as one would set it up to be fast: no access log, connections that are kept."""
    folder.mkdir()
    address = free_address()
    # Its workers give up root otherwise, and then cannot read the scratch directory.
    user = "user root;\n" if os.geteuid() == 0 else ""
    folders = "".join(f"    {kind}_temp_path {kind}_temp;\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"""{user}daemon off;
pid nginx.pid;
error_log stderr error;
worker_processes auto;
worker_rlimit_nofile 8192;
events {{
    worker_connections 4096;
}}
http {{
{folders}    types {{}}
    default_type application/json;
    access_log off;
    server_tokens off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=1h;
    open_file_cache_valid 1h;
    {outside}
    server {{
        listen {address} reuseport;
        location / {{
{location}
        }}
    }}
}}
""")
    return launch([program, "-p", f"{folder}/", "-e", "stderr", "-c", "nginx.conf"], address, folder)


def start_nginx_static(program: str, folder: Path, answer: Answer) -> Peer:
    """The body as a file, with the headers of `answer`."""
    pages = folder.with_name(f"{folder.name}-pages")
    pages.mkdir()
    (pages / VALUE_KEY).write_bytes(answer.body)
    headers = "\n".join(
        f"            add_header {name} '{value}';"
        for name, value in answer.headers if name.lower() not in OWN_HEADERS
    )
    return start_nginx(program, folder, f"            root {pages};\n            etag off;\n{headers}")


def start_nginx_cache(program: str, folder: Path, origin: Process) -> Peer:
    """A caching proxy in front of `origin`, which keeps what `origin` says must not be kept."""
    keep = "proxy_cache_path cache levels=1:2 keys_zone=pages:10m max_size=1g inactive=1d use_temp_path=off;"
    return start_nginx(program, folder, outside=keep, location=f"""            proxy_pass http://{origin.address};
            proxy_http_version 1.1;
            proxy_cache pages;
            proxy_cache_valid 200 1h;
            proxy_ignore_headers Cache-Control Expires Vary;""")


def start_varnish(program: str, folder: Path, origin: Process) -> Peer:
    """Varnish in front of `origin`, with what it keeps in memory."""
    folder.mkdir()
    host, _, port = origin.address.partition(":")
    (folder / "default.vcl").write_text(f"""vcl 4.1;
backend origin {{
    .host = "{host}";
    .port = "{port}";
}}
sub vcl_recv {{
    return (hash);
}}
sub vcl_backend_response {{
    unset beresp.http.Vary;
    set beresp.ttl = 1h;
    return (deliver);
}}
sub vcl_deliver {{
    unset resp.http.Via;
    unset resp.http.X-Varnish;
}}
""")
    address = free_address()
    # No jail: it would give up root and then could not enter the scratch directory.
    options: list[str | Path] = ["-F", "-j", "none", "-a", address, "-T", "none", "-n", folder / "work", "-s", "malloc,256m", "-f", folder / "default.vcl"]
    options += ["-p", "http_gzip_support=off", "-p", "timeout_idle=3600", "-p", "thread_pool_min=200"]
    return launch([program, *options], address, folder)


def start_redis(program: str, folder: Path) -> Peer:
    """Redis that keeps nothing on disk."""
    folder.mkdir()
    address = free_address()
    host, _, port = address.partition(":")
    options: list[str | Path] = ["--bind", host, "--port", port, "--dir", folder, "--save", "", "--appendonly", "no", "--daemonize", "no"]
    return launch([program, *options], address, folder)


def start_webdis(program: str, folder: Path, redis: Process) -> Peer:
    """webdis in front of that Redis, whose CPU time counts with its own."""
    folder.mkdir()
    address = free_address()
    (folder / "webdis.json").write_text(json.dumps({
        "redis_host": redis.address.partition(":")[0], "redis_port": int(redis.address.partition(":")[2]),
        "http_host": address.partition(":")[0], "http_port": int(address.partition(":")[2]),
        "threads": cores(), "pool_size": 20, "daemonize": False, "database": 0, "verbosity": 0, "logfile": "/dev/null",
    }))
    peer = launch([program, folder / "webdis.json"], address, folder)
    peer.behind = (redis,)
    return peer


def start_memcached(program: str, folder: Path) -> Peer:
    """memcached with a thread for each core."""
    folder.mkdir()
    address = free_address()
    host, _, port = address.partition(":")
    options = ["-l", host, "-p", port, "-U", "0", "-m", "256", "-I", "8m", "-t", str(cores()), "-c", "4096"]
    if os.geteuid() == 0:
        options += ["-u", "root"]
    return launch([program, *options], address, folder)


def exchange(address: str, request: bytes, length: int) -> bytes:
    """One request in a protocol other than HTTP, and as many bytes of its answer."""
    host, _, port = address.partition(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        while len(answer) < length and (piece := connection.recv(1 << 20)):
            answer += piece
    return answer


def set_in_redis(redis: Process, value: bytes) -> None:
    words = [b"SET", VALUE_KEY.encode(), value]
    request = b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    if exchange(redis.address, request, 5) != b"+OK\r\n":
        raise RuntimeError("Redis does not take the value")


def set_in_memcached(memcached: Process, value: bytes) -> None:
    request = b"set %s 0 0 %d\r\n%s\r\n" % (VALUE_KEY.encode(), len(value), value)
    if exchange(memcached.address, request, 8) != b"STORED\r\n":
        raise RuntimeError("memcached does not take the value")


def ask_until(peer: Process, path: str, headers: Headers) -> Answer:
    """The second answer: the first one fills a cache."""
    try:
        ask(peer.address, "GET", path, headers)
        return ask(peer.address, "GET", path, headers)
    except (ConnectionError, http.client.HTTPException) as error:
        raise RuntimeError(f"{peer.arguments[0]} does not answer: {error}") from error
