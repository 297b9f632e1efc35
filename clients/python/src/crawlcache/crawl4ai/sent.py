"""What a run has really sent: Crawl4AI changes the agent of a browser while it works, and reuses contexts."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from .runs import Sent, current

HINT = "sec-ch-ua"
# Headers that a browser sees to itself, whatever it is told, and those that are looked at apart.
MANAGED = frozenset(
    {
        HINT,
        "user-agent",
        "accept-encoding",
        "connection",
        "content-length",
        "cookie",
        "host",
        "keep-alive",
        "te",
        "transfer-encoding",
        "upgrade",
        "upgrade-insecure-requests",
    }
)


class Configured:
    """What a browser was configured to send when it was first seen."""

    def __init__(self, browser: Any) -> None:
        self.agent: str | None = getattr(browser, "user_agent", None)
        self.headers = _lowered(getattr(browser, "headers", None))
        #: The other agents that Crawl4AI has set in this browser since.
        self.others: set[str] = set()


_configured: weakref.WeakKeyDictionary[Any, Configured] = weakref.WeakKeyDictionary()


def configured(browser: Any) -> Configured:
    """What a browser was configured to send; noted with the first call for it."""
    try:
        found = _configured.get(browser)
        if found is None:
            found = _configured[browser] = Configured(browser)
    except TypeError:
        return Configured(browser)
    return found


def differs(config: Any, browser: Any, sent: Sent, hooks: bool) -> bool:
    """Whether a browser has sent something else than the options of the run and the configuration say."""
    if sent.headers is None:
        return False
    asked, headers = configured(browser), _lowered(getattr(browser, "headers", None))
    agent, expected = sent.headers.get("user-agent"), _asked_agent(config, browser)
    if hooks:
        # What a hook sets is part of the variant; what Crawl4AI has set for another run is not.
        return expected is not None and agent != expected and agent in asked.others
    # Those that were taken away since may still be sent.
    names = (headers.keys() | asked.headers.keys()) - MANAGED
    if any(sent.headers.get(name) != headers.get(name) for name in names):
        return True
    if expected is None:
        return False
    hint = asked.headers.get(HINT)
    other_hint = bool(hint) and agent == asked.agent and sent.headers.get(HINT) not in (None, hint)
    return agent != expected or other_hint


def _asked_agent(config: Any, browser: Any) -> str | None:
    """The agent that a run asks for; None where any will do."""
    fixed = bool(getattr(browser, "use_persistent_context", False))
    headers = _lowered(getattr(browser, "headers", None))
    if "user-agent" in headers:
        return headers["user-agent"]
    if not fixed and getattr(config, "user_agent", None):
        return str(config.user_agent)
    if not fixed and (getattr(config, "magic", False) or getattr(config, "user_agent_mode", None) == "random"):
        return None
    return configured(browser).agent


def _lowered(headers: Any) -> dict[str, str]:
    return {str(name).lower(): str(text) for name, text in headers.items()} if isinstance(headers, dict) else {}


async def observe(strategy: Any, response: Any) -> None:
    """Notes for the run under way what a browser has sent for its page."""
    run = current.get()
    if run is None:
        return
    browser = strategy.browser_config
    asked = configured(browser)
    if browser.user_agent != asked.agent:
        asked.others.add(browser.user_agent)
    request = None if response is None else response.request
    while request is not None:
        run.sent.hosts.append(urlsplit(request.url).hostname or "")
        first, request = request, request.redirected_from
        if request is None:
            # Where it is sent on to, Chromium puts its own in the place of some headers.
            run.sent.headers = await first.all_headers()


class Observer:
    """Looks on while Crawl4AI's browser strategy calls its hooks; does nothing while it is not installed."""

    def __init__(self) -> None:
        self._kind: Any = None
        self._original: Any = None
        self._wrapped: Any = None

    def install(self) -> None:
        from crawl4ai.async_crawler_strategy import AsyncPlaywrightCrawlerStrategy as Strategy

        if self._kind is not None:
            return
        original = Strategy.execute_hook

        @functools.wraps(original)
        async def execute_hook(strategy: Any, hook_type: str, *arguments: Any, **keywords: Any) -> Any:
            if hook_type == "after_goto":
                with contextlib.suppress(Exception):
                    await observe(strategy, keywords.get("response"))
            return await original(strategy, hook_type, *arguments, **keywords)

        self._kind, self._original, self._wrapped = Strategy, original, execute_hook
        Strategy.execute_hook = execute_hook

    def uninstall(self) -> None:
        if self._kind is not None and self._kind.__dict__.get("execute_hook") is self._wrapped:
            self._kind.execute_hook = self._original
            self._kind = self._original = self._wrapped = None


def hosts(run: Any, result: Any) -> Iterator[str]:
    """The hosts that a run has been at, as far as they are known."""
    for url in (run.url, getattr(result, "url", None), getattr(result, "redirected_url", None)):
        if isinstance(url, str):
            with contextlib.suppress(ValueError):
                yield urlsplit(url).hostname or ""
    yield from run.sent.hosts
