"""The one request that an intake serves: which job, under which rules, where it may write.

It comes from the agent, on standard input, as one line of JSON. It is read
strictly all the same: a key that nobody reads would be a rule that nobody keeps.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from insitu.domain.errors import InvalidInputError
from insitu.domain.outputs import OutputContract, OutputType, ReleaseContract

MAX_REQUEST_BYTES = 4 << 20
LOGS = "logs"
"""Folder in `state_dir`: all that the job wrote to its two streams."""
EVENTS, FAULTS = "events.jsonl", "intake.log"
GATE_FILES = (EVENTS, FAULTS, f"{LOGS}/stdout.log", f"{LOGS}/stderr.log")
"""In `state_dir`, from the beginning. Who made it for this process may have made these too; they are empty then."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IntakeLimits(_Strict):
    """What one job may make this process hold, so that it can fill neither memory nor disk."""

    artifact_bytes_total: int = Field(default=2 << 30, ge=0)
    artifact_files: int = Field(default=10_000, ge=0)
    request_bytes: int = Field(default=16 << 20, ge=1024)  # body of one call, artifacts apart
    events_total: int = Field(default=200_000, ge=0)
    log_bytes: int = Field(default=64 << 20, ge=0)  # of each stream, kept in full for the steward
    kept_bytes: int = Field(default=16 << 20, ge=0)  # details of what was kept; beyond it only counts


class OutputTerms(_Strict):
    name: str
    type: OutputType = OutputType.URI_FOLDER
    register_as: str | None = Field(default=None, alias="register")
    max_bytes: int | None = None


class ContractTerms(_Strict):
    """What the job's file declares, as `dataclasses.asdict(ReleaseContract)` writes it."""

    metrics: tuple[str, ...] = ()
    outputs: tuple[OutputTerms, ...] = ()

    def as_contract(self) -> ReleaseContract:
        outputs = tuple(
            OutputContract(name=out.name, type=out.type, register=out.register_as, max_bytes=out.max_bytes)
            for out in self.outputs
        )
        return ReleaseContract(metrics=self.metrics, outputs=outputs)


class WarmUp(_Strict):
    """What a waiting process may read ahead, so that the job need not wait for it. Changes no answer."""

    policy: str = ""
    index_dirs: tuple[Path, ...] = ()


class StandBack(_Strict):
    """How long a process leaves its request unread while nobody has connected to its control socket."""

    at_most_s: float = Field(default=0.0, ge=0, le=10)


class IntakeRequest(_Strict):
    job_id: str = Field(max_length=64)
    attempt: int = Field(ge=0)
    run_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    experiment_id: str = Field(default="1", pattern=r"^[0-9]{1,20}$")
    experiment_name: str = Field(max_length=250)
    run_name: str = Field(default="job", max_length=250)
    policy: str
    in_envelope: bool = False  # a run envelope covers the job: what is stricter for free code is not for it
    contract: ContractTerms = ContractTerms()
    index_dirs: tuple[Path, ...] = ()
    socket: Path  # for the job; its folder is what the sandbox mounts
    control: Path  # for the agent and the sandbox's keeper; never mounted
    state_dir: Path
    inputs: dict[str, Path] = Field(default_factory=dict)  # of mode direct: the list of each one's objects
    feed: Path | None = None  # the agent's socket, which gives their bytes
    feed_wait_s: float = Field(default=300.0, ge=0)  # for an agent that is away: it may be starting anew
    address: str = "http://127.0.0.1:5000"  # of the socket, as the job sees it
    limits: IntakeLimits = IntakeLimits()
    script_root: str = "/job/code"
    tags: dict[str, str] = Field(default_factory=dict)  # the run's own, shown to the script


def read_request(line: bytes) -> IntakeRequest:
    """The request that `line` states.

    Raises:
        InvalidInputError: it is not one. The text says which key, and repeats no value.
    """
    try:
        return IntakeRequest.model_validate_json(line)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the request"
        raise InvalidInputError(f"intake: {place}: {first['type']}", code="intake-request") from exc
