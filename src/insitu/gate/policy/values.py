"""A site's policy as values: what may run, and what may leave.

Everything that a policy does not grant is denied: a missing section is a
section of zeros and empty lists, so code that compares with a limit denies
without asking whether the section was there. Attributes carry units where the
file's keys don't: `memory: 4GiB` is `sandbox.memory_bytes`, `timeout: 6h` is
`sandbox.timeout_s`.

The schema holds exactly what this version enforces. What is known but not yet
enforced is listed in `policy/unenforced.py` and refused by `policy/loading.py`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from insitu.domain.digests import Digest
from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import BYTES_PATTERN, SECONDS_PATTERN, parse_bytes, parse_seconds

# What comes from YAML is any type at all; the validators below turn three kinds
# of text into numbers and leave the rest for pydantic's strict mode to refuse.


def _quantity(parse: Callable[[int | str], int]) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        try:
            return parse(value)
        except InvalidInputError as error:
            raise ValueError(f"{error.what}: {error.hint}") from error  # pydantic collects ValueError alone

    return convert


def _as_tuple(value: Any) -> Any:
    if not isinstance(value, list):
        raise ValueError("must be a list, like [a, b]")  # noqa: TRY004 - pydantic collects ValueError alone
    return tuple(cast("list[Any]", value))


def _as_ports(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - pydantic collects ValueError alone
            "ports are written as a range, like 8000-8010"
        )
    first, _, last = value.partition("-")
    if not (first.isdecimal() and last.isdecimal() and len(value) <= 11):
        raise ValueError("ports are written as a range, like 8000-8010")
    return Ports(first=int(first), last=int(last))


def _either(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": pattern}]})


ByteCount = Annotated[int, BeforeValidator(_quantity(parse_bytes)), _either(BYTES_PATTERN)]
Seconds = Annotated[int, BeforeValidator(_quantity(parse_seconds)), _either(SECONDS_PATTERN)]
PersonName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
KeyFingerprint = Annotated[str, Field(pattern=r"^ed25519:SHA256:[A-Za-z0-9+/_-]{43}=?$")]
DigestText = Annotated[Digest, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
TypeName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
PersonNames = Annotated[tuple[PersonName, ...], BeforeValidator(_as_tuple)]
Otherwise = Literal["held", "refused", "resident"]
ModelFormat = Literal["skops", "safetensors", "onnx", "json"]
Precision = Literal["float32", "bfloat16", "float16"]


class _Values(BaseModel):
    """Frozen, nothing unknown, nothing converted by guess (`"5"` is not 5)."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)


class DatasetRules(_Values):
    """Who may use a dataset, for what, until when and how often. All four must be said."""

    who: PersonNames
    purpose: Annotated[str, Field(min_length=1, max_length=200)]  # must equal the job's tag `purpose`
    until: dt.date  # the last day (UTC) on which a job may start
    runs: Annotated[int, Field(ge=0)]  # accepted jobs in all


class SandboxRules(_Values):
    """The most that one job may have. A job asks for less or is refused."""

    memory_bytes: Annotated[ByteCount, Field(alias="memory")]
    cpus: Annotated[int | float, Field(ge=0, le=4096)]
    gpus: Literal[0] = 0
    timeout_s: Annotated[Seconds, Field(alias="timeout")]
    processes: Annotated[int, Field(ge=0)]
    disk_bytes: Annotated[ByteCount, Field(alias="disk")] = 10 << 30  # outputs, and what the gate wrote down of the job
    free_bytes: Annotated[ByteCount, Field(alias="free")] = 1 << 30  # kept back on the site's disk


class MetricRules(_Values):
    digits: Annotated[int, Field(ge=1, le=8)]  # significant decimal digits that leave
    max_count: Annotated[int, Field(ge=0)]  # values a job may send, over all names and steps
    per_second: Annotated[int, Field(ge=1)] = 50  # on average; a minute's worth may come at once
    max_names: Annotated[int, Field(ge=0, le=1000)] = 100  # under patterns; names that the job's file spells are free


class ParamRules(_Values):
    """Parameters and tags that the script logs; both count against `max_bytes` together."""

    max_bytes: ByteCount
    # What they may tell beyond what was to be expected (`gate/channels/line_code.py`).
    ceiling_bytes: Annotated[ByteCount, Field(alias="ceiling")] = 1024


class LogRules(_Values):
    mode: Literal["held", "scanned", "open"]
    max_bytes: ByteCount
    ceiling_bytes: Annotated[ByteCount, Field(alias="ceiling")] = 512  # as for parameters; of scanned lines
    per_second: Annotated[int, Field(ge=1)] = 200  # lines, on average; a minute's worth may come at once


class SmokeRules(_Values):
    """The smoke prediction: what was written and what would leave, asked the same rows inside one sandbox."""

    rows: Annotated[int, Field(ge=1, le=10_000)]  # rows of the job's first dataset that both are asked
    tolerance: Annotated[float, Field(ge=0, le=1)]  # share of predictions that may differ


class ModelRules(_Values):
    formats: Annotated[tuple[ModelFormat, ...], BeforeValidator(_as_tuple)]
    trusted_types: Annotated[tuple[TypeName, ...], BeforeValidator(_as_tuple)] = ()
    known_rows: Annotated[int, Field(ge=0)] = 0
    max_bytes: ByteCount
    precision: Precision | None = None  # what tensors are rounded to; None: they leave as they were stored
    ceiling_bytes: Annotated[ByteCount, Field(alias="ceiling")] = 0  # carried beyond what was asked for, in an envelope
    free_ceiling_bytes: Annotated[ByteCount, Field(alias="free_ceiling")] = (
        0  # and where no run envelope covers the job
    )
    smoke: SmokeRules | None = None
    otherwise: Otherwise = "held"


class FileRules(_Values):
    formats: Annotated[tuple[Literal["csv", "json", "png"], ...], BeforeValidator(_as_tuple)]
    max_bytes: ByteCount
    max_count: Annotated[int, Field(ge=1, le=1000)] = 20  # files in one output
    otherwise: Literal["held", "refused"] = "held"


_NO_METRICS = MetricRules(digits=1, max_count=0)
_NO_PARAMS = ParamRules.model_validate({"max_bytes": 0, "ceiling": 0})
_NO_LOGS = LogRules.model_validate({"mode": "held", "max_bytes": 0, "ceiling": 0})
_NO_MODELS = ModelRules.model_validate({"formats": [], "max_bytes": 0})
_NO_FILES = FileRules.model_validate({"formats": [], "max_bytes": 0})


class FreeRules(_Values):
    """What is stricter for code that nobody has approved: jobs that no run envelope covers. Left out: as for all.

    Each can only tighten: of two limits the lower one holds, whichever it is.
    """

    metric_digits: Annotated[int, Field(ge=1, le=8)] | None = None
    metric_count: Annotated[int, Field(ge=0)] | None = None
    param_bytes: ByteCount | None = None
    logs: Literal["held", "scanned", "open"] | None = None
    log_bytes: ByteCount | None = None
    log_ceiling_bytes: Annotated[ByteCount | None, Field(alias="log_ceiling")] = None
    param_ceiling_bytes: Annotated[ByteCount | None, Field(alias="param_ceiling")] = None
    file_formats: Annotated[tuple[Literal["csv", "json", "png"], ...], BeforeValidator(_as_tuple)] | None = None


class ReleaseRules(_Values):
    """What may leave, channel by channel. A channel that is not named is closed."""

    metrics: MetricRules = _NO_METRICS
    params: ParamRules = _NO_PARAMS
    logs: LogRules = _NO_LOGS
    errors: Literal["none", "type-and-frames"] = "none"
    models: ModelRules = _NO_MODELS
    files: FileRules = _NO_FILES
    free: FreeRules = FreeRules()

    @property
    def for_free_code(self) -> ReleaseRules:
        """What may leave of a job whose code nobody has approved."""
        free, formats = self.free, self.free.file_formats
        digits, count = (
            _lower(self.metrics.digits, free.metric_digits),
            _lower(self.metrics.max_count, free.metric_count),
        )
        log_bytes, mode = _lower(self.logs.max_bytes, free.log_bytes), free.logs or self.logs.mode
        stricter = min(self.logs.mode, mode, key=_LOG_MODES.index)
        kept = self.files.formats if formats is None else tuple(one for one in self.files.formats if one in formats)
        log_ceiling = _lower(self.logs.ceiling_bytes, free.log_ceiling_bytes)
        params = {
            "max_bytes": _lower(self.params.max_bytes, free.param_bytes),
            "ceiling_bytes": _lower(self.params.ceiling_bytes, free.param_ceiling_bytes),
        }
        return self.model_copy(
            update={
                "metrics": self.metrics.model_copy(update={"digits": digits, "max_count": count}),
                "params": self.params.model_copy(update=params),
                "logs": self.logs.model_copy(
                    update={"mode": stricter, "max_bytes": log_bytes, "ceiling_bytes": log_ceiling}
                ),
                "files": self.files.model_copy(update={"formats": kept}),
            }
        )


_LOG_MODES = ("held", "scanned", "open")


def _lower(limit: int, other: int | None) -> int:
    return limit if other is None else min(limit, other)


class BudgetRules(_Values):
    """Bytes that may leave in all, over every channel."""

    per_job_bytes: Annotated[ByteCount, Field(alias="per_job")]
    per_dataset_per_month_bytes: Annotated[ByteCount, Field(alias="per_dataset_per_month")]
    per_submitter_per_month_bytes: Annotated[ByteCount, Field(alias="per_submitter_per_month")]
    tell_hub: bool = True  # how much a job may send, in round numbers, so that people see how much of it is used
    # Sums of the releases' ceilings. Left out: those of the bytes above hold for them too.
    ceiling_per_dataset_per_month_bytes: Annotated[ByteCount | None, Field(alias="ceiling_per_dataset_per_month")] = (
        None
    )
    ceiling_per_submitter_per_month_bytes: Annotated[
        ByteCount | None, Field(alias="ceiling_per_submitter_per_month")
    ] = None


class ReviewRules(_Values):
    reviewers: dict[PersonName, KeyFingerprint] = {}
    needed: Literal[1, 2] = 1  # two work blind: neither sees the other's verdict before giving their own
    own: Literal["never"] = "never"  # a job's signer never reviews it, by key or by name


class Ports(_Values):
    first: Annotated[int, Field(ge=1, le=65535)]
    last: Annotated[int, Field(ge=1, le=65535)]

    @model_validator(mode="after")
    def _in_order(self) -> Ports:
        if self.last < self.first:
            raise ValueError(f"the range {self.first}-{self.last} is empty")
        return self

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last


class DeploymentRules(_Values):
    signers: PersonNames = ()
    max: Annotated[int, Field(ge=0)]
    ports: Annotated[
        Ports, BeforeValidator(_as_ports), WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,5}-[0-9]{1,5}$"})
    ]
    memory_bytes: Annotated[ByteCount, Field(alias="memory")]


_NO_SANDBOX = SandboxRules.model_validate({"memory": 0, "cpus": 0, "timeout": 0, "processes": 0})
_NO_BUDGET = BudgetRules.model_validate({"per_job": 0, "per_dataset_per_month": 0, "per_submitter_per_month": 0})
_NO_DEPLOYMENTS = DeploymentRules.model_validate({"max": 0, "ports": "1-1", "memory": 0})


class Policy(_Values):
    """One version of a site's policy. Made by `insitu.gate.policy.loading.load_policy`."""

    version: Annotated[int, Field(ge=1)]
    publish_policy: bool = False  # whether the hub is told the rules, without any person, so that people can rehearse
    signers: dict[PersonName, KeyFingerprint] = {}
    bases: Annotated[tuple[DigestText, ...], BeforeValidator(_as_tuple)] = ()
    images: Annotated[tuple[DigestText, ...], BeforeValidator(_as_tuple)] = ()  # that jobs may bring as environments
    datasets: dict[DatasetName, DatasetRules] = {}
    sandbox: SandboxRules = _NO_SANDBOX
    release: ReleaseRules = ReleaseRules()
    budget: BudgetRules = _NO_BUDGET
    review: ReviewRules = ReviewRules()
    deployments: DeploymentRules = _NO_DEPLOYMENTS

    def for_code(self, *, approved: bool) -> Policy:
        """This policy as it is for a job: with what is stricter for free code, unless a run envelope covers the job."""
        return self if approved else self.model_copy(update={"release": self.release.for_free_code})

    @model_validator(mode="after")
    def _names_are_listed(self) -> Policy:
        """A grant to somebody whose key is not listed is a typing error, not a smaller grant."""
        for dataset, rules in self.datasets.items():
            self._check_signers(rules.who, f"datasets.{dataset}.who")
        self._check_signers(self.deployments.signers, "deployments.signers")
        return self

    def _check_signers(self, names: tuple[str, ...], where: str) -> None:
        strangers = sorted(set(names) - set(self.signers))
        if strangers:
            raise ValueError(f"{where} names {', '.join(strangers)}, who is not in signers")
