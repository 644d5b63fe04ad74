"""Following a job: its lines on stdout, all else on stderr. Ctrl-C detaches; only `cancel` stops a job."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from rich.text import Text

from insitu.cli import job_text
from insitu.cli.errors import INTERRUPTED
from insitu.cli.output import Output, command, number, printable, state
from insitu.domain.jobs import JobState, is_final
from insitu.domain.quantities import format_bytes
from insitu.sdk.client import Client
from insitu.sdk.job_events import JobEvent
from insitu.sdk.submit import PreparedJob
from insitu.wire.people import JobView


def follow(client: Client, job_id: str, out: Output) -> int:
    """Show a job as it happens until it has ended or is held; the exit code that stands for it."""
    try:
        return _show(client, client.job(job_id), client.follow(job_id), out)
    except KeyboardInterrupt:
        return detach(job_id, out)


def submit(client: Client, prepared: PreparedJob, out: Output) -> int:
    """Submit a job and show it as it happens; the exit code that stands for it."""
    with ExitStack() as opened:
        with out.progress("submitting"):
            job, events = opened.enter_context(client.submit_and_follow(prepared))
        out.note(Text(f"submitted as {job.id}", style="dim"))
        try:
            return _show(client, job, events, out)
        except KeyboardInterrupt:
            return detach(job.id, out)


def _show(client: Client, job: JobView, events: Iterable[JobEvent], out: Output) -> int:
    _say_why_it_waits(job, out)
    for event in events:
        if not out.as_json:
            show_event(event, out)
    return finish(client.job(job.id), out)


def wait(client: Client, job_id: str, out: Output, *, timeout_s: float | None) -> int:
    """Wait without a word; the exit code that stands for the job."""
    try:
        with out.progress(f"waiting for {job_id}"):
            job = client.wait(job_id, timeout_s=timeout_s)
    except KeyboardInterrupt:
        return detach(job_id, out)
    return finish(job, out)


def finish(job: JobView, out: Output) -> int:
    """Say what became of a job."""
    code = job_text.exit_code(job)
    out.show({**_plain(job), "exit_code": code}, *job_text.describe(job), name=job.id)
    if job.state is JobState.HELD:
        out.note("It waits for a steward of its site. Nothing has to run again:")
        out.note(command(f"insitu job wait {job.id}"))
    return code


def detach(job_id: str, out: Output) -> int:
    """What Ctrl-C does: the job goes on."""
    out.err.print(Text(f"\nDetached. {job_id} continues."))
    out.err.print(command(f"insitu job logs -f {job_id}"))
    out.err.print(command(f"insitu job cancel {job_id}"))
    return INTERRUPTED


def show_event(event: JobEvent, out: Output) -> None:
    """One event, where it belongs: what the job printed is a result, the rest goes beside it."""
    data = event.data
    match event.kind:
        case "log":
            _show_line(data, out)
        case "metric":
            step = f"  step {data['step']}" if data.get("step") else ""
            value = data.get("value")
            text = number(value) if isinstance(value, int | float) else str(value)
            out.note(Text(f"  {printable(str(data.get('key')))} = {text}{step}", style="dim"))
        case "state":
            out.note(state(str(data.get("state"))))
        case "staging":
            done, of = (format_bytes(int(data.get(key, 0))) for key in ("done_bytes", "all_bytes"))
            out.note(Text(f"  data: about {done} of {of} at hand", style="dim"))
        case "decision":
            words = f"  {data.get('output')}: {data.get('rule')}"
            measure = f", {data['measure']}" if data.get("measure") else ""
            out.note(Text.assemble(state(str(data.get("verdict"))), printable(words + measure)))
        case _:
            pass


def _show_line(data: dict[str, Any], out: Output) -> None:
    text = Text(printable(str(data.get("text", ""))))
    if data.get("stream") == "stdout":
        out.out.print(text)
    else:
        text.stylize("dim")
        out.err.print(text)


def _say_why_it_waits(job: JobView, out: Output) -> None:
    if job.state is JobState.QUEUED and job.reason.what:
        out.note(Text.assemble(state("queued"), f": {job.reason.what}", (f"  {job.reason.hint}", "dim")))
    if not is_final(job.state) and job.link:
        out.note(Text.assemble(state(job.link), f": {job.site} is out of reach; the job goes on there"))


def _plain(job: JobView) -> dict[str, Any]:
    import json

    return json.loads(job.model_dump_json())
