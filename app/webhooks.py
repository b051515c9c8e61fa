"""Webhooks as the Standard Webhooks specification has them: signed, sent to public addresses only, tried again.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from urllib.parse import SplitResult, urlsplit

_PREFIX = "whsec_"
_TIMEOUT_S = 10.0
"""For one step: connecting, sending, the next bytes of an answer."""
_DEADLINE_S = 20.0
"""For all of it: whoever answers a byte at a time must not hold up other messages, or the end of the service."""
_LEAST_SECRET_BYTES = 24
_IPV6_INTERNET = ipaddress.ip_network("2000::/3")
"""Where public IPv6 addresses are; what is elsewhere is private, or leads through a translator into some network."""
_PRINTABLE = re.compile(r"[!-~]+")
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_PUBLIC_NAME = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]*[a-z0-9])\.?")
"""Its last part is no number: 127.1 and 2130706433 are addresses to whoever looks names up."""
_PORTS = {"https": 443, "http": 80}


class UnusableAddress(ValueError):
    """Nothing may be sent there; in words for the client."""


class DeliveryFailed(Exception):
    """It did not arrive; ``is_final`` when it never will."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


def decode_secret(text: str) -> bytes:
    """The key of a ``whsec_…``. Raises :class:`ValueError`."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(_PREFIX) or len(key) < _LEAST_SECRET_BYTES:
        raise ValueError(f"a webhook secret is {_PREFIX} and at least {_LEAST_SECRET_BYTES} random bytes in base64")
    return key


def secret_of(tenant: str, secret: str) -> str:
    """The secret that a tenant verifies its webhooks with; it tells nothing about another tenant's."""
    derived = hmac.new(decode_secret(secret), tenant.encode(), hashlib.sha256).digest()
    return _PREFIX + base64.b64encode(derived).decode()


def sign(secret: str, message_id: str, timestamp: int, payload: str) -> str:
    """The ``webhook-signature`` header."""
    content = f"{message_id}.{timestamp}.{payload}".encode()
    signature = hmac.new(decode_secret(secret), content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signature).decode()


def check_address(url: str, *, may_be_private: bool) -> SplitResult:
    """The parts of a webhook address. What its name stands for is looked up when something is sent.

    Raises:
        UnusableAddress: no HTTPS address of a public host.
    """
    if not _PRINTABLE.fullmatch(url):
        raise UnusableAddress("it has spaces or letters beyond ASCII; write them as %XX, and names of hosts as xn--…")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UnusableAddress("it is no address") from error
    if parts.scheme != "https" and not (may_be_private and parts.scheme == "http"):
        raise UnusableAddress("it must begin with https://")
    if not parts.hostname or port == 0:
        raise UnusableAddress("it names no host")
    if parts.username is not None or parts.password is not None:
        raise UnusableAddress("it must not carry a user or a password")
    try:
        literal = ipaddress.ip_address(parts.hostname)
    except ValueError:
        if not (_NAME if may_be_private else _PUBLIC_NAME).fullmatch(parts.hostname):
            raise UnusableAddress("it names no public host") from None
        return parts
    if not may_be_private and not is_public(literal):
        raise UnusableAddress("it is a private address")
    return parts


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether the address leads out of every private network, also by a detour."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return is_public(inner)
        if address not in _IPV6_INTERNET or address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


def deliver(url: str, message_id: str, payload: str, secret: str, *, may_be_private: bool) -> None:
    """Send a message once.

    The name is looked up once, every address it stands for is checked, and the connection goes to what was checked: a
    name that changes in between leads nowhere else. Redirections are not followed.

    Raises:
        DeliveryFailed: with a short reason that tells nothing about the network.
    """
    try:
        parts = check_address(url, may_be_private=may_be_private)
        address = _resolve(parts, may_be_private=may_be_private)
    except UnusableAddress as error:
        raise DeliveryFailed(str(error)) from error
    timestamp = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "placewright",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, message_id, timestamp, payload),
    }
    connection = _Pinned(parts, address)
    deadline = threading.Timer(_DEADLINE_S, connection.break_off)
    deadline.daemon = True
    deadline.start()
    try:
        path = parts.path or "/"
        connection.request("POST", f"{path}?{parts.query}" if parts.query else path, payload.encode(), headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        # The last two: TLS that is broken off in the middle of reading.
        raise DeliveryFailed(type(error).__name__) from error
    finally:
        deadline.cancel()
        connection.close()
    if not 200 <= status < 300:
        raise DeliveryFailed(f"status {status}", is_final=status == 410)


def _resolve(parts: SplitResult, *, may_be_private: bool) -> tuple[str, int]:
    port = parts.port or _PORTS[parts.scheme]
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnusableAddress("its name cannot be resolved") from error
    hosts = [str(entry[4][0]) for entry in found]
    if not may_be_private and not all(is_public(ipaddress.ip_address(host.partition("%")[0])) for host in hosts):
        raise UnusableAddress("its name stands for a private address")
    return hosts[0], port


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked, for the name that was asked for."""

    def __init__(self, parts: SplitResult, address: tuple[str, int]) -> None:
        super().__init__(parts.hostname or "", parts.port or _PORTS[parts.scheme], timeout=_TIMEOUT_S)
        self._address, self._is_secure = address, parts.scheme == "https"
        self.default_port = _PORTS[parts.scheme]  # left out of the Host header

    def connect(self) -> None:
        self.sock = socket.create_connection(self._address, _TIMEOUT_S)
        if self._is_secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()

    def break_off(self) -> None:
        """Let whoever waits for the other side go; from any thread."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
