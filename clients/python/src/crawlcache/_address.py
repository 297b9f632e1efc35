"""Where the service is, and what every request says about the caller."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from ._errors import InvalidRequest
from ._wire import USER_AGENT, Policy

DEFAULT_URL = "http://127.0.0.1:8080"


class Address:
    """The service's base url and the headers of every request."""

    def __init__(self, url: str | None, token: str | None) -> None:
        self.url = (url or os.environ.get("CRAWLCACHE_URL") or DEFAULT_URL).rstrip("/")
        token = token if token is not None else os.environ.get("CRAWLCACHE_TOKEN")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequest(0, "invalid_address", "the url of the service must be http:// or https:// and a host")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise InvalidRequest(
                0, "invalid_address", "the url of the service must hold no user, password, query or fragment"
            )
        #: Scheme, host and port.
        self.origin = f"{parts.scheme}://{parts.netloc}"
        #: The path under which the service is reached, without a slash at its end.
        self.prefix = parts.path
        self.headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if token:
            if not (token.isascii() and token.isprintable()):
                raise InvalidRequest(0, "invalid_token", "a token is printable ASCII")
            self.headers["Authorization"] = f"Bearer {token}"


def policy(timeout: float, connect_timeout: float, retries: int, max_connections: int) -> Policy:
    """The limits of a client, checked."""
    if timeout <= 0 or connect_timeout <= 0 or retries < 0 or max_connections < 1:
        raise ValueError(
            "timeout and connect_timeout must be positive, retries not negative, max_connections at least 1"
        )
    return Policy(timeout, connect_timeout, retries)
