"""What a running attempt tells the hub: a closed schema, in numbered batches.

Each event has a sequence number within its attempt, so a batch that arrives twice
changes nothing. Everything here has passed the gate; a batch names the ledger
entry that was written before it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from insitu.domain.jobs import FailureClass, JobState
from insitu.domain.outputs import Verdict
from insitu.domain.reviews import ReviewVerdict

MAX_EVENTS = 1000
LOCAL_RUN = ""  # the job's own run, as opposed to a child run that the script started


class _Event(BaseModel):
    # JSON has no NaN: a number that is none travels as a word instead of as null.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    seq: int = Field(ge=1)
    at: AwareDatetime


class StateEvent(_Event):
    """The attempt changed state. Reasons are words of ours, never of the job: its exit code stays at the site."""

    kind: Literal["state"] = "state"
    state: JobState
    failure: FailureClass | None = None
    code: str = Field(default="", max_length=60)
    what: str = Field(default="", max_length=500)
    rule: str = Field(default="", max_length=80)
    measure: str = Field(default="", max_length=200)
    limit: str = Field(default="", max_length=200)
    hint: str = Field(default="", max_length=500)
    room_bytes: int | None = Field(default=None, ge=0, description="what the job may send in all, if the site tells")


class StagingEvent(_Event):
    """How far the site is with getting a job's data ready: coarse numbers, no names."""

    kind: Literal["staging"] = "staging"
    done_bytes: int = Field(ge=0, description="that are at hand, rounded to one digit")
    all_bytes: int = Field(ge=0, description="in all, rounded to one digit")


class MetricEvent(_Event):
    kind: Literal["metric"] = "metric"
    run: str = Field(default=LOCAL_RUN, max_length=64)
    key: str = Field(max_length=250)
    value: float
    step: int = 0
    timestamp_ms: int = 0


class ParamEvent(_Event):
    kind: Literal["param"] = "param"
    run: str = Field(default=LOCAL_RUN, max_length=64)
    key: str = Field(max_length=250)
    value: str = Field(max_length=6000)


class TagEvent(_Event):
    kind: Literal["tag"] = "tag"
    run: str = Field(default=LOCAL_RUN, max_length=64)
    key: str = Field(max_length=250)
    value: str = Field(max_length=5000)


class RunEvent(_Event):
    """The script started a child run; its id is the gate's own and is mapped at the hub."""

    kind: Literal["run"] = "run"
    run: str = Field(max_length=64)
    parent: str = Field(default=LOCAL_RUN, max_length=64)
    name: str = Field(default="", max_length=100)


class LogEvent(_Event):
    kind: Literal["log"] = "log"
    stream: Literal["stdout", "stderr", "site"]
    text: str = Field(max_length=16384)


def channel_of(event: Mapping[str, Any]) -> str:
    """What an event counts as: its kind; of lines those apart that the site itself says, in sentences of ours."""
    kind = str(event["kind"])
    return "note" if kind == "log" and event.get("stream") == "site" else kind


class KeptEvent(_Event):
    """Things that stayed at the site because nobody declared them: counted by class, never named."""

    kind: Literal["kept"] = "kept"
    what: str = Field(max_length=60)  # a class: "artifact", "metric", "log line"
    count: int = Field(ge=1)


class FindingView(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str = Field(max_length=80)
    measure: str = Field(max_length=200)
    limit: str = Field(max_length=200)
    hint: str = Field(max_length=500)
    where: str = Field(default="", max_length=200)


class DecisionEvent(_Event):
    """What became of one declared output. A held one may get a second decision later."""

    kind: Literal["decision"] = "decision"
    output: str = Field(max_length=60)
    verdict: Verdict
    rule: str = Field(max_length=80)
    measure: str = Field(default="", max_length=200)
    limit: str = Field(default="", max_length=200)
    hint: str = Field(default="", max_length=500)
    findings: list[FindingView] = Field(default_factory=list[FindingView], max_length=20)
    not_checked: list[str] = Field(default_factory=list[str], max_length=40)
    size_bytes: int = Field(default=0, ge=0)
    digest: str = Field(default="", max_length=80)
    review: ReviewVerdict | Literal[""] = ""  # what reviewers said, when they decided
    reason: str = Field(default="", max_length=500)  # theirs, as they wrote it


Event = Annotated[
    StateEvent | StagingEvent | MetricEvent | ParamEvent | TagEvent | RunEvent | LogEvent | KeptEvent | DecisionEvent,
    Field(discriminator="kind"),
]


class EventBatch(BaseModel):
    """Numbered events of one attempt, without a gap."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: str
    attempt: int
    fence: int
    events: list[Event] = Field(min_length=1, max_length=MAX_EVENTS)
    entry: int = Field(ge=0, description="the ledger entry that was on disk before this was sent")
    size_bytes: int = Field(ge=0, description="what the entry says these events weigh")


class BatchReply(BaseModel):
    acknowledged: int = Field(description="last sequence number that the hub holds; send from the next one")
