"""Delivers what the database says is to be delivered, from a thread of its own."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from app.database import Database, log_failure
from app.tables import DeliveryRow, PlacementRow
from app.webhooks import DeliveryFailed, deliver, secret_of

_TICK_S = 1.0
_AT_ONCE = 32
_AT_ONCE_A_TENANT = 8
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
    """Any number of them may share a database; a message that was sent twice carries the same id both times.

    Each message has a thread, and a tenant only some of them: receivers that never answer hold up their own tenant.
    """

    def __init__(self, database: Database, secret: str, *, may_be_private: bool) -> None:
        self._database, self._secret, self._may_be_private = database, secret, may_be_private
        self._is_stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="courier")
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook")
        self._under_way: list[_Message] = []

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Return once nothing is on its way; what is left stays in the database."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown()

    def _loop(self) -> None:
        while not self._is_stopping:
            self._wake.clear()
            try:
                message = self._take_next()
            except Exception as error:  # noqa: BLE001 - the next look may succeed
                log_failure(_log, "webhooks are delivered later", error)
                message = None
            if message is None:
                self._wake.wait(_TICK_S)
            else:
                self._under_way.append(message)
                self._pool.submit(self._bring, message)

    def _take_next(self) -> _Message | None:
        """The message that has been due for longest, of a tenant that has not its share of the threads already."""
        tenants = Counter(message.tenant for message in tuple(self._under_way))
        if tenants.total() == _AT_ONCE:
            return None
        busy = [tenant for tenant, count in tenants.items() if count >= _AT_ONCE_A_TENANT]
        due = select(DeliveryRow, PlacementRow.tenant).join(PlacementRow, PlacementRow.id == DeliveryRow.placement_id)
        with self._database.read() as session:
            now = self._database.now(session)
            due = due.where(DeliveryRow.next_attempt_at <= now, PlacementRow.tenant.not_in(busy))
            due = due.order_by(DeliveryRow.next_attempt_at).limit(1)
            if session.execute(due).first() is None:
                return None
        with self._database.write() as session:
            found = session.execute(due.with_for_update(skip_locked=True, of=DeliveryRow)).first()
            if found is None:  # another courier was faster
                return None
            row, tenant = found
            row.attempts += 1
            row.next_attempt_at = now + _HELD
            return _Message(row.id, row.placement_id, tenant, row.url, row.payload, row.attempts)

    def _bring(self, message: _Message) -> None:
        try:
            self._try(message)
        except Exception as error:  # noqa: BLE001 - the message is due again after a while
            log_failure(
                _log, "a webhook is delivered later", error, placement=message.placement_id, delivery=message.id
            )
        finally:
            self._under_way.remove(message)
            self._wake.set()

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
