"""The settings of doors and locks, a part of :class:`app.settings.Settings`."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, NoDecode

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Of tokens; none with a shared secret, which whoever can check could also forge."""


class AuthSettings(BaseSettings):
    """Who may come in, and how much anybody may have."""

    authentication: Literal["off", "on"] = Field(
        default="off", description="Whether requests need an API key or a token; make keys with `placewright keys`."
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Most requests of one key, or of one address; each server counts for itself."
    )
    max_jobs: int | None = Field(default=None, ge=1, description="Most queued and running placements of one key.")
    cpu_seconds_per_day: float | None = Field(
        default=None, gt=0, description="Seconds times workers that one key may use in 24 hours."
    )

    oidc_issuer: str | None = Field(
        default=None, pattern="^https://", description="Accept bearer tokens of this OpenID Connect issuer."
    )
    oidc_audience: str | None = Field(default=None, min_length=1, description="What the tokens must be meant for.")
    oidc_jwks_url: str | None = Field(
        default=None, pattern="^https://", description="The issuer's keys; default: the issuer's own word."
    )
    oidc_algorithms: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset({"RS256", "ES256"}), description="Signatures that are accepted, separated by commas."
    )
    oidc_tenant_claim: str = Field(default="tenant", description="The claim that names the tenant.")
    oidc_scope_claim: str = Field(default="scope", description="The claim that lists the scopes.")

    @model_validator(mode="before")
    @classmethod
    def _split_algorithms(cls, values: dict[str, object]) -> dict[str, object]:
        given = values.get("oidc_algorithms")
        if isinstance(given, str):
            return values | {"oidc_algorithms": frozenset(word.strip() for word in given.split(",") if word.strip())}
        return values

    @model_validator(mode="after")
    def _check_tokens(self) -> Self:
        unknown = self.oidc_algorithms - ALGORITHMS
        if unknown or not self.oidc_algorithms:
            raise ValueError(f"oidc_algorithms must be some of {', '.join(sorted(ALGORITHMS))}")
        if self.oidc_issuer is None:
            return self
        if self.oidc_audience is None:
            raise ValueError(
                "oidc_audience is needed with oidc_issuer: a token for another service must not open this one"
            )
        if self.authentication == "off":
            raise ValueError("oidc_issuer means nothing while authentication is off")
        if importlib.util.find_spec("jwt") is None:
            raise ValueError("oidc_issuer needs the package PyJWT: pip install 'placewright[oidc]'")
        return self
