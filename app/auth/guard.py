"""The door: every request to a route that is not public is admitted here, or refused with a problem document."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from anyio import to_thread
from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from app.auth.allowance import NO_BOUNDS, Allowance
from app.auth.keys import PREFIX, TENANT, KeyStore
from app.auth.scopes import ALL_SCOPES, Scope, scope_needed
from app.problems import ProblemError, describe
from app.settings import Settings
from app.tables import DEFAULT_TENANT

if TYPE_CHECKING:
    from app.auth.tokens import TokenVerifier

TENANT_HEADER = "Placewright-Tenant"
_log = logging.getLogger(__name__)
_REALM = 'Bearer realm="placewright"'


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking: the tenant, the key it showed, what it may do, and how much."""

    tenant: str = DEFAULT_TENANT
    key_id: str | None = None
    scopes: frozenset[Scope] = ALL_SCOPES
    allowance: Allowance = NO_BOUNDS


class Guard:
    """Knows who may do what. One a process: rates are counted where the requests arrive."""

    def __init__(self, settings: Settings, keys: KeyStore) -> None:
        self._is_open = settings.authentication == "off"
        self._keys = keys
        self._tokens = _make_verifier(settings)
        self._default = Allowance(settings.requests_per_minute, settings.max_jobs, settings.cpu_seconds_per_day)
        self._rates = MovingWindowRateLimiter(MemoryStorage())

    async def admit(self, request: Request) -> Identity:
        """Who is asking.

        Raises:
            ProblemError: 401 without a good key or token, 403 when it does not allow this, 429 when it came too often,
                503 when a token cannot be checked now.
        """
        identity = Identity(allowance=self._default) if self._is_open else await self._authenticate(request)
        request.state.identity = identity  # for the audit log, also when it goes no further
        identity = self._choose_tenant(request, identity)
        request.state.identity = identity
        self._check_rate(request, identity)
        needed = scope_needed(request.method, request.scope["route"].path)
        if not identity.scopes & {needed, Scope.ADMIN}:
            challenge = {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{needed}"'}
            raise _refuse("not-allowed", f"This takes the scope '{needed}', which the key lacks.", 403, challenge)
        return identity

    async def _authenticate(self, request: Request) -> Identity:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential:
            detail = "Send an API key or a token as Authorization: Bearer …"
            raise _refuse("not-authenticated", detail, 401, {"WWW-Authenticate": _REALM})
        if self._tokens is not None and not credential.startswith(PREFIX):
            return await to_thread.run_sync(self._verify_token, self._tokens, credential)
        key = await to_thread.run_sync(self._keys.find, credential)
        if key is None:
            raise _refuse_credential("The key is not known here, or has expired or been revoked.")
        return Identity(key.tenant, key.id, key.scopes, key.allowance.filled_from(self._default))

    def _verify_token(self, tokens: TokenVerifier, token: str) -> Identity:
        from app.auth.tokens import IssuerUnreachable, TokenRefused  # noqa: PLC0415  an optional extra

        try:
            bearer = tokens.verify(token)
        except TokenRefused as error:
            raise _refuse_credential(f"The token is not accepted. {error}") from error
        except IssuerUnreachable as error:
            detail = "The issuer of the token cannot be reached to check it. Try again in a moment."
            raise _refuse("issuer-unreachable", detail, 503, {"Retry-After": "30"}) from error
        return Identity(bearer.tenant, bearer.id, bearer.scopes, self._default)

    @staticmethod
    def _choose_tenant(request: Request, identity: Identity) -> Identity:
        """An admin may act for any tenant by naming it."""
        tenant = request.headers.get(TENANT_HEADER)
        if tenant is None or tenant == identity.tenant:
            return identity
        if Scope.ADMIN not in identity.scopes or identity.key_id is None:
            detail = f"Only a key with the scope 'admin' may name another tenant in {TENANT_HEADER}."
            raise _refuse("not-allowed", detail, 403, {"WWW-Authenticate": _REALM})
        if not TENANT.fullmatch(tenant):
            raise _refuse("not-allowed", f"{TENANT_HEADER} is no name of a tenant.", 403, {"WWW-Authenticate": _REALM})
        return Identity(tenant, identity.key_id, identity.scopes, identity.allowance)

    def _check_rate(self, request: Request, identity: Identity) -> None:
        allowed = identity.allowance.requests_per_minute
        if allowed is None:
            return
        caller = identity.key_id or (request.client.host if request.client else "")
        rate = RateLimitItemPerMinute(allowed)
        if not self._rates.hit(rate, caller):
            window = self._rates.get_window_stats(rate, caller)
            retry_after_s = max(1, math.ceil(window.reset_time - time.time()))
            detail = f"More than {allowed} requests in a minute."
            raise _refuse("rate-limited", detail, 429, {"Retry-After": str(retry_after_s)})


def warn_of_open_door(host: str, settings: Settings) -> None:
    """Say it loudly when other machines may use the service and nobody asks who they are."""
    try:
        is_private = host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name, which may mean any address
        is_private = False
    if settings.authentication == "off" and not is_private:
        _log.warning(
            "AUTHENTICATION IS OFF, and the service listens on %s: whoever reaches this machine may use it, and read "
            "and delete every placement. PLACEWRIGHT_AUTHENTICATION=on asks for keys; `placewright keys create` makes "
            "them.",
            host,
        )


def _refuse(code: str, detail: str, status: int, headers: Mapping[str, str]) -> ProblemError:
    return ProblemError(describe(code, detail, status), headers)


def _refuse_credential(detail: str) -> ProblemError:
    return _refuse("not-authenticated", detail, 401, {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'})


def _make_verifier(settings: Settings) -> TokenVerifier | None:
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    from app.auth.tokens import TokenVerifier  # noqa: PLC0415  an optional extra

    return TokenVerifier(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        algorithms=tuple(settings.oidc_algorithms),
        tenant_claim=settings.oidc_tenant_claim,
        scope_claim=settings.oidc_scope_claim,
        jwks_url=settings.oidc_jwks_url,
    )
