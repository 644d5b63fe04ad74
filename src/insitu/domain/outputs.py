"""What a job wrote, what was found in it, and what became of it.

    Output ──judged──► Finding* ──► Decision: released | kept | held | resident | refused

A `Decision` names the rule that made it, what that rule measured, the limit it
compared with and what to do. None of these strings may hold a value of the
data: they are built from counts, names of rules and names that the job's own
contract declared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from insitu.domain.digests import Digest


class Verdict(StrEnum):
    """What becomes of a thing that a job wrote."""

    RELEASED = "released"  # declared, allowed, clean: ledger, then sent
    KEPT = "kept"  # not declared: stays at the site, counted, the job goes on
    HELD = "held"  # declared, but a rule wants a person: frozen, in the steward's queue
    RESIDENT = "resident"  # may be used at this site only
    REFUSED = "refused"  # the policy forbids it, or a steward said no


class OutputType(StrEnum):
    """Azure ML's names where they exist."""

    MLFLOW_MODEL = "mlflow_model"  # an MLmodel folder, to be registered when `register` is set
    CUSTOM_MODEL = "custom_model"  # files of weights without an MLmodel: safetensors, ONNX or JSON
    URI_FILE = "uri_file"
    URI_FOLDER = "uri_folder"


@dataclass(frozen=True)
class OutputContract:
    """One output that a job's file declares."""

    name: str
    type: OutputType
    register: str | None = None  # registered model name that the released model gets
    max_bytes: int | None = None  # the job's own bound; the policy's may be lower


@dataclass(frozen=True)
class ReleaseContract:
    """What a job says may leave: the signed part of its file that the gate compares with."""

    metrics: tuple[str, ...] = ()  # names or fnmatch patterns
    outputs: tuple[OutputContract, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What one rule saw. `where` and `measure` never hold data, only places and counts."""

    rule: str  # e.g. "rows-in-model"
    measure: str  # e.g. "426 of the dataset's 569 rows"
    limit: str  # e.g. "0 rows"
    hint: str
    where: str = ""  # e.g. "model.skops: array 3, float64[426,30]"


@dataclass(frozen=True)
class Decision:
    """What becomes of one output, and why."""

    name: str  # the output's declared name
    verdict: Verdict
    rule: str  # the rule that decided, e.g. "clean", "rows-in-model", "size"
    measure: str = ""
    limit: str = ""
    hint: str = ""
    findings: tuple[Finding, ...] = ()
    checks: tuple[str, ...] = ()  # every rule that ran
    not_checked: tuple[str, ...] = ()  # every rule that could not run, and so never counts as passed
    passed_over: tuple[str, ...] = ()  # places that were read and not searched to the last bit; for people at the site
    size_bytes: int = 0  # of the canonical copy, or of what was written when there is none
    ceiling_bytes: int = 0  # what the canonical copy could carry beyond what the policy asked for; 0 without a copy
    digest: Digest | None = None  # of the canonical copy (a folder: of its sorted manifest)
    files: tuple[str, ...] = field(default=())  # relative paths in the canonical copy
