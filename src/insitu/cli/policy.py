"""`insitu policy …`: what may run at a site, and what may leave it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.output import current, fields, heading, state
from insitu.cli.session import SiteDir, ask_site, site_folder
from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import format_bytes, parse_seconds

if TYPE_CHECKING:
    from insitu.gate.policy.loading import Policy

app = group("What may run at a site, and what may leave it.")


@command(app, "show")
def show(*, folder: SiteDir = None) -> None:
    """The policy that the site goes by now."""
    found = ask_site(folder, "policy_show")
    text = yaml.safe_dump(found["policy"], sort_keys=False, default_flow_style=None, width=110)
    current().show(found, heading(f"policy, version {found['version']}"), Text(text.rstrip()))


@command(app, "check")
def check(
    file: Annotated[
        Path | None, typer.Argument(help="A policy file; without one: the site's.", metavar="[FILE]")
    ] = None,
    *,
    folder: SiteDir = None,
) -> None:
    """Read a policy as the site would, and say what it lets through. Needs neither hub nor agent."""
    from insitu.gate.policy.loading import load_policy, policy_digest

    path = file or site_folder(folder) / "policy.yaml"
    text = _read(path)
    policy = load_policy(text)
    found: dict[str, Any] = {
        "ok": True,
        "version": policy.version,
        "digest": policy_digest(text),
        "warnings": _warnings(policy),
    }
    grants = [
        f"{name}: {', '.join(rules.who) or 'nobody'} for {rules.purpose!r} until {rules.until}, {rules.runs} runs"
        for name, rules in policy.datasets.items()
    ]
    release, budget = policy.release, policy.budget
    shown = fields(
        {
            "signers": ", ".join(policy.signers) or "nobody",
            "bases": str(len(policy.bases)),
            "datasets": "; ".join(grants) or "none granted",
            "metrics": f"{release.metrics.digits} digits, {release.metrics.max_count} values",
            "logs": f"{release.logs.mode}, {format_bytes(release.logs.max_bytes)}",
            "models": f"{', '.join(release.models.formats) or 'none'}, {format_bytes(release.models.max_bytes)}, "
            f"{release.models.known_rows} known rows, else {release.models.otherwise}",
            "ceiling": f"{format_bytes(release.models.ceiling_bytes)} a model in a run envelope, "
            f"{format_bytes(release.models.free_ceiling_bytes)} outside",
            "files": f"{', '.join(release.files.formats) or 'none'}, {format_bytes(release.files.max_bytes)}, "
            f"else {release.files.otherwise}",
            "budget": f"{format_bytes(budget.per_job_bytes)} a job, "
            f"{format_bytes(budget.per_dataset_per_month_bytes)} a dataset and month",
            "reviewers": ", ".join(policy.review.reviewers) or "nobody",
            "deploy": ", ".join(policy.deployments.signers) or "nobody",
        }
    )
    warnings = [Text.assemble(state("warning"), f": {text}") for text in found["warnings"]]
    current().show(found, Text.assemble(state("ok"), f"  {path}, version {policy.version}"), shown, *warnings)


@command(app, "schema")
def schema() -> None:
    """The JSON Schema of a policy file, for editors. `agent init` writes it beside the policy."""
    from insitu.gate.policy.loading import policy_schema

    current().json(policy_schema())


@command(app, "diff")
def diff(
    files: Annotated[
        list[Path], typer.Argument(help="The new policy; or an old one and a new one.", metavar="[OLD] NEW")
    ],
    *,
    folder: SiteDir = None,
) -> None:
    """What a new policy lets through or stops, key by key, against an old one or the site's own."""
    from insitu.gate.policy.diff import compare, count
    from insitu.gate.policy.loading import load_policy

    if len(files) > 2:
        raise InvalidInputError("a policy is compared with one other", code="usage", hint="insitu policy diff OLD NEW")
    *olds, new_path = files
    old, note = (load_policy(_read(olds[0])), "") if olds else _in_force(site_folder(folder) / "policy.yaml")
    changes = compare(old, load_policy(_read(new_path)))
    counted = count(changes)
    out = current()
    if out.as_json:
        out.json({"changes": [vars(one) for one in changes], **counted, "note": note})
        return
    if note:
        out.note(Text(note, style="yellow"))
    columns = {
        "": lambda one: state(one.direction.value),
        "key": lambda one: one.key,
        "before": lambda one: one.before or "(not there)",
        "after": lambda one: one.after or "(not there)",
    }
    out.table(changes, columns, key=lambda one: one.key, empty="Nothing that a policy says differs.")
    out.note(Text(", ".join(f"{number} {word}" for word, number in counted.items() if number), style="bold"))


@command(app, "test")
def try_out(
    file: Annotated[Path, typer.Argument(help="The new policy.", metavar="NEW")],
    *,
    last: Annotated[int, typer.Option("--last", min=1, max=500, help="So many jobs, the newest.")] = 20,
    since: Annotated[str, typer.Option("--since", help="Only jobs from then on: a date, or e.g. 30d.")] = "",
    folder: SiteDir = None,
) -> None:
    """What a new policy would have said to the jobs that the site has had. Nothing of it leaves the site."""
    from insitu.cli.policy_test_text import describe

    start = _since(since)
    out, text = current(), _read(file)
    with out.progress(f"going through the last {last} jobs"):
        found = ask_site(folder, "policy_test", text=text, last=last, since=start.isoformat() if start else "")
    if not found["jobs"] and not out.as_json:
        out.note("The site has had no such job.")
        return
    out.show(found, *describe(found))


def _since(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        return datetime.now(UTC) - timedelta(seconds=parse_seconds(text))


def _in_force(path: Path) -> tuple[Policy, str]:
    """The site's policy as it acts now: one that can't be read denies everything."""
    from insitu.gate.policy.loading import load_policy

    try:
        return load_policy(_read(path)), ""
    except InvalidInputError as exc:
        return load_policy("version: 1"), f"the site's policy can't be read ({exc.what}), so now everything is denied"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"{path} can't be read", code="policy-file", why=str(exc)[:200]) from exc


def _warnings(policy: Any) -> list[str]:
    """What is allowed to be said, and probably not meant."""
    checks = (
        (not policy.signers, "no signer is listed, so nobody's job runs"),
        (not policy.bases, "no base is listed, so nothing runs"),
        (not policy.datasets, "no dataset is granted to anybody"),
        (not policy.review.reviewers, "no reviewer is listed, so what is held stays held"),
        (
            bool(policy.release.models.formats) and policy.release.models.ceiling_bytes == 0,
            "release.models.ceiling is 0, so every model waits for a reviewer, also in a run envelope",
        ),
        (policy.budget.per_job_bytes == 0, "the budget is zero, so nothing leaves"),
    )
    return [text for holds, text in checks if holds]
