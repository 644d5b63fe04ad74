"""The demo's end: one JSON object for programs, three tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from insitu.cli.demo.stage import Stage
from insitu.cli.demo.story import Facts
from insitu.cli.errors import rule_line
from insitu.cli.output import heading, hint, short, state, table
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
            "finding": {"rule": finding.rule, "measure": finding.measure, "hint": finding.hint},
        },
        "metrics": dict(sorted(job.metrics.items())),
        "model": {"name": model.name, "version": model.version, "aliases": model.aliases, "digest": model.digest},
        "image": {"reference": image.reference, "digest": image.digest, "bytes": image.size_bytes},
        "deployment": {"name": deployment.name, "state": deployment.state, "url": deployment.url},
        "predictions": facts.predictions,
        "egress": facts.egress,
        "ledger": facts.ledger,
        "datastore": facts.datastore,
        "sandbox": stage.chosen_sandbox,
        "seconds": seconds,
    }


def describe(facts: Facts, document: dict[str, Any]) -> list[RenderableType]:
    """The same for people."""
    assert facts.finding is not None, "every step was played"
    left = sum(entry["size_bytes"] for entry in facts.entries)
    return [
        "",
        heading("What left the site"),
        table(
            _gathered(facts.entries),
            {
                "entries": lambda one: one["entries"],
                "kind": lambda one: one["kind"],
                "what": lambda one: one["what"],
                "bytes": lambda one: format_bytes(one["bytes"]),
                "decision": lambda one: state(one["decision"]),
                "rule": lambda one: one["rule"],
                "job": lambda one: one["job"],
            },
        ),
        Text.assemble(
            f"{format_bytes(left)} in all  ",
            state("ok"),
            f"  ledger of {document['ledger']['entries']} entries, each bound to the one before it",
        ),
        "",
        heading("What did not"),
        Text.assemble(state("held"), f"  the model of {document['held_job']['id']}"),
        rule_line(facts.finding.rule, facts.finding.measure, facts.finding.limit),
        Padding(hint(facts.finding.hint), (0, 0, 0, 2)),
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
        Text(_summary(document), style="dim"),
    ]


def _summary(document: dict[str, Any]) -> str:
    model, image = document["model"], document["image"]
    parts = (
        f"{model['name']} version {model['version']}",
        f"image {short(image['digest'])}",
        f"jobs in {document['sandbox']}",
        f"{document['seconds']['total']:.0f} s in all",
    )
    return " · ".join(parts)


def _gathered(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries as lines that a person reads: all live batches of a job are one."""
    lines: list[dict[str, Any]] = []
    for (job, kind, name, rule, decision), several in _by_sameness(entries).items():
        counts: Counter[str] = Counter()
        for entry in several:
            counts.update(entry["counts"])
        what = ", ".join(f"{count} {word}" for word, count in counts.items())
        lines.append(
            {
                "entries": str(several[0]["seq"])
                if len(several) == 1
                else f"{several[0]['seq']} … {several[-1]['seq']}",
                "kind": kind,
                "what": f"{name} ({what})" if what else name,
                "bytes": sum(entry["size_bytes"] for entry in several),
                "decision": decision,
                "rule": rule,
                "job": job,
            }
        )
    return lines


def _by_sameness(entries: Sequence[dict[str, Any]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for entry in entries:
        found.setdefault(_same(entry), []).append(entry)
    return found


def _same(entry: dict[str, Any]) -> tuple[str, ...]:
    return entry["job_id"], entry["kind"], entry["name"], entry["rule"], entry["decision"]
