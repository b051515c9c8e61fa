"""Requests that wait for something to happen to a placement, without holding a thread or asking over and over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from app.bell import Bell
from app.database import log_failure
from app.placement_records import Event, PlacementNotFound, Summary
from app.placements import PlacementStore
from app.threads import read

_TICK_S = 1.0
"""How often a waiting request looks whether its client has hung up."""
_LOOK_INTERVAL_S = 0.3
ANSWERING_S = 15.0
"""How long a request is taken to be waiting for its answer unless it says again that it is."""
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
        is_answered = asyncio.Event()

        async def keep() -> None:
            while not is_answered.is_set():
                await self._set_answering(placement_id, ANSWERING_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(is_answered.wait(), ANSWERING_S / 3)
            await self._set_answering(placement_id, 0.0)

        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            is_answered.set()  # not cancelled: its thread would go on, and could have the last word
            await keeping

    async def _set_answering(self, placement_id: str, seconds: float) -> None:
        """Note it if that is possible: the answer does not depend on it."""
        try:
            await to_thread.run_sync(self._placements.set_answering, placement_id, seconds)
        except SQLAlchemyError as error:
            log_failure(_log, "whether a repeated request has to wait is not noted", error, placement=placement_id)

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
