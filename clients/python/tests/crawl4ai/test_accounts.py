"""No account is shown a page of another: two processes that log in in every way there is, one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import crawl4ai
import pytest
from crawl4ai import BrowserConfig
from crawling import config, crawl, status

import crawlcache
import crawlcache.crawl4ai as drop_in

PROGRAM = Path(__file__).with_name("accounts_program.py")
PACKAGE = Path(crawl4ai.__file__).parent
ACCOUNTS = ("alice", "bob")
# Whose variants tell the accounts apart, so that the second run of each is a hit.
KEPT = {
    *(f"http hook {name}" for name in ("namespace", "settings", "model", "slots", "environment", "getenv", "helper")),
    *(f"http hook {name}" for name in ("kept", "method", "called", "partial")),
    "http address",
    "http headers",
    "browser script",
    "browser hook",
    "browser hook once",
    "browser cookies",
    "browser storage state",
}
pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def found(_service: Any, account_site: Any, chromium: str, tmp_path_factory: Any) -> dict[str, Any]:
    """What both accounts were shown, and where: one after the other, though they are started together."""
    started = {account: process(account, _service, account_site, chromium, tmp_path_factory) for account in ACCOUNTS}
    shown = {}
    for account, one in started.items():
        output, errors = one.communicate("begin\n")
        assert one.returncode == 0, errors
        shown[account] = json.loads(output.splitlines()[-1])
    return shown


@pytest.fixture(scope="module")
def account_site() -> Any:
    from site_ import Site

    running = Site()
    running.url = running.url.replace("127.0.0.1", "localhost")
    yield running
    running.stop()


def process(account: str, service: Any, site: Any, chromium: str, directories: Any) -> subprocess.Popen[str]:
    directory = directories.mktemp(account)
    (directory / "token").write_text(account)
    module = f"import types\nSETTINGS = types.SimpleNamespace(user={account!r})\n"
    (directory / "account_of_test.py").write_text(module)
    work = {
        "service": service.url,
        "site": site.url,
        "account": account,
        "chromium": chromium,
        # The same path in both, as in two containers.
        "file": "token",
    }
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), json.dumps(work)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("CRAWLCACHE_")},
            "HOME": str(directory),
            "CRAWL4_AI_BASE_DIRECTORY": str(directory),
            "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), str(directory)]),
        },
    )


def of_accounts(found: Any) -> dict[str, list[str]]:
    return {name: seen for name, seen in found["cases"].items() if name not in ("browser agent", "browser magic")}


def test_each_is_shown_its_own(found: Any) -> None:
    for account in ACCOUNTS:
        cases = of_accounts(found[account])
        assert len(cases) >= 29
        # One that failed has its error there.
        wrong = {name: seen for name, seen in cases.items() if {one.partition(" ")[0] for one in seen} != {account}}
        assert not wrong


def test_what_can_be_told_apart_is_still_cached(found: Any) -> None:
    for account in ACCOUNTS:
        cases = of_accounts(found[account])
        hits = {name for name, seen in cases.items() if seen == [f"{account} miss", f"{account} hit"]}
        assert hits == KEPT
        skipped = found[account]["metrics"]["skipped"]
        assert all(skipped[reason] > 0 for reason in ("state", "session", "unhashable"))


def test_nothing_of_theirs_is_anybodys(found: Any, service: Any, account_site: Any) -> None:
    """A crawler that is logged in nowhere sees neither, and no page of theirs is stored under the default variant."""
    url = account_site.url
    paths = {path for _, path, _ in account_site.requests if path.split("/")[1] in ("private", "sso")}
    assert len(paths) > 20

    async def work(crawler: Any) -> None:
        for path in sorted(paths - {"/sso/http", "/sso/browser"}):
            result = await crawler.arun(f"{url}{path}", config=config())
            assert "account-nobody" in result.html
            assert status(result) == "miss"

    drop_in.install(service.url)
    try:
        crawl(work)
    finally:
        drop_in.uninstall()
    with crawlcache.Client(service.url) as client:
        for path in paths:
            plain = client.get(f"{url}{path}")
            assert not plain or not any(account in json.dumps(plain.document) for account in ACCOUNTS), path


def test_no_page_is_stored_that_was_asked_for_as_another(found: Any) -> None:
    agent = BrowserConfig().user_agent
    alice, bob = (found[account]["cases"]["browser agent"] for account in ACCOUNTS)
    assert alice == ["alice-agent miss"] * 2
    assert bob == [f"{agent} miss", f"{agent} hit"]
    assert found["alice"]["metrics"]["skipped"]["sent"] == 2
    assert found["bob"]["metrics"]["skipped"]["sent"] == 0


def test_a_random_agent_is_no_other_page(found: Any) -> None:
    first, second = (found[account]["cases"]["browser magic"] for account in ACCOUNTS)
    assert [seen.rpartition(" ")[2] for seen in first + second] == ["miss", "hit", "hit", "hit"]
    assert len({seen.rpartition(" ")[0] for seen in first + second}) == 1
