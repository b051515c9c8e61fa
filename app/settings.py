"""Every setting of the service. Each can be given as an environment variable ``PLACEWRIGHT_<NAME>``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_EXAMPLE = "example: sqlite:////var/lib/placewright/jobs.sqlite3"
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def count_cores(quota_file: Path = _CGROUP_QUOTA) -> int:
    """Cores this process may use: its affinity mask, further limited by the container's CPU quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = quota_file.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2 here, or the quota is "max"
        return cores


class Settings(BaseSettings):
    """The operator of the service sets these; a request can only ask for less."""

    model_config = SettingsConfigDict(env_prefix="PLACEWRIGHT_", extra="forbid", frozen=True)

    database_url: str = Field(
        default="sqlite:///placewright.sqlite3",
        description="SQLAlchemy address of the job database; a relative path starts at the working directory.",
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
    max_attempts: int = Field(
        default=3, ge=1, description="How often a solve is started before a dying server fails it."
    )

    stop_grace_s: float = Field(default=5.0, gt=0, description="From the polite interrupt of a solve to its kill.")
    overrun_grace_s: float = Field(default=10.0, gt=0, description="How far a solve may overrun its time limit.")
    startup_grace_s: float = Field(default=120.0, gt=0, description="How long a child may take to read its document.")
    heartbeat_interval_s: float = Field(
        default=5.0, gt=0, description="How often a running solve shows that it is watched."
    )

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        try:
            url = make_url(self.database_url)
        except ArgumentError as error:
            raise ValueError(
                "database_url is no database address; example: sqlite:////var/lib/placewright.sqlite3"
            ) from error
        if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
            raise ValueError(f"database_url must name a SQLite file; {_EXAMPLE}")
        return self

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return Path(str(make_url(self.database_url).database))

    def cap_workers(self, wish: int | None) -> int:
        """Workers a solve gets: never more than the slots, so that no solve waits forever."""
        most = min(self.slots, self.max_workers or self.slots)
        return min(wish or self.default_workers or most, most)
