"""Every setting of the service. Each can be given as an environment variable ``PLACEWRIGHT_<NAME>``."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict
from sqlalchemy.exc import ArgumentError

from app.auth.settings import AuthSettings
from app.database import driver_url
from app.webhooks import decode_secret

_EXAMPLE = "example: sqlite:////var/lib/placewright/jobs.sqlite3"
_PREFIX = "PLACEWRIGHT_"
_LIKENESS = 0.75
"""Of a misspelt name; other programs have variables that begin like ours."""
_MEMORY_SHARE = 0.8
_HEARTBEATS_A_LEASE = 3
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def count_cores(quota_file: Path = _CGROUP_QUOTA) -> int:
    """Cores this process may use: its affinity mask, further limited by the container's CPU quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = quota_file.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2 here, or the quota is "max"
        return cores


def measure_memory(limit_file: Path = _CGROUP_MEMORY) -> int:
    """Bytes of memory this machine has, or the container may use."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(total, int(limit_file.read_text()))
    except (OSError, ValueError):  # no cgroup v2 here, or the limit is "max"
        return total


class Settings(AuthSettings):
    """The operator of the service sets these; a request can only ask for less."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_parse_none_str="null", extra="forbid", frozen=True)

    database_url: str = Field(
        default="sqlite:///placewright.sqlite3",
        description="A SQLite file (one server each) or a PostgreSQL database; a relative path starts at the "
        "working directory.",
    )
    database_busy_timeout_s: float = Field(default=10.0, gt=0, description="How long to wait for another writer.")

    max_body_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="Largest request body, also once decompressed."
    )
    max_issues: int = Field(
        default=1000, ge=1, description="Most issues listed in one 422 answer; all of them are counted."
    )

    default_wait_s: float = Field(
        default=60.0, ge=0, description="How long POST /placements waits without a Prefer header."
    )
    max_wait_s: float = Field(default=600.0, ge=0, description="Longest wait a Prefer header may ask for.")

    max_time_limit_s: float = Field(default=3600.0, gt=0, description="Longest solve; larger wishes are cut to it.")
    slots: int = Field(default_factory=count_cores, ge=1, description="Cores that all running solves share.")
    max_workers: int | None = Field(default=None, ge=1, description="Most workers of one solve; default: all slots.")
    default_workers: int | None = Field(
        default=None, ge=1, description="Workers of a solve that names none; default: the most."
    )
    memory_limit_bytes: int = Field(
        default_factory=lambda: int(measure_memory() * _MEMORY_SHARE),
        ge=1,
        description="Resident memory at which a solve is ended with its best so far, and the most a request may ask "
        "for; default: 80 % of the machine's.",
    )
    max_attempts: int = Field(
        default=3, ge=1, description="How often a solve is started that keeps dying with whatever runs it."
    )
    lease_s: float = Field(
        default=30.0, gt=0, description="After that long without a heartbeat another dispatcher takes the job over."
    )
    max_queued: int = Field(default=10_000, ge=1, description="Most placements that may be queued; then 429.")
    cors_origins: Annotated[list[str], NoDecode] = Field(
        default=[], description="Web pages that may use the service, as a JSON list of origins; default: none."
    )
    retention_days: float | None = Field(
        default=30.0, gt=0, description="How long finished placements are kept; null: for ever."
    )
    max_log_bytes: int = Field(default=1024 * 1024, ge=0, description="How much of the log of one job is kept.")

    engine: Literal["local", "ray"] = Field(
        default="local", description="Where solves run: on this machine, or on a Ray cluster."
    )
    ray_address: str | None = Field(
        default=None, description="host:port of the cluster's head node; default: RAY_ADDRESS, or the node here."
    )
    run_dispatcher: bool = Field(
        default=True, description="Whether this server runs jobs; if not, `placewright dispatch` elsewhere does."
    )

    stop_grace_s: float = Field(default=5.0, gt=0, description="From the polite interrupt of a solve to its kill.")
    overrun_grace_s: float = Field(default=10.0, gt=0, description="How far a solve may overrun its time limit.")
    startup_grace_s: float = Field(default=120.0, gt=0, description="How long a child may take to read its document.")
    heartbeat_interval_s: float = Field(
        default=5.0, gt=0, description="How often a running solve shows that it is watched."
    )

    webhook_secret: str | None = Field(
        default=None, description="whsec_ and 24 or more bytes in base64; without one there are no webhooks."
    )
    webhook_allow_private: bool = Field(
        default=False,
        description="Webhooks may go to private addresses and without TLS; for a closed network.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Of the log on standard error.")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _read_origins(cls, origins: object) -> object:
        try:
            return json.loads(origins) if isinstance(origins, str) else origins
        except ValueError as error:
            raise ValueError('give a JSON list; example: ["https://app.example.org"]') from error

    @field_validator("webhook_secret")
    @classmethod
    def _check_secret(cls, secret: str | None) -> str | None:
        if secret is not None:
            decode_secret(secret)
        return secret

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        try:
            is_file = driver_url(self.database_url).get_backend_name() == "sqlite"
        except (ArgumentError, ValueError) as error:
            raise ValueError(f"database_url must name a SQLite file or a PostgreSQL database; {_EXAMPLE}") from error
        if is_file and not self.run_dispatcher:
            raise ValueError("run_dispatcher can be off only with PostgreSQL: a SQLite file has one server")
        return self

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        least_s = _HEARTBEATS_A_LEASE * self.heartbeat_interval_s
        if self.lease_s < least_s:
            reason = "a solve renews its lease with each heartbeat, and ends when that comes late"
            raise ValueError(f"lease_s must be at least {least_s:g}, three times heartbeat_interval_s: {reason}")
        return self

    @model_validator(mode="after")
    def _check_memory(self) -> Self:
        has = measure_memory()
        if self.run_dispatcher and self.engine == "local" and self.memory_limit_bytes > has:
            reason = "a solve would be killed, without an answer, before it reached more"
            raise ValueError(f"memory_limit_bytes must be at most {has}, the memory there is here: {reason}")
        return self

    @property
    def database_path(self) -> Path | None:
        """The SQLite file, if that is what the database is."""
        url = driver_url(self.database_url)
        return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None

    def cap_workers(self, wish: int | None, slots: int) -> int:
        """Workers a solve gets: never more than the ``slots`` of any dispatcher, so that no solve waits forever."""
        most = min(slots, self.max_workers or slots)
        return min(wish or self.default_workers or most, most)


def find_misspelt(names: Iterable[str]) -> dict[str, str]:
    """Those of the environment variables that are no setting but nearly one, with the setting that may be meant."""
    settings = [name.upper() for name in Settings.model_fields]
    misspelt = {}
    for name in names:
        given = name.upper().removeprefix(_PREFIX)
        if name.upper().startswith(_PREFIX) and given not in settings:
            for near in difflib.get_close_matches(given, settings, n=1, cutoff=_LIKENESS):
                misspelt[name] = _PREFIX + near
    return misspelt
