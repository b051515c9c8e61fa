"""Delivers what the database says is to be delivered, from a thread of its own."""

from __future__ import annotations

import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from app.database import Database, log_failure
from app.tables import DeliveryRow, PlacementRow
from app.webhooks import DeliveryFailed, deliver, secret_of

_TICK_S = 1.0
_AT_ONCE = 8
_HELD = timedelta(seconds=60)
"""How long a message is not tried by anybody else; longer than a try takes."""
_DELAYS_S = (5, 30, 300, 1800, 7200, 18_000, 36_000, 86_400)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Message:
    id: str
    placement_id: str
    tenant: str
    url: str
    payload: str
    attempts: int


class Courier:
    """Any number of them may share a database; a message that was sent twice carries the same id both times."""

    def __init__(self, database: Database, secret: str, *, may_be_private: bool) -> None:
        self._database, self._secret, self._may_be_private = database, secret, may_be_private
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="courier")
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook")

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Return once nothing is on its way; what is left stays in the database."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                messages = self._take_due()
                list(self._pool.map(self._try, messages))
            except Exception as error:  # noqa: BLE001 - the next look may succeed
                log_failure(_log, "webhooks are delivered later", error)
                messages = []
            if not messages:
                self._stopping.wait(_TICK_S)

    def _take_due(self) -> list[_Message]:
        due = select(DeliveryRow, PlacementRow.tenant).join(PlacementRow, PlacementRow.id == DeliveryRow.placement_id)
        with self._database.read() as session:
            now = self._database.now(session)
            due = due.where(DeliveryRow.next_attempt_at <= now).order_by(DeliveryRow.next_attempt_at).limit(_AT_ONCE)
            if session.execute(due).first() is None:
                return []
        with self._database.write() as session:
            messages = []
            for row, tenant in session.execute(due.with_for_update(skip_locked=True, of=DeliveryRow)):
                row.attempts += 1
                row.next_attempt_at = now + _HELD
                messages.append(_Message(row.id, row.placement_id, tenant, row.url, row.payload, row.attempts))
            return messages

    def _try(self, message: _Message) -> None:
        reason, is_final = None, False
        try:
            secret = secret_of(message.tenant, self._secret)
            deliver(message.url, message.id, message.payload, secret, may_be_private=self._may_be_private)
        except DeliveryFailed as error:
            reason, is_final = str(error), error.is_final
            names = {"placement": message.placement_id, "delivery": message.id}
            _log.warning("webhook not delivered: %s", reason, extra=names)
        with self._database.write() as session:
            row = session.get(DeliveryRow, message.id)
            if row is None:  # the placement was deleted meanwhile
                return
            now = self._database.now(session)
            row.last_error, row.next_attempt_at = reason, None
            if reason is None:
                row.delivered_at = now
            elif not is_final and message.attempts <= len(_DELAYS_S):
                delay_s = _DELAYS_S[message.attempts - 1] * random.uniform(1, 1.2)  # noqa: S311 - only spreads them
                row.next_attempt_at = now + timedelta(seconds=delay_s)
