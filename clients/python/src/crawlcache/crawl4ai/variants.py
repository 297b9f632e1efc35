"""The variant of a run: a digest of the options that change its result, in two parts, `f<hash>.d<hash>`.

The first part is of what the origin's server and the browser see (fetch options), the second of what is made of the
page afterwards (derived options), so that two runs with the same first part have the same html. A part of nothing but
defaults is `f0` or `d0`; both together are the default variant, the empty text, which plain clients and the importer
use too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import types
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from .canonical import MACHINERY, TOOLS, Unhashable, canonical, is_library_class, state_of
from .sent import configured

# Options that decide how a run goes, not what comes out of it.
IGNORED = frozenset(
    {
        "url",
        "url_matcher",
        "match_mode",
        "cache_mode",
        "bypass_cache",
        "disable_cache",
        "no_cache_read",
        "no_cache_write",
        "check_cache_freshness",
        "cache_validation_timeout",
        "verbose",
        "log_console",
        "stream",
        "page_timeout",
        "wait_for_timeout",
        "body_visibility_timeout",
        "mean_delay",
        "max_range",
        "semaphore_count",
        "proxy",
        "proxy_config",
        "_proxy_config",
        "proxy_rotation_strategy",
        "proxy_session_id",
        "proxy_session_ttl",
        "proxy_session_auto_release",
        "check_robots_txt",
        "deep_crawl_strategy",
        "max_retries",
        "session_id",
        # Asked for with `require=`: a page with a screenshot also serves who wants none.
        "screenshot",
        "pdf",
    }
)
# Options that Crawl4AI applies to the html after it has it. A test compares this with what its browser code reads.
DERIVED = frozenset(
    {
        "word_count_threshold",
        "extraction_strategy",
        "chunking_strategy",
        "markdown_generator",
        "only_text",
        "target_elements",
        "excluded_tags",
        "excluded_selector",
        "keep_data_attributes",
        "keep_attrs",
        "remove_forms",
        "prettiify",
        "parser_type",
        "scraping_strategy",
        "table_extraction",
        "image_description_min_word_threshold",
        "image_score_threshold",
        "exclude_external_images",
        "exclude_all_images",
        "table_score_threshold",
        "exclude_social_media_domains",
        "exclude_external_links",
        "exclude_social_media_links",
        "exclude_domains",
        "exclude_internal_links",
        "score_links",
        "preserve_https_for_internal_links",
        "link_preview_config",
        "prefetch",
    }
)
# Fetch options by which nobody is logged in anywhere. A run with any other one acts on the site.
PASSIVE = frozenset(
    {
        "css_selector",
        "locale",
        "timezone_id",
        "geolocation",
        "user_agent",
        "user_agent_mode",
        "user_agent_generator_config",
        "wait_until",
        "wait_for_images",
        "delay_before_return_html",
        "ignore_body_visibility",
        "scan_full_page",
        "scroll_delay",
        "max_scroll_steps",
        "virtual_scroll_config",
        "process_iframes",
        "flatten_shadow_dom",
        "remove_overlay_elements",
        "remove_consent_popups",
        "simulate_user",
        "override_navigator",
        "magic",
        "adjust_viewport_to_content",
        "screenshot_wait_for",
        "screenshot_height_threshold",
        "force_viewport_screenshot",
        "capture_mhtml",
        "capture_network_requests",
        "capture_console_messages",
        "fetch_ssl_certificate",
        "process_in_browser",
        "base_url",
    }
)
# Parameters of urls that log in whoever follows them.
CREDENTIAL = re.compile(
    r"(?:token|jwt|ticket|secret|credentials?|magic[_-]?link)$"
    r"|(?:^|[_-])(?:otp|sso|saml\w*|magic|passw(?:or)?d|auth|authkey|sid|session(?:[_-]?id)?)$",
    re.IGNORECASE,
)
# Options of a browser that decide where and how it runs. Whether one is attached is looked at apart from them.
BROWSER_IGNORED = frozenset(
    {
        "headless",
        "browser_mode",
        "use_managed_browser",
        "cdp_url",
        "cdp_cleanup_on_close",
        "cdp_close_delay",
        "cache_cdp_connection",
        "create_isolated_context",
        "chrome_channel",
        "channel",
        "proxy",
        "proxy_config",
        "_proxy_config",
        "downloads_path",
        "ignore_https_errors",
        "verify_ssl",
        "sleep_on_close",
        "verbose",
        "debugging_port",
        "host",
        "light_mode",
        "memory_saving_mode",
        "max_pages_before_recycle",
        "browser_hint",
    }
)
# Arguments of Chromium that containers need, and that no page sees.
QUIET_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-setuid-sandbox",
    "--remote-debugging-port",
    "--no-zygote",
    "--single-process",
)
# Keywords of `arun` that its dispatchers add.
QUIET_KEYWORDS = frozenset({"session_id", "task_id", "config", "crawler_config"})


class Uncacheable(Exception):
    """A run that must not be cached: the message says why, `reason` is the word that is counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Options(NamedTuple):
    """The options of a run that count, by their names: what it fetches, how its crawler does, and what is derived."""

    fetch: dict[str, Any]
    crawler: dict[str, Any]
    derived: dict[str, Any]

    @property
    def own_code(self) -> bool:
        """Whether code that is not Crawl4AI's has a say in what is sent."""
        return any(name.startswith(("hook ", "strategy", "adapter")) for name in self.crawler)


class Variants:
    """Computes variants. `key` keys the hashes.

    With `cache_sessions` a session is a variant instead of a refusal, and with `cache_attached_browsers` a browser that
    ran before is taken for one that is logged in nowhere.
    """

    def __init__(
        self,
        *,
        key: str | bytes | None = None,
        cache_sessions: bool = False,
        cache_attached_browsers: bool = False,
    ) -> None:
        self._key = key.encode() if isinstance(key, str) else key or b""
        self._cache_sessions = cache_sessions
        self._cache_attached = cache_attached_browsers

    def of(self, config: Any, crawler: Any = None, keywords: dict[str, Any] | None = None) -> str:
        """The variant of a run of `crawler` with `config`. Raises `Uncacheable`."""
        return self.text(self.options(config, crawler, keywords))

    def options(self, config: Any, crawler: Any = None, keywords: dict[str, Any] | None = None) -> Options:
        """What the variant of a run is made of. Raises `Uncacheable`."""
        session = getattr(config, "session_id", None)
        if session and not self._cache_sessions:
            raise Uncacheable("session", "a run in a session sees that session's page")
        try:
            fetch, derived = _run_options(config)
            if session:
                fetch["session_id"] = session
            own = _crawler_options(crawler, self._cache_attached)
            for name, value in (keywords or {}).items():
                if name not in QUIET_KEYWORDS:
                    derived[f"keyword {name}"] = canonical(value)
        except Unhashable as error:
            raise Uncacheable("unhashable", str(error)) from None
        if derived:
            # What the options mean may change from one minor version to the next.
            derived["version"] = _minor_version()
        return Options(fetch, own, derived)

    def text(self, options: Options, others: frozenset[str] = frozenset()) -> str:
        """The variant; `others` are the runs that have left something for its site in its crawler."""
        fetch = {**options.fetch, **options.crawler}
        if others:
            fetch["left by"] = sorted(others)
        if not fetch and not options.derived:
            return ""
        return f"f{self._digest('fetch', fetch)}.d{self._digest('derived', options.derived)}"

    def identity(self, url: str, options: Options, crawler: str) -> str:
        """As whom a run leaves something in its crawler; the empty text for one that leaves what every visitor has."""
        acts: dict[str, Any] = {name: form for name, form in options.fetch.items() if _acts(name, form)}
        parts = urlsplit(url)
        for name, value in [*parse_qsl(parts.query), *parse_qsl(parts.fragment.rpartition("?")[2])]:
            if CREDENTIAL.search(name):
                acts[f"parameter {name}"] = value
        return self._digest("acts", {**acts, "crawler": crawler}) if acts else ""

    def of_crawler(self, options: Options) -> str:
        """The digest of the options of the crawler itself: how it fetches, as whom, and with which hooks."""
        return self._digest("crawler", options.crawler)

    def _digest(self, part: str, options: dict[str, Any]) -> str:
        if not options:
            return "0"
        text = json.dumps([part, sorted(options.items())], ensure_ascii=True, separators=(",", ":")).encode()
        if self._key:
            return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:32]
        return hashlib.sha256(text).hexdigest()[:32]


def base_variant(variant: str) -> str | None:
    """The variant with the same fetch options and no derived ones; None if this is one of those."""
    fetch, dot, derived = variant.partition(".d")
    if not dot or derived == "0" or not fetch.startswith("f"):
        return None
    return "" if fetch == "f0" else f"{fetch}.d0"


_defaults: dict[type, dict[str, Any]] = {}


def _default_options(kind: type) -> dict[str, Any]:
    """The canonical options of a configuration that nobody has touched. Making one takes Crawl4AI milliseconds.

    Of a subclass, as what `set_defaults` was told of the class itself is an option like any other.
    """
    if kind not in _defaults:
        untouched = type(kind.__name__, (kind,), {"_user_defaults": {}})
        _defaults[kind] = {name: canonical(value) for name, value in vars(untouched()).items()}
    return _defaults[kind]


def _differs(form: Any, default: Any) -> bool:
    """Whether an option is not at its default. What is empty says as much as None; 0 does not, and 1 is not True."""
    return not (_empty(form) and _empty(default)) and repr(form) != repr(default)


def _empty(form: Any) -> bool:
    return form is None or form is False or form == "" or form in (["list"], ["dict"])


def _run_options(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    from crawl4ai.async_configs import CrawlerRunConfig

    defaults = _default_options(CrawlerRunConfig)
    fetch: dict[str, Any] = {}
    derived: dict[str, Any] = {}
    for name, value in vars(config).items():
        if name in IGNORED:
            continue
        default = defaults.get(name)
        if value is default or (type(value) is type(default) and type(value) in (str, bool, int) and value == default):
            continue
        form = canonical(value)
        if _differs(form, default):
            (derived if name in DERIVED else fetch)[name] = form
    return fetch, derived


def _crawler_options(crawler: Any, cache_attached: bool) -> dict[str, Any]:
    """What the crawler itself adds to every fetch: how it fetches, as whom, and with which hooks."""
    strategy = getattr(crawler, "crawler_strategy", None)
    if strategy is None:
        return {}
    return _strategy_options(strategy, getattr(crawler, "browser_config", None), cache_attached)


def _strategy_options(strategy: Any, browser: Any, cache_attached: bool) -> dict[str, Any]:
    made: dict[str, Any] = {}
    kind = type(strategy)
    if (kind.__module__, kind.__qualname__) != ("crawl4ai.async_crawler_strategy", "AsyncPlaywrightCrawlerStrategy"):
        made["strategy"] = canonical(kind)
        made.update(_own_state("strategy", strategy, cache_attached))
    adapter = getattr(strategy, "adapter", None)
    if adapter is not None and type(adapter).__qualname__ != "PlaywrightAdapter":
        made["adapter"] = canonical(type(adapter))
        made.update(_own_state("adapter", adapter, cache_attached))
    browser = getattr(strategy, "browser_config", None) or browser
    if browser is not None:
        if not cache_attached and attached(browser):
            raise Uncacheable(
                "credentials",
                "where an attached browser (cdp_url) or a profile (user_data_dir) is logged in is not known: "
                "create_isolated_context, a variant, or install(cache_attached_browsers=True) if it is nowhere",
            )
        made.update(_browser_options(browser))
    for name, hook in (getattr(strategy, "hooks", None) or {}).items():
        form = _hook(hook)
        if form is not None:
            made[f"hook {name}"] = form
    return made


def _own_state(title: str, thing: Any, cache_attached: bool) -> dict[str, Any]:
    """The attributes that somebody's own class has added to one of Crawl4AI's, keys to sites among them.

    Those that Crawl4AI's classes set themselves are its tools, or are looked at elsewhere.
    """
    from crawl4ai.async_crawler_strategy import AsyncCrawlerStrategy

    if is_library_class(type(thing)):
        return {}
    known = {"browser_config", "hooks", *TOOLS}
    for base in type(thing).__mro__:
        made_by = vars(base).get("__init__")
        if is_library_class(base) and isinstance(made_by, types.FunctionType):
            known.update(made_by.__code__.co_names)
    made: dict[str, Any] = {}
    for name, value in state_of(thing).items():
        if name in known or type(value).__module__.partition(".")[0] in MACHINERY:
            continue
        if isinstance(value, AsyncCrawlerStrategy):
            inner = {"class": canonical(type(value)), **_strategy_options(value, None, cache_attached)}
            made[f"{title} {name}"] = sorted(inner.items())
        else:
            made[f"{title} {name}"] = canonical(value)
    return made


def attached(browser: Any) -> bool:
    """Whether the pages are opened in what was there before the crawler, and may be logged in somewhere."""
    if getattr(browser, "create_isolated_context", False):
        return False
    managed = getattr(browser, "use_managed_browser", False) or getattr(browser, "use_persistent_context", False)
    profile = managed and getattr(browser, "user_data_dir", None)
    return bool(getattr(browser, "cdp_url", None) or getattr(browser, "browser_mode", None) == "builtin" or profile)


def _acts(name: str, form: Any) -> bool:
    """Whether an option makes a run act on the page, rather than look at it."""
    if name == "wait_for" and isinstance(form, str):
        return not form.strip().startswith("css:") and "(" in form
    return name not in PASSIVE


def _browser_options(browser: Any) -> dict[str, Any]:
    defaults = _default_options(type(browser))
    random = getattr(browser, "user_agent_mode", None) == "random"
    made: dict[str, Any] = {}
    for name, value in vars(browser).items():
        if name in BROWSER_IGNORED or (name in {"user_agent", "user_agent_generator_config"} and random):
            continue
        if name == "user_agent":
            # Crawl4AI changes it while it works.
            value = configured(browser).agent
        if name == "headers" and isinstance(value, dict):
            # Crawl4AI adds this one itself, from the user agent.
            value = {header.lower(): text for header, text in value.items() if header.lower() != "sec-ch-ua"}
            if value:
                made["browser headers"] = canonical(value)
            continue
        if name == "extra_args":
            value = [argument for argument in value or () if not str(argument).startswith(QUIET_ARGUMENTS)]
        if name == "storage_state" and value and isinstance(value, (str, os.PathLike)):
            value = _storage_state(value)
        form = canonical(value)
        if _differs(form, defaults.get(name)):
            made[f"browser {name}"] = form
    return made


def _storage_state(path: str | os.PathLike[str]) -> Any:
    """What a file of cookies says: the same path has other cookies on another host, and tomorrow."""
    try:
        with open(path, "rb") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise Unhashable(f"the storage state cannot be read: {error}") from None


def _hook(hook: Any) -> Any:
    """The form of a hook; None for the ones that Crawl4AI starts with, which do nothing."""
    if hook is None:
        return None
    inner = hook
    # The HTTP strategy wraps every hook in a partial of its own method.
    if hasattr(hook, "func") and getattr(hook.func, "__name__", "") == "_execute_hook":
        inner = hook.args[-1] if len(hook.args) > 1 else None
    if inner is None or (getattr(inner, "__module__", "") or "").startswith("crawl4ai."):
        return None
    return canonical(inner)


def _minor_version() -> str:
    from .versions import installed

    return ".".join(str(part) for part in installed()[:2])
