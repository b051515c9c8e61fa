"""Requests that wait for something to happen to a placement, without holding a thread or asking over and over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from anyio import to_thread

from app.bell import Bell
from app.database import log_failure
from app.placement_records import Event, PlacementNotFound, Summary
from app.placements import PlacementStore
from app.threads import read

_TICK_S = 1.0
"""How often a waiting request looks whether its client has hung up."""
_LOOK_INTERVAL_S = 0.3
_ANSWERING_S = 15.0
_PAGE = 500
_log = logging.getLogger(__name__)


class Waiting:
    """Wakes on the bell; while other processes write too, one look at the database for all waiters rings it."""

    def __init__(self, placements: PlacementStore, bell: Bell, *, is_shared: bool) -> None:
        self._placements, self._bell, self._is_shared = placements, bell, is_shared
        self._is_stopping = False

    def begin_stop(self) -> None:
        """Let everybody go."""
        self._is_stopping = True
        self._bell.ring_all()

    @property
    def is_stopping(self) -> bool:
        """Whether nothing is worth waiting for any more."""
        return self._is_stopping

    async def until(
        self,
        tenant: str,
        placement_id: str,
        timeout_s: float,
        is_over: Callable[[Summary], bool],
        is_abandoned: Callable[[], Awaitable[bool]],
    ) -> Summary:
        """The job once ``is_over`` says so; as it stands when the time is up, the client gone or the server stopping.

        Raises:
            PlacementNotFound: there is none, or no longer.
        """
        deadline = time.monotonic() + timeout_s
        with self._bell.listen(placement_id) as rung:
            while True:
                rung.clear()
                summary = await read(self._placements.read_summary, tenant, placement_id)
                if is_over(summary):
                    return summary
                while not rung.is_set():
                    remaining_s = deadline - time.monotonic()
                    if remaining_s <= 0 or self._is_stopping or await is_abandoned():
                        return summary
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(rung.wait(), min(remaining_s, _TICK_S))

    @asynccontextmanager
    async def answering(self, placement_id: str, *, has_key: bool) -> AsyncIterator[None]:
        """While inside, another request with the same idempotency key is told that this one is still waiting."""
        if not has_key:
            yield
            return
        set_answering = self._placements.set_answering

        async def keep() -> None:
            while True:
                await to_thread.run_sync(set_answering, placement_id, _ANSWERING_S)
                await asyncio.sleep(_ANSWERING_S / 3)

        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
            await to_thread.run_sync(set_answering, placement_id, 0.0)

    async def follow(self, tenant: str, placement_id: str, after: int) -> AsyncIterator[Event]:
        """The events behind a sequence number, as they come, up to the end; or until the server stops."""
        with self._bell.listen(placement_id) as rung:
            while not self._is_stopping:
                rung.clear()
                try:
                    events = await read(self._list_events, tenant, placement_id, after)
                    if not events:
                        summary = await read(self._placements.read_summary, tenant, placement_id)
                        if summary.state.is_terminal and summary.num_events <= after:
                            return
                        await rung.wait()
                except PlacementNotFound:  # deleted meanwhile
                    return
                for event in events:
                    yield event
                    after = event.sequence
                    if event.kind == "end":
                        return

    def _list_events(self, tenant: str, placement_id: str, after: int) -> list[Event]:
        return self._placements.list_events(tenant, placement_id, after=after, limit=_PAGE)

    async def watch(self) -> None:
        """Ring for what other processes have written. Runs until it is cancelled."""
        known: dict[str, int | None] = {}
        while self._is_shared:
            await asyncio.sleep(_LOOK_INTERVAL_S)
            keys = self._bell.keys()
            if not keys:
                known = {}
                continue
            try:
                counts = await read(self._placements.count_events, keys)
            except Exception as error:  # noqa: BLE001 - the next look may succeed
                log_failure(_log, "cannot look for changes", error)
                continue
            for key in keys:
                if key not in known or known[key] != counts.get(key):
                    self._bell.ring(key)
            known = {key: counts.get(key) for key in keys}
