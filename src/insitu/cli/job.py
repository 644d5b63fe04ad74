"""`insitu job …`: what was submitted, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from insitu.cli import following, job_text
from insitu.cli.commands import command, group
from insitu.cli.output import current, printable, state, when
from insitu.cli.session import hub
from insitu.domain.errors import InvalidInputError
from insitu.domain.jobs import JobState
from insitu.domain.quantities import parse_seconds
from insitu.wire.people import JobView, LogLine

app = group("Jobs.")

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
def show(job_id: Id) -> None:
    """One job: state and reason, metrics, outputs with the rule that decided on each, what was kept."""
    with hub() as client:
        job = client.job(job_id)
    current().show(job, *job_text.describe(job), name=job.id)


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
