"""The demo's end: one JSON object for programs, three tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from insitu.cli.demo.stage import Stage
from insitu.cli.demo.story import Facts
from insitu.cli.output import heading, short, state, table
from insitu.domain.quantities import format_bytes


def as_document(facts: Facts, stage: Stage, seconds: dict[str, float]) -> dict[str, Any]:
    """The whole story's result."""
    job, held, finding = facts.job, facts.held, facts.finding
    model, image, deployment = facts.model, facts.image, facts.deployment
    assert job is not None, "every step was played"
    assert held is not None
    assert finding is not None
    assert model is not None
    assert image is not None
    assert deployment is not None
    return {
        "job": {"id": job.id, "state": job.state.value},
        "held_job": {
            "id": held.id,
            "state": held.state.value,
            "finding": {
                "rule": finding.rule,
                "measure": finding.measure,
                "limit": finding.limit,
                "hint": finding.hint,
            },
        },
        "metrics": dict(sorted(job.metrics.items())),
        "model": {"name": model.name, "version": model.version, "aliases": model.aliases, "digest": model.digest},
        "image": {"reference": image.reference, "digest": image.digest, "bytes": image.size_bytes},
        "deployment": {"name": deployment.name, "state": deployment.state, "url": deployment.url},
        "predictions": facts.predictions,
        "egress": facts.egress,
        "ledger": facts.ledger,
        "sandbox": stage.chosen_sandbox,
        "seconds": seconds,
    }


def describe(document: dict[str, Any]) -> list[RenderableType]:
    """The same for people."""
    held, ledger = document["held_job"]["finding"], document["ledger"]
    left = sum(item["bytes"] for item in document["egress"])
    return [
        "",
        heading("What left the site"),
        table(
            document["egress"],
            {
                "entry": lambda one: str(one["entry"]),
                "kind": lambda one: one["kind"],
                "what": lambda one: one["name"],
                "bytes": lambda one: format_bytes(one["bytes"]),
                "decision": lambda one: state(one["decision"]),
                "rule": lambda one: one["rule"],
                "job": lambda one: one["job"],
            },
        ),
        Text.assemble(
            f"{format_bytes(left)} in all; ", state("ok"), f"  ledger of {ledger['entries']} entries verified"
        ),
        "",
        heading("What did not"),
        Text.assemble(state("held"), f"  {held['rule']}: {held['measure']}"),
        Text(f"  {held['hint']}", style="dim"),
        "",
        heading("What the deployed model says"),
        table(
            document["predictions"],
            {
                "row": lambda one: str(one["row"]),
                "predicted": lambda one: one["predicted"],
                "actual": lambda one: one["actual"],
                "": lambda one: Text("✓", "green") if one["right"] else Text("✗", "red"),
            },
        ),
        "",
        Text(
            f"{document['model']['name']} version {document['model']['version']} · image {short(document['image']['digest'])} · "
            f"{document['sandbox']} · {document['seconds']['total']:.0f} s in all",
            style="dim",
        ),
    ]
