"""One output under judgement: what was found out about it, for the checks to look at.

The checks are pure: they see a `Subject` and the policy, never a file. What
could not be found out is said in `not_checked`, and is no reason to pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from insitu.domain.outputs import Finding, OutputContract, OutputType, ReleaseContract
from insitu.gate.canonical.form import Leaves
from insitu.gate.known.content import ContentFound
from insitu.gate.policy.values import Otherwise, ReleaseRules
from insitu.gate.structures import Structures


@dataclass(frozen=True)
class RowsSeen:
    """How many rows of one dataset stand in the output."""

    found: int
    of: int
    where: str = ""
    in_text: bool = False


@dataclass(frozen=True)
class Subject:
    name: str
    type: OutputType
    declared: OutputContract | None
    written_bytes: int
    kinds: Mapping[str, str] = field(default_factory=dict[str, str])  # kind of content → the first place of it
    types: frozenset[str] = frozenset()  # classes that loading a skops file would make
    loaders: frozenset[str] = frozenset()
    rows: tuple[RowsSeen, ...] = ()
    content: tuple[ContentFound, ...] = ()  # runs of each dataset's text, bytes and numbers
    encoded: str = ""  # the first place with a run of encoded text
    odd_names: int = 0  # names of files that are no ordinary names
    unread: tuple[str, ...] = ()
    objections: tuple[Finding, ...] = ()  # why no canonical copy could be made
    canonical: Mapping[str, bytes] | None = None  # the bytes that may leave
    format: str = ""  # of the canonical copy: skops, json, csv; of several, with commas
    sources: tuple[str, ...] = ()  # files of the output that the canonical copy was made from
    ceiling_bytes: int = 0  # what the canonical copy could carry at most
    leaves: Leaves | None = None  # of the trees in it
    structures: Structures = field(default_factory=Structures)
    small_groups: int = 0  # counts of a few rows, in tables
    left_behind: tuple[str, ...] = ()  # classes of what the canonical copy lacks
    not_checked: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()  # places that were read, and not searched for what may hide in them

    @property
    def is_model(self) -> bool:
        return self.type in (OutputType.MLFLOW_MODEL, OutputType.CUSTOM_MODEL)

    @property
    def size_bytes(self) -> int:
        """Of what would leave, or of what was written where nothing could be made of it."""
        return self.written_bytes if self.canonical is None else sum(len(data) for data in self.canonical.values())


@dataclass(frozen=True)
class Terms:
    """What a subject is compared with."""

    release: ReleaseRules
    contract: ReleaseContract
    in_envelope: bool = False  # a run envelope covers the job

    def otherwise(self, subject: Subject) -> Otherwise:
        return self.release.models.otherwise if subject.is_model else self.release.files.otherwise

    def max_bytes(self, subject: Subject) -> int:
        return self.release.models.max_bytes if subject.is_model else self.release.files.max_bytes

    @property
    def ceiling_bytes(self) -> int:
        models = self.release.models
        return models.ceiling_bytes if self.in_envelope else models.free_ceiling_bytes

    def formats(self, subject: Subject) -> tuple[str, ...]:
        return self.release.models.formats if subject.is_model else self.release.files.formats
