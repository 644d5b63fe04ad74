"""Jobs as text for people: what one is, what became of it, and what it means for a script's exit code."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from insitu.cli import meter_text
from insitu.cli.errors import rule_line
from insitu.cli.output import Cell, fields, heading, hint, number, plain, printable, short, state, when
from insitu.domain.jobs import JobState
from insitu.domain.quantities import format_bytes
from insitu.wire.people import JobView, MeterView, OutputView, Reason

DENIED = 3


def exit_code(job: JobView) -> int:
    """0 when it succeeded; 3 when it was denied or waits for a verdict; else 1. The script's own stays at its site."""
    if job.state is JobState.SUCCEEDED:
        return 0
    if job.state in (JobState.HELD, JobState.REFUSED) or job.failure == "policy":
        return DENIED
    return 1


def describe(job: JobView, meter: MeterView | None = None) -> list[RenderableType]:
    """Everything of a job that one looks for first."""
    shown: list[RenderableType] = [heading(f"{job.name}  {job.id}"), fields(_facts(job))]
    shown += reason(job.reason)
    if job.metrics:
        values = {key: number(value) for key, value in sorted(job.metrics.items())}
        shown += ["", heading("metrics"), fields(values)]
    if job.outputs:
        shown += ["", heading("outputs")]
        for output in job.outputs:
            shown += describe_output(output)
    if meter is not None and meter.left_bytes:
        shown += ["", heading("left the site"), *meter_text.of_hub(plain(meter))]
    if job.kept:
        kept = ", ".join(f"at least {count} × {what}" for what, count in sorted(job.kept.items()))
        shown += ["", Text(f"kept at the site: {printable(kept)}", style="dim")]
    return shown


def _facts(job: JobView) -> dict[str, Cell | None]:
    standing = state(job.state.value)
    if job.link:
        standing = Text.assemble(standing, "  ", state(job.link), (" (it goes on there)", "dim"))
    if job.cancel_requested and job.state is not JobState.CANCELLED:
        standing = Text.assemble(standing, ("  cancel requested", "yellow"))
    took_s = (job.ended_at - job.started_at).total_seconds() if job.ended_at and job.started_at else None
    return {
        "state": standing,
        "failure": job.failure,
        "site": job.site,
        "attempt": str(job.attempt) if job.attempt > 1 else None,
        "by": job.submitter,
        "experiment": job.experiment,
        "data": ", ".join(job.datasets),
        "code": short(job.code),
        "packages": short(job.lock),
        "submitted": when(job.created_at),
        "took": f"{took_s:.0f} s" if took_s is not None else None,
        "left the site": format_bytes(job.egress_bytes),
        "tags": ", ".join(f"{key}={value}" for key, value in job.tags.items()),
        "params": ", ".join(f"{key}={value}" for key, value in job.params.items()),
    }


def describe_output(output: OutputView) -> list[RenderableType]:
    """One output: what became of it, and by which rule."""
    registered = f"  {output.model} version {output.model_version}" if output.model_version else ""
    shown: list[RenderableType] = [
        Text.assemble(
            state(output.verdict),
            f"  {printable(output.name)}",
            (f"  {format_bytes(output.size_bytes)}" if output.size_bytes else "", "dim"),
            (registered, "green"),
        )
    ]
    if output.verdict != "released":
        shown.append(rule_line(output.rule, output.measure, output.limit))
    if output.review or output.reason:
        said = f": {printable(output.reason)}" if output.reason else ""
        shown.append(Text(f"  reviewed: {output.review or 'decided'}{said}"))
    if output.verdict != "released":
        if output.hint:
            shown.append(Text.assemble("  ", hint(output.hint)))
    return shown


def reason(why: Reason) -> list[RenderableType]:
    """Why something is as it is, when there is something to say."""
    shown: list[RenderableType] = []
    if why.what:
        shown.append(Text(f"  {printable(why.what)}"))
    if why.rule or why.measure:
        shown.append(rule_line(why.rule, why.measure, why.limit))
    if why.hint:
        shown.append(hint(why.hint))
    return shown
