"""Teaches schemathesis the media types of this API."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(_context: Any, value: Any) -> bytes:
    """Sends lines as they were generated."""
    return value if isinstance(value, bytes) else str(value).encode()
