"""The leases of the runs of this process: kept up for as long as a run lasts, and given back at its end."""

from __future__ import annotations

import asyncio
from typing import Any

import crawlcache

from .counters import Counters
from .runs import Run
from .service import Away, Refused, Service


class Leases:
    """Takes care of what runs hold."""

    def __init__(self, service: Service, counters: Counters) -> None:
        self._service = service
        self._counters = counters
        self._tasks: set[asyncio.Task[Any]] = set()

    def hold(self, run: Run, lease: Any) -> None:
        """Notes a lease that a run was granted, and keeps it up."""
        run.lease = lease
        self._counters.count("leases", "won")
        run.renewal = asyncio.get_running_loop().create_task(self._renew(lease))

    def stored(self, lease: Any) -> None:
        """Notes that a write has ended a lease, if there was one."""
        if lease is not None:
            lease.stored = True
            self._counters.count("leases", "stored")

    def end(self, run: Run) -> None:
        """Gives back what a run still holds, which does not wait for that."""
        if run.renewal is not None:
            run.renewal.cancel()
        lease = run.lease
        if lease is None or lease.stored or lease.lost:
            return
        task = asyncio.get_running_loop().create_task(self._release(lease))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Waits, not for long, until what this loop gives back is given back."""
        for task in list(self._tasks):
            if task.get_loop() is asyncio.get_running_loop():
                await asyncio.wait([task], timeout=1.0)

    async def _renew(self, lease: Any) -> None:
        while not lease.stored:
            await asyncio.sleep(max(0.3, (lease.seconds or 30) / 3))
            if lease.stored:
                return
            try:
                await self._service.ask(lambda client: client.renew(lease))
                self._counters.count("leases", "renewed")
            except Refused as refused:
                if isinstance(refused.error, crawlcache.LeaseLost):
                    # What is written under it is still sent with it: only the service knows who came after.
                    lease.lost = True
                    self._counters.count("leases", "lost")
                    return
                self._counters.warn("renewal", "a lease could not be renewed: %s", refused)
            except Away:
                # Until it runs out, it is still ours.
                continue

    async def _release(self, lease: Any) -> None:
        try:
            await self._service.ask(lambda client: client.release(lease))
            self._counters.count("leases", "released")
        except (Away, Refused):
            # It runs out by itself.
            pass
