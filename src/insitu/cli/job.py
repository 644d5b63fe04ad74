"""`insitu job …`: what was submitted, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from insitu.cli import following, job_text, meter_text
from insitu.cli.commands import command, group
from insitu.cli.output import current, plain, printable, state, when
from insitu.cli.session import hub
from insitu.domain.errors import InvalidInputError
from insitu.domain.jobs import JobState
from insitu.domain.quantities import parse_seconds
from insitu.wire.people import JobView, LogLine, MeterView

if TYPE_CHECKING:
    from insitu.sdk.client import Client

app = group("Jobs.")

_PAUSE_S = 0.3  # between two looks at a job that is followed

Id = Annotated[str, typer.Argument(help="The job's id, as `insitu run` prints it.", metavar="JOB")]


@command(app, "list")
def list_(
    *,
    which: Annotated[str, typer.Option("--state", help="Only those in this state.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many.", min=1, max=1000)] = 50,
) -> None:
    """Jobs, newest first."""
    if which and which not in set(JobState):
        raise InvalidInputError(f"{which!r} is no state of a job", code="job-state", hint=", ".join(JobState))
    with hub() as client:
        found = client.jobs(state=which, limit=limit)
    columns = {
        "job": lambda job: job.id,
        "name": lambda job: job.name,
        "state": _state,
        "site": lambda job: job.site,
        "by": lambda job: job.submitter,
        "data": lambda job: ", ".join(job.datasets),
        "submitted": lambda job: when(job.created_at),
    }
    current().table(found, columns, key=lambda job: job.id, empty="No jobs yet: `insitu run JOB.yaml`.")


def _state(job: JobView) -> Text:
    shown = state(job.state.value)
    why = job.reason.what if job.state is JobState.QUEUED else job.reason.rule or job.failure
    return Text.assemble(shown, (f"  {printable(why)}" if why else "", "dim"))


@command(app, "show")
def show(
    job_id: Id,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the job does.")] = False,
) -> None:
    """One job: state and reason, metrics, outputs with the rule that decided on each, what left and what was kept."""
    out = current()
    with hub() as client:
        if follow:
            meter_text.keep_showing(out, _changes(client, job_id))
            return
        job, meter = client.job(job_id), client.meter(job_id)
    out.show(_with_meter(job, meter), *job_text.describe(job, meter), name=job.id)


def _changes(client: Client, job_id: str) -> Iterator[tuple[dict[str, Any], list[RenderableType]]]:
    """The job now, and again with whatever it says, until it rests; at most a few times a second."""
    shown_at = 0.0
    for event in chain([None], client.follow(job_id), [None]):
        if event is not None and time.monotonic() - shown_at < _PAUSE_S:
            continue
        job, meter = client.job(job_id), client.meter(job_id)
        shown_at = time.monotonic()
        yield _with_meter(job, meter), job_text.describe(job, meter)


def _with_meter(job: JobView, meter: MeterView) -> dict[str, Any]:
    return {**plain(job), "meter": plain(meter)}


@command(app, "logs")
def logs(
    job_id: Id,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines arrive.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", help="Only the last so many lines.", min=0)] = 0,
) -> None:
    """The lines that the site let out."""
    out = current()
    with hub() as client:
        if follow and out.as_json:
            for event in client.follow(job_id):
                out.json_line({"kind": event.kind, **event.data})
            return
        if follow:
            raise typer.Exit(following.follow(client, job_id, out))
        lines = client.logs(job_id)
    lines = lines[-tail:] if tail else lines
    if out.as_json:
        out.json(lines)
        return
    for line in lines:
        _show_line(line)


def _show_line(line: LogLine) -> None:
    out = current()
    text = Text(printable(line.text), style="" if line.stream == "stdout" else "dim")
    # What the job printed is this command's result, whichever way it printed it.
    out.out.print(text)


@command(app, "cancel")
def cancel(job_id: Id) -> None:
    """Ask for a job's end. The site confirms it when its processes are gone."""
    with hub() as client:
        job = client.cancel(job_id)
    out = current()
    out.show(job, state(job.state.value), name=job.id)
    if job.state is not JobState.CANCELLED:
        out.note(f"Asked for; the site confirms it. `insitu job wait {job.id}` waits for that.")


@command(app, "wait")
def wait(
    job_id: Id,
    *,
    timeout: Annotated[str, typer.Option("--timeout", help="At most so long, e.g. 90s, 30m.")] = "",
) -> None:
    """Wait until a job has ended or is held. Ends as the job did: see the exit codes."""
    with hub() as client:
        timeout_s = float(parse_seconds(timeout)) if timeout else None
        raise typer.Exit(following.wait(client, job_id, current(), timeout_s=timeout_s))


@command(app, "schema")
def schema() -> None:
    """The JSON Schema of a job file, for editors and for checking."""
    from insitu.wire.job_file import job_schema

    current().json(job_schema())
