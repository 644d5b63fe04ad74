"""Metrics as they are written and read in the thousands: without an object for each.

Most of what a gate writes and a hub reads is metrics; to make an object of each, and
JSON of that, took two thirds of what a batch cost. `metric_line` writes what
`MetricEvent` would. `read_plain_metrics` parses a batch of nothing else once and looks
at each event where it lies. What it accepts, `EventBatch` accepts as well, with the same
meaning; everything else (another kind of event, a field left out, a number written as
text) is None, and `EventBatch` decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import orjson

from insitu.wire.events import MAX_EVENTS, EventBatch, MetricEvent

_BATCH_FIELDS: Final = frozenset(EventBatch.model_fields)
_EVENT_FIELDS: Final = frozenset(MetricEvent.model_fields)
_LARGEST: Final = 1.7976931348623157e308  # what is beyond it is an infinity
_LONGEST_KEY: Final = 250
_LONGEST_RUN: Final = 64
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class PlainMetrics:
    """An `EventBatch` of metrics alone. Its events are documents, numbered without a gap."""

    job_id: str
    attempt: int
    fence: int
    entry: int
    size_bytes: int
    events: Sequence[dict[str, Any]]


def metric_line(*, seq: int, at: datetime, run: str, key: str, value: float, step: int) -> str:
    """A `MetricEvent` as JSON, timed by `at`. The value is finite, and the names are short enough."""
    event = {
        "seq": seq,
        "at": at,
        "kind": "metric",
        "run": run,
        "key": key,
        "value": float(value),
        "step": step,
        "timestamp_ms": int(at.timestamp() * 1000),
    }
    return orjson.dumps(event).decode()


def read_plain_metrics(body: bytes) -> PlainMetrics | None:
    """The batch, or None when it is of another form, or none at all."""
    try:
        (found,) = _documents([orjson.loads(body)])
    except ValueError:  # no JSON, or no object
        return None
    if found.keys() != _BATCH_FIELDS:
        return None
    numbers = [found[name] for name in ("attempt", "fence", "entry", "size_bytes")]
    if type(found["job_id"]) is not str or any(type(number) is not int for number in numbers) or min(numbers[2:]) < 0:
        return None
    try:
        events = _documents(found["events"])
    except ValueError:
        return None
    if not 1 <= len(events) <= MAX_EVENTS or not _are_metrics(events):
        return None
    attempt, fence, entry, size_bytes = numbers
    return PlainMetrics(found["job_id"], attempt, fence, entry, size_bytes, events)


def _documents(given: Any) -> list[dict[str, Any]]:
    """Raises ValueError: it is no list of objects."""
    if type(given) is not list or not all(type(each) is dict for each in cast("list[Any]", given)):
        raise ValueError("not a list of objects")
    return cast("list[dict[str, Any]]", given)


def _are_metrics(events: list[dict[str, Any]]) -> bool:
    seq, time = events[0].get("seq"), ""
    if type(seq) is not int or seq < 1:
        return False
    for event in events:
        if event.keys() != _EVENT_FIELDS or event["kind"] != "metric":
            return False
        key, run, value, at = event["key"], event["run"], event["value"], event["at"]
        if type(key) is not str or type(run) is not str or type(value) is not float or type(at) is not str:
            return False
        if type(event["seq"]) is not int or type(event["step"]) is not int or type(event["timestamp_ms"]) is not int:
            return False
        if event["seq"] != seq or len(key) > _LONGEST_KEY or len(run) > _LONGEST_RUN:
            return False
        if not -_LARGEST <= value <= _LARGEST:
            return False
        if at != time and not _is_time(at):
            return False
        seq, time = seq + 1, at
    return True


def _is_time(text: str) -> bool:
    """Whether it is a moment with its offset from UTC."""
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:  # a 30th of February
        return False
    return True
