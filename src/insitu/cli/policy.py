"""`insitu policy …`: what may run at a site, and what may leave it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.output import current, fields, heading, state
from insitu.cli.session import SiteDir, ask_site, site_folder
from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import format_bytes

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
    from insitu.gate.policy import load_policy, policy_digest

    path = file or site_folder(folder) / "policy.yaml"
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"{path} can't be read", code="policy-file", why=str(exc)[:200]) from exc
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


def _warnings(policy: Any) -> list[str]:
    """What is allowed to be said, and probably not meant."""
    checks = (
        (not policy.signers, "no signer is listed, so nobody's job runs"),
        (not policy.bases, "no base is listed, so nothing runs"),
        (not policy.datasets, "no dataset is granted to anybody"),
        (not policy.review.reviewers, "no reviewer is listed, so what is held stays held"),
        (policy.budget.per_job_bytes == 0, "the budget is zero, so nothing leaves"),
    )
    return [text for holds, text in checks if holds]
