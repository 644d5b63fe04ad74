"""A job as it happens: its server-sent events, over connections that may break."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from insitu.domain.errors import UnreachableError
from insitu.domain.jobs import JobState, is_final
from insitu.sdk.hub_calls import part
from insitu.sdk.transport import Transport
from insitu.wire.people import JobRequest, JobView

_RECONNECT_S = 1.0
_PATIENCE_S = 60.0  # that a hub may be away while one follows a job
_ACCEPT = {"Accept": "text/event-stream"}


@dataclass(frozen=True)
class JobEvent:
    """One thing that a job's stream told: a line, a metric, a state, a decision."""

    id: str
    kind: str
    data: dict[str, Any]

    @property
    def text(self) -> str:
        match self.kind:
            case "log":
                return str(self.data.get("text", ""))
            case "metric":
                return f"{self.data.get('key')} = {self.data.get('value')}"
            case "state":
                return f"{self.data.get('state')}"
            case _:
                return json.dumps(self.data)


def follow(http: Transport, job_id: str, *, after: str = "") -> Iterator[JobEvent]:
    """What happens to a job after an event, until it is final or held.

    Raises:
        UnreachableError: the hub stayed away for a minute.
    """
    return _follow(http, job_id, after, _stream(http, job_id, after))


@contextmanager
def submit(http: Transport, request: JobRequest) -> Iterator[tuple[JobView, Iterator[JobEvent]]]:
    """Submit a job, and follow it by the same answer: nothing has to be asked for while it starts.

    Raises:
        MissingBlobsError: the hub lacks code or locks that the job names.
        InsituError: the hub did not take it.
    """
    headers = {"Content-Type": "application/json", **_ACCEPT}
    body = request.model_dump_json().encode()
    with http.stream("POST", "/api/v1/jobs", content=body, headers=headers) as response:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            job = JobView.model_validate_json(response.read())  # of a hub that does not know of this
            yield job, follow(http, job.id)
            return
        events = _events(http.lines(response))
        first = next(events, None)
        if first is None:
            raise http.broke_off()  # the hub stopped just then: the same envelope may be sent again
        job = JobView.model_validate(first.data)
        yield job, _follow(http, job.id, "", events)


def _follow(http: Transport, job_id: str, after: str, stream: Iterator[JobEvent]) -> Iterator[JobEvent]:
    last = after
    heard_at = time.monotonic()
    while True:
        try:
            for event in stream:
                last, heard_at = event.id or last, time.monotonic()
                yield event
            # A hub that stops ends its streams as well: only the job's state says that this was the end.
            job = JobView.model_validate(http.call("GET", _path(job_id)))
            if is_final(job.state) or job.state == JobState.HELD:
                return
            heard_at = time.monotonic()
        except UnreachableError:
            if time.monotonic() - heard_at > _PATIENCE_S:
                raise
        time.sleep(_RECONNECT_S)
        stream = _stream(http, job_id, last)


def _stream(http: Transport, job_id: str, after: str) -> Iterator[JobEvent]:
    headers = {**_ACCEPT, **({"Last-Event-ID": after} if after else {})}
    with http.stream("GET", f"{_path(job_id)}/events", headers=headers) as response:
        yield from _events(http.lines(response))


def _path(job_id: str) -> str:
    return f"/api/v1/jobs/{part(job_id)}"


def _events(lines: Iterable[str]) -> Iterator[JobEvent]:
    """Server-sent events (HTML standard, section 9.2) that carry data."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            yield JobEvent(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
        fields = {}
