"""`insitu run`: the plan, what may leave, then the signature."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from insitu.cli import following
from insitu.cli.commands import single
from insitu.cli.output import command, current, fields, heading, short, state
from insitu.cli.session import ask_yes, hub
from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import format_bytes
from insitu.sdk.client import Client
from insitu.sdk.submit import PreparedJob
from insitu.wire.job_file import Labels, command_line

_HERE = "Rehearsal"


class SandboxName(StrEnum):
    PODMAN = "podman"
    DOCKER = "docker"
    BUBBLEWRAP = "bubblewrap"


def run(
    file: Annotated[Path, typer.Argument(help="The job file.", metavar="JOB.yaml")],
    *,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change one value, e.g. inputs.C=0.5.", metavar="A.B=VALUE")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show it as it runs; its end is this command's.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and submit nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse", help="Run it here on made-up data, and say what would leave.", rich_help_panel=_HERE
        ),
    ] = False,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="A policy file; else what the site publishes.", rich_help_panel=_HERE),
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", help="Whose data and policy, where several fit.", rich_help_panel=_HERE)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="A file of yours for a dataset.", metavar="INPUT=FILE", rich_help_panel=_HERE),
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", help="Made-up rows.", rich_help_panel=_HERE)] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Other made-up rows.", rich_help_panel=_HERE)] = None,
    sandbox: Annotated[
        SandboxName | None, typer.Option("--sandbox", help="podman, docker or bubblewrap.", rich_help_panel=_HERE)
    ] = None,
    base_layout: Annotated[
        Path | None, typer.Option("--base-layout", help="OCI layout with the base.", rich_help_panel=_HERE)
    ] = None,
) -> None:
    """Lock a job's packages, show what runs where and what may leave, sign it, and submit it.

    With --rehearse nothing is submitted: it runs on this machine, on made-up data, as it would at the site.
    """
    out = current()
    only_here = {
        "policy": policy,
        "site": site,
        "data": data or (),
        "rows": rows,
        "seed": seed,
        "sandbox": sandbox and sandbox.value,
        "base_layout": base_layout,
    }
    if rehearse:
        given: dict[str, Any] = {name: value for name, value in only_here.items() if value is not None}
        raise typer.Exit(_rehearse(file, _changes(changes or []), given))
    if any(value not in (None, ()) for value in only_here.values()):
        raise InvalidInputError(
            "--policy, --site, --data, --rows, --seed, --sandbox and --base-layout are for rehearsals",
            code="usage",
            hint=f"insitu run --rehearse {file}",
        )
    with hub() as client:
        with out.progress(f"reading {file}") as say:
            prepared = client.prepare(file, changes=_changes(changes or []), progress=say)
        plan = _plan(prepared, client)
        if dry_run:
            out.show({"plan": plan, "submitted": False}, *_describe(prepared, client))
            return
        for part in _describe(prepared, client):
            out.note(part)
        if not yes and not ask_yes("Sign and submit it?"):
            raise typer.Abort
        if follow:
            raise typer.Exit(following.submit(client, prepared, out))
        with out.progress("submitting"):
            job = client.submit(prepared)
    out.show(job, Text(job.id), name=job.id)
    if job.reason.what:
        out.note(Text.assemble(state(job.state.value), f": {job.reason.what}"))
    out.note(command(f"insitu job logs -f {job.id}"))


def _rehearse(file: Path, changes: dict[str, str], given: dict[str, Any]) -> int:
    from insitu.cli.rehearse import Asked, rehearse_job

    return rehearse_job(Asked(file=file, changes=changes, **given), current())


def _changes(given: Sequence[str]) -> dict[str, str]:
    changes = {}
    for text in given:
        path, mark, value = text.partition("=")
        if not mark:
            raise InvalidInputError(f"--set {text!r} is not path=value", code="job-set", hint="e.g. --set inputs.C=0.5")
        changes[path] = value
    return changes


def _plan(prepared: PreparedJob, client: Client) -> dict[str, Any]:
    job = prepared.job
    return {
        "name": job.display_name,
        "command": command_line(job),
        "sites": list(prepared.sites),
        "left_out": {site: error.as_dict() for site, error in prepared.left_out.items()},
        "code": prepared.code,
        "targets": [target.model_dump() for target in prepared.targets],
        "datasets": [pin.model_dump() for pin in prepared.pins],
        "may_leave": {
            "metrics": list(job.metrics),
            "outputs": {name: output.model_dump(mode="json", by_alias=True) for name, output in job.outputs.items()},
        },
        "signed_with": client.fingerprint,
    }


def _describe(prepared: PreparedJob, client: Client) -> list[RenderableType]:
    job = prepared.job
    outputs = [
        f"{name} ({out.type.value}{f', registered as {out.register_as}' if out.register_as else ''}"
        f"{f', at most {format_bytes(out.max_bytes)}' if out.max_bytes else ''})"
        for name, out in job.outputs.items()
    ]
    data = [
        f"{pin.name}@{pin.version} {short(pin.digest) if pin.digest else '(no site offers it now)'}"
        for pin in prepared.pins
    ]
    where = Text(", ".join(prepared.sites)) if prepared.sites else Text("no site could run it now: it waits", "yellow")
    wanted = job.compute.labels if isinstance(job.compute, Labels) else job.compute
    return [
        heading(job.display_name),
        fields(
            {
                "runs": command_line(job),
                "at": where if wanted is None else Text.assemble(where, (f"  (asked for: {wanted})", "dim")),
                "code": short(prepared.code),
                "not at": "; ".join(f"{site}: {error.what}" for site, error in prepared.left_out.items()),
                "packages": ", ".join(_packages(prepared)),
                "data": ", ".join(data) or "none",
                "purpose": job.tags.get("purpose", ""),
                "limits": f"{job.resources.cpus:g} processors, {format_bytes(job.resources.memory)}, "
                f"{job.limits.timeout:g} s",
                "signed by": client.fingerprint,
            }
        ),
        Text("may leave, if the site's policy lets it:", style="bold yellow"),
        fields(
            {
                "  metrics": ", ".join(job.metrics) or "none",
                "  outputs": "; ".join(outputs) or "none",
                "  logs": "lines, as the site's policy says",
            }
        ),
    ]


def _packages(prepared: PreparedJob) -> list[str]:
    return [f"{short(one.lock)} for Python {one.python} on {one.platform}" for one in prepared.targets]


app = single(run)
