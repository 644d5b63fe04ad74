"""What goes into MLflow's records and comes out of them, as plain values.

Nothing of MLflow's own leaves the modules that import it: callers see these, and
need not wait for that import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from insitu.domain.errors import DeniedError, InvalidInputError

Point = tuple[str, float, int, int]
"""One value of a metric: key, value, timestamp in milliseconds, step."""

RunEnd = Literal["FINISHED", "FAILED", "KILLED"]

# Tags by which the hub finds its own things again. Nobody else may set them: see `check_tag_key`.
JOB_TAG = "insitu.job"
CHILD_TAG = "insitu.local_run"
RELEASE_TAG = "insitu.release"
DIGEST_TAG = "insitu.digest"
OUTPUT_TAG = "insitu.output"
SIZE_TAG = "insitu.size_bytes"
RESIDENT_TAG = "insitu.resident"
"""The site at which a version may be used; it has no files here."""

_RESERVED = ("insitu.", "mlflow.")
_OPEN = frozenset({"mlflow.note.content"})  # the description that MLflow's pages let people write
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+/-]{0,249}")


@dataclass(frozen=True)
class TrackingSettings:
    """Where MLflow's records and files are.

    `store_uri` is `sqlite:////file` of a file that is MLflow's alone, or a
    PostgreSQL URL: the hub's own database will do, since MLflow gets a schema.
    """

    store_uri: str = field(repr=False)  # may hold a password
    artifacts_dir: Path
    schema: str = "mlflow"  # in PostgreSQL; made when it isn't there
    start_timeout_s: float = 120.0  # how long a call waits for MLflow to be imported and its tables to be made


@dataclass(frozen=True)
class Refused:
    """Something of a run that MLflow can't hold: a name with other characters, a second value of a parameter."""

    kind: str  # metric | param | tag
    key: str
    why: str


@dataclass(frozen=True)
class RegisteredRelease:
    """A released model on its way to become a version: an `MLmodel` folder, or files of weights.

    `digest` is the release's; `tags` are the lineage (code, datasets, lock, base,
    policy version, site). Their keys start with `insitu.`, so that nobody may change
    them, and MLflow allows letters, digits, `_-.:/` and spaces in them.
    """

    name: str
    job_id: str
    run_id: str
    output: str
    folder: Path
    digest: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    description: str = ""
    is_mlflow: bool = True  # False: a custom model, files of weights without an MLmodel

    @property
    def key(self) -> str:
        """What makes it the same release when it comes a second time."""
        return f"{self.job_id}/{self.output}/{self.digest}"


@dataclass(frozen=True)
class ResidentModel:
    """A model that stays at its site, on its way to become a version without files."""

    name: str
    job_id: str
    run_id: str
    output: str
    site: str
    digest: str
    size_bytes: int
    tags: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def key(self) -> str:
        """What makes it the same model when its card comes a second time."""
        return f"{self.job_id}/{self.output}/{self.digest}"

    @property
    def source(self) -> str:
        """Where the registry says that it is: nowhere that anybody could fetch it from."""
        return f"insitu-resident:/{self.site}/{self.digest.removeprefix('sha256:')}"


@dataclass(frozen=True)
class ModelVersion:
    name: str
    version: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    digest: str
    run_id: str
    job_id: str
    output: str
    description: str
    size_bytes: int
    created_at: datetime


@dataclass(frozen=True)
class RegisteredModel:
    name: str
    latest_version: int  # 0: none yet
    aliases: Mapping[str, int]
    tags: Mapping[str, str]
    description: str
    created_at: datetime
    updated_at: datetime


def check_id(text: str) -> str:
    """`text` if it may stand in one of MLflow's search expressions, which know no way to quote a quote.

    Raises:
        InvalidInputError: it may not.
    """
    if not _ID.fullmatch(text):
        raise InvalidInputError(f"{text[:80]!r} is not an id", hint="ids are letters, digits and . _ : @ + / -")
    return text


def check_tag_key(key: str) -> str:
    """`key` if people may set or delete a tag of that name.

    Raises:
        DeniedError: it is lineage, which the hub alone writes.
    """
    if key not in _OPEN and key.strip().lower().startswith(_RESERVED):
        raise DeniedError(
            f"the tag {key[:80]!r} can't be changed by people",
            code="tag-reserved",
            why="tags that start with insitu. or mlflow. say where a thing came from, and the hub alone writes them",
            hint="choose another name",
            rule="tag-reserved",
        )
    return key
