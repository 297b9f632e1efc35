"""What is known of a page at its origin: its validators, and that it is still as it was."""

from __future__ import annotations

import time
from typing import Any

import crawlcache

from .counters import Counters
from .leases import Leases
from .runs import Run
from .service import Away, Refused, Service


class Confirmations:
    """Tells the service which of its pages are still as they were, without sending them again."""

    def __init__(self, service: Service, counters: Counters, leases: Leases) -> None:
        self._service = service
        self._counters = counters
        self._leases = leases

    async def confirm(self, run: Run, url: str, **validators: str | None) -> None:
        """Confirms the page that a run was given, and only that one: its content may be another by now."""
        run.confirmed = True
        if not run.writes or run.derived or run.hit is None:
            return
        if run.hit.etag is None:
            # Out of this process: the service is away, or was.
            self._counters.count("updates", "away")
            return
        options: dict[str, Any] = {name: value for name, value in validators.items() if value}
        if run.lease is not None:
            options["lease"] = run.lease
        variant, etag = run.variant or "", run.hit.etag
        try:
            await self._service.ask(
                lambda client: client.patch(url, {}, variant=variant, confirmed=True, if_match=etag, **options)
            )
        except Away:
            self._counters.count("updates", "away")
        except Refused as refused:
            newer = (crawlcache.PreconditionFailed, crawlcache.LeaseOutdated, crawlcache.NotFound)
            if isinstance(refused.error, newer):
                self._counters.count("updates", "outdated")
            else:
                self._failed(refused)
        except Exception as error:
            self._failed(error)
        else:
            self._counters.count("updates", "confirmed")
            self._leases.stored(run.lease)

    def _failed(self, error: Exception) -> None:
        self._counters.count("updates", "error")
        self._counters.warn("updates error", "a page could not be confirmed: %s", error)


def metadata(url: str, hit: Any) -> dict[str, Any]:
    """What Crawl4AI asks the origin with."""
    headers = hit.document.get("response_headers")
    validators = hit.validators
    return {
        "url": url,
        "etag": (validators and validators.etag) or header(headers, "etag") or "",
        "last_modified": (validators and validators.last_modified) or header(headers, "last-modified") or "",
        "head_fingerprint": (validators and validators.head_fingerprint) or hit.document.get("head_fingerprint") or "",
        "cached_at": time.time() - hit.age,
        "response_headers": headers if isinstance(headers, dict) else {},
    }


def known(document: dict[str, Any], source: Any = None) -> dict[str, Any]:
    """What is to be stored beside a document: the validators of the page it is made of, else its own."""
    headers = document.get("response_headers")
    validators = source.validators if source is not None else None
    found = {
        "origin_etag": validators.etag if validators else header(headers, "etag"),
        "origin_last_modified": validators.last_modified if validators else header(headers, "last-modified"),
        "head_fingerprint": validators.head_fingerprint if validators else document.get("head_fingerprint"),
    }
    if source is not None:
        # What is made of a page is as old as the page.
        found["updated_at"] = int(time.time() - source.age)
    return {name: value for name, value in found.items() if value}


def header(headers: Any, name: str) -> str | None:
    """A header by its name in any case."""
    if isinstance(headers, dict):
        for one, value in headers.items():
            if str(one).lower() == name and isinstance(value, str):
                return value
    return None
