"""Waits for conditions: for as long as a slow machine may need, and not on when they cannot hold any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

#: For how many seconds a condition is waited for. It is there for tests that would hang otherwise.
PATIENCE = 300.0


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"in vain waited for: {what}"
        time.sleep(0.02)


async def until(what: str, holds: Callable[[], bool], *runs: asyncio.Future) -> None:
    """Waits until a condition holds, but no longer than the runs that are to make it hold."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if runs and all(run.done() for run in runs):
            for run in runs:
                run.result()
            # The last step of a run may have made it hold.
            assert holds(), f"the runs have ended, and not yet: {what}"
            return
        assert time.monotonic() < deadline, f"in vain waited for: {what}"
        await asyncio.sleep(0.01)
