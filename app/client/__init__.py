"""A typed client of the service, synchronous and asynchronous. Needs httpx: ``pip install 'placewright[client]'``."""

from app.client.asynchronous import AsyncClient
from app.client.errors import (
    ClientError,
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PlacementFailed,
    ProblemReceived,
    ServiceUnavailable,
    ServiceUnreachable,
    TooManyRequests,
    UnexpectedAnswer,
    WaitTimeout,
)
from app.client.events import Event
from app.client.exchange import Retry
from app.client.protocol import Options
from app.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Conflict",
    "Event",
    "InvalidRequest",
    "NotAllowed",
    "NotAuthenticated",
    "NotFound",
    "Options",
    "PlacementFailed",
    "ProblemReceived",
    "Retry",
    "ServiceUnavailable",
    "ServiceUnreachable",
    "TooManyRequests",
    "UnexpectedAnswer",
    "WaitTimeout",
]
