"""OIDC bearer tokens: signed by an issuer the operator trusts, for this service, now."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from app.auth.keys import TENANT
from app.auth.scopes import Scope

_FETCH_TIMEOUT_S = 5.0
_LEEWAY_S = 30
_KEYS_S = 600.0
_LONGEST_KEYS_S = 24 * 3600.0
"""An issuer that is down for a day has perhaps taken its keys back."""
_LEAST_REFRESH_S = 30.0
"""A token with an unknown key id makes us ask the issuer again, but not more often than this."""
_MAX_BYTES = 1 << 20
_MAX_ID = 64
_PREFIX = "placewright:"
_log = logging.getLogger(__name__)


class TokenRefused(Exception):
    """The token opens nothing; the message is for whoever sent it."""


class IssuerUnreachable(Exception):
    """The issuer's keys cannot be had, so nothing can be said of the token."""


@dataclass(frozen=True, slots=True)
class TokenBearer:
    """What a good token says."""

    id: str
    tenant: str
    scopes: frozenset[Scope]


class TokenVerifier:
    """Checks tokens against the issuer's keys. Safe to use from many threads."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        algorithms: tuple[str, ...],
        tenant_claim: str,
        scope_claim: str,
        jwks_url: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._issuer, self._audience, self._algorithms = issuer, audience, list(algorithms)
        self._tenant_claim, self._scope_claim = tenant_claim, scope_claim
        self._jwks_url = jwks_url
        self._http = httpx.Client(timeout=_FETCH_TIMEOUT_S, follow_redirects=False, transport=transport)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = threading.Lock()

    def verify(self, token: str) -> TokenBearer:
        """Who holds the token.

        Raises:
            TokenRefused: it is not good here.
            IssuerUnreachable: that cannot be found out now.
        """
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._algorithms:
                raise TokenRefused("It is signed in a way that is not accepted here.")
            key = self._find_key(header.get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenRefused("It has expired.") from error
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError) as error:
            raise TokenRefused("It was issued by another issuer, or for another service.") from error
        except jwt.MissingRequiredClaimError as error:
            raise TokenRefused(f"It does not say {error.claim!r}.") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise TokenRefused("It is broken, or was not signed by the issuer.") from error
        return self._read_claims(claims)

    def _read_claims(self, claims: dict[str, Any]) -> TokenBearer:
        tenant = claims.get(self._tenant_claim)
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            raise TokenRefused(f"It names no tenant: the claim {self._tenant_claim!r} is missing or malformed.")
        granted = claims.get(self._scope_claim, "")
        words = granted.split() if isinstance(granted, str) else granted if isinstance(granted, list) else []
        named = {str(word).removeprefix(_PREFIX) for word in words}
        return TokenBearer(_shorten(str(claims["sub"])), tenant, frozenset(scope for scope in Scope if scope in named))

    def _find_key(self, key_id: object) -> jwt.PyJWK:
        now = time.monotonic()
        is_stale = now - self._fetched_at > _KEYS_S
        if (is_stale or key_id not in self._keys) and now - self._tried_at > _LEAST_REFRESH_S:
            with self._fetching:
                if now > self._tried_at + _LEAST_REFRESH_S:
                    self._tried_at = now
                    self._fetch()
        if time.monotonic() - self._fetched_at > _LONGEST_KEYS_S:
            raise IssuerUnreachable
        key = self._keys.get(str(key_id))
        if key is not None:
            return key
        raise TokenRefused("It was signed with a key that the issuer does not list.")

    def _fetch(self) -> None:
        try:
            url = self._jwks_url or self._discover()
            listed = self._get(url)["keys"]
            keys = {}
            for entry in listed:
                # A set may hold keys for encryption, or of kinds that are not known here.
                if isinstance(entry, dict) and entry.get("use", "sig") == "sig" and "kid" in entry:
                    try:
                        keys[str(entry["kid"])] = jwt.PyJWK.from_dict(entry)
                    except (jwt.PyJWTError, ValueError):
                        continue
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            # The keys known so far stay good for a while: an issuer that is down locks nobody out.
            _log.warning("the keys of the token issuer cannot be read: %s", error)
            return
        self._keys, self._fetched_at = keys, time.monotonic()

    def _discover(self) -> str:
        document = self._get(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document["issuer"] != self._issuer:
            raise ValueError(f"the issuer calls itself {document['issuer']!r}")
        return str(document["jwks_uri"])

    def _get(self, url: str) -> dict[str, Any]:
        with self._http.stream("GET", url) as response:
            response.raise_for_status()
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise ValueError(f"{url} answers with more than {_MAX_BYTES} bytes")
        document = httpx.Response(200, content=body).json()
        if not isinstance(document, dict):
            raise TypeError(f"{url} holds no JSON object")
        return document


def _shorten(subject: str) -> str:
    name = f"oidc:{subject}"
    return name if len(name) <= _MAX_ID else f"oidc:{hashlib.sha256(subject.encode()).hexdigest()[:48]}"
