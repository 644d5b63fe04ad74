"""Shows what became of every attack and honest model: lines for people, RESULTS.md and RESULTS.json, all from one document.

RESULTS.md says only what was measured; what follows from it is in docs/threats.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.leaks.cases import CLASSES, FOLDER
from benchmarks.leaks.honesty import MOST_CHANGE, HonestOutcome
from benchmarks.leaks.outcome import Outcome

RESULTS = FOLDER / "RESULTS.md"
DATA = FOLDER / "RESULTS.json"
_CLASS_NAMES = {
    "weights": "weights",
    "objects": "objects",
    "metrics_and_logs": "metrics and logs",
    "containers": "containers and time",
}
_SHOWN = {"neutralised": "neutralised by rewriting", "failed": "NOT TRIED: the job failed"}


@dataclass
class Results:
    machine: dict[str, str]
    attacks: list[Outcome] = field(default_factory=list[Outcome])
    honest: list[HonestOutcome] = field(default_factory=list[HonestOutcome])
    seconds_per_100_mb: float | None = None
    seconds: float = 0.0

    def add(self, found: Sequence[Outcome | HonestOutcome]) -> None:
        for one in found:
            if isinstance(one, HonestOutcome):
                self.honest.append(one)
            else:
                self.attacks.append(one)

    def sort(self, paths: Sequence[str]) -> None:
        """In the order of the cases' files, whoever came first."""
        self.attacks.sort(key=lambda one: paths.index(f"attacks.{one.kind}.{one.name}"))
        self.honest.sort(key=lambda one: paths.index(f"honest.{one.name}"))

    def finish(self, seconds: float) -> None:
        self.seconds = seconds
        self.machine["load after"] = f"{os.getloadavg()[0]:.1f}"

    def as_document(self) -> dict[str, Any]:
        return {
            "machine": dict(self.machine),
            "seconds": round(self.seconds),
            "classes": [
                summary(self.attacks, kind, in_envelope=inside)
                for inside in (True, False)
                for kind in CLASSES
                if _of(self.attacks, kind, in_envelope=inside)
            ],
            "honest": {
                "passed": sum(one.passes and one.as_good for one in self.honest),
                "of": len(self.honest),
                "largest_change": max((abs(one.change) for one in self.honest if one.change is not None), default=None),
            },
            "gate_seconds_per_100_mb": self.seconds_per_100_mb,
            "attacks": [one.as_dict() for one in self.attacks],
            "models": [one.as_dict() for one in self.honest],
        }

    @property
    def misses(self) -> list[str]:
        """What is not as it has to be, in words."""
        found = [f"{_name(one)}: {said}" for one in self.attacks if (said := objection(one))]
        for one in self.honest:
            if not one.passes:
                found.append(f"{one.title}: {one.verdict} by {one.rule}")
            elif not one.as_good:
                found.append(f"{one.title}: accuracy changed by {one.change:+.2f} points")
        return found


def objection(one: Outcome) -> str:
    """Why this outcome is not good enough; empty when it is."""
    if not one.proven:
        return "its decoder recovers nothing from an open gate, so it shows nothing"
    if one.verdict == "failed":
        return f"its job never came to the gate ({one.rule})"
    if not one.got.rows:
        return ""
    recovered = f"{one.got.rows} rows recovered, {one.got.canaries} of them canaries"
    if one.kind == "weights" and not one.in_envelope:
        return f"{recovered}, outside of a run envelope"
    if not one.why_bounded:
        return recovered
    return "" if one.bound_bytes else f"{recovered}, and no bound is stated"


def summary(outcomes: Sequence[Outcome], kind: str, *, in_envelope: bool) -> dict[str, Any]:
    """The recall of one class, and what its decoders got out."""
    counted = _of(outcomes, kind, in_envelope=in_envelope)
    return {
        "class": kind,
        "in_envelope": in_envelope,
        "attacks": len(counted),
        "stopped": sum(one.stopped for one in counted),
        "listed": sum(one.listed for one in counted),
        "listed_stopped": sum(one.stopped and one.listed for one in counted),
        "recall": sum(one.stopped for one in counted) / len(counted),
        "canaries": sum(one.got.canaries for one in counted),
        "bytes": sum(one.got.bytes for one in counted),
        "bytes_behind_an_open_gate": sum(one.proof.bytes for one in counted),
    }


def write(results: Results, folder: Path = FOLDER) -> None:
    (folder / RESULTS.name).write_text(as_markdown(results), encoding="utf-8")
    (folder / DATA.name).write_text(json.dumps(results.as_document(), indent=1, ensure_ascii=False) + "\n")


def as_markdown(results: Results) -> str:
    document = results.as_document()
    lines = [
        "# Leaks that must not pass, and models that must",
        "",
        "Written by `make leakbench`; changes by hand are lost. What passes, and what follows from it:",
        "[docs/threats.md](../../docs/threats.md). Attacks and honest models: one file each, in this folder.",
        "",
        ", ".join(f"{name}: {value}" for name, value in document["machine"].items()) + ".",
        "",
        f"{len(results.attacks)} tries of attacks and {len(results.honest)} of honest models in {results.seconds:.0f} s.",
        "",
        *_table(
            [
                "class",
                "envelope",
                "stopped",
                "of these named by the design",
                "recall",
                "canaries",
                "bytes",
                "open gate",
            ],
            _class_rows(document),
        ),
        "",
        "Canary rows and bytes are what the decoders of attacks that were not stopped recovered, added up over the attacks.",
        '"Open gate" is what the same decoders recover, in bytes, where nobody is at the gate. Attacks that take many jobs',
        "and were stopped inside a run envelope were not tried outside, where each rule is the same or stricter.",
        "",
        *_honest_line(document),
        "",
    ]
    for kind in CLASSES:
        if outcomes := _of(results.attacks, kind):
            lines += [f"## {_CLASS_NAMES[kind].capitalize()}", "", *_table(_HEADINGS, map(_attack_row, outcomes)), ""]
    if known := [one for one in results.attacks if one.why_bounded and one.got.rows]:
        lines += ["## Bounded, and not stopped", "", *(f"- {_name(one)}: {one.why_bounded}" for one in known), ""]
    lines += ["## Honest models, inside a run envelope", "", *_table(_HONEST, map(_honest_row, results.honest)), ""]
    return "\n".join(lines)


def one_line(one: Outcome | HonestOutcome) -> str:
    """Progress, for people."""
    if isinstance(one, HonestOutcome):
        change = "" if one.change is None else f", accuracy {one.change:+.2f} points"
        return f"honest · {one.title}: {one.verdict} ({one.rule}){change}"
    got = f", {one.got.rows} rows, {one.got.canaries} of {one.proof.canaries} canaries" if one.got.rows else ""
    return f"{_CLASS_NAMES[one.kind]} · {_name(one)}: {_said(one)} ({one.rule}){got}" + (
        "" if one.proven else " NOT PROVEN"
    )


def print_summary(results: Results) -> None:
    document = results.as_document()
    print()
    for kind, where, stopped, _, recall, canaries, recovered, _ in _class_rows(document):
        name = f"{kind}, {'inside' if where == 'inside' else 'outside'}"
        print(f"  {name:30} stopped {stopped:>9}   recall {recall:>5}   canaries {canaries:>4}   bytes {recovered:>7}")
    print("  " + " ".join(_honest_line(document)))
    for missed in results.misses:
        print(f"  missed: {missed}")
    print(f"\n{len(results.misses)} misses, in {results.seconds:.0f} s.")


# -- rows of tables ----------------------------------------------------------------------------------------------------

_HEADINGS = ["attack", "variant", "envelope", "verdict", "rule", "canaries", "bytes", "open gate"]
_HONEST = ["model", "verdict", "rule", "accuracy", "change", "leaves", "ceiling"]


def _table(headings: Sequence[str], rows: Any) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return lines + ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in rows]


def _class_rows(document: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            _CLASS_NAMES[one["class"]],
            _where(in_envelope=one["in_envelope"]),
            f"{one['stopped']} of {one['attacks']}",
            f"{one['listed_stopped']} of {one['listed']}",
            f"{one['recall']:.2f}",
            str(one["canaries"]),
            str(one["bytes"]),
            str(one["bytes_behind_an_open_gate"]),
        ]
        for one in document["classes"]
    ]


def _honest_line(document: Mapping[str, Any]) -> list[str]:
    honest, seconds = document["honest"], document["gate_seconds_per_100_mb"]
    change = (
        ""
        if honest["largest_change"] is None
        else f" Largest change of accuracy: {honest['largest_change']:.2f} points"
    )
    change += f" (goal: {MOST_CHANGE:g})." if change else ""
    speed = "" if seconds is None else f" Gate: {seconds:.1f} s for 100 MB of safetensors, from request to reply."
    return [f"Honest models that left by themselves: {honest['passed']} of {honest['of']}.{change}{speed}"]


def _attack_row(one: Outcome) -> list[str]:
    variant = f"**{one.variant}**" if one.listed else one.variant
    proof = str(one.proof.canaries) if one.proven else "NOT PROVEN"
    return [
        one.title,
        variant,
        _where(in_envelope=one.in_envelope),
        _said(one),
        one.rule,
        str(one.got.canaries),
        str(one.got.bytes),
        proof,
    ]


def _honest_row(one: HonestOutcome) -> list[str]:
    before = "" if one.before is None else f"{100 * one.before:.2f} %"
    change = "" if one.change is None else f"{one.change:+.2f}"
    return [one.title, one.verdict, one.rule, before, change, f"{one.size_bytes} B", f"{one.ceiling_bytes} B"]


def _where(*, in_envelope: bool) -> str:
    return "inside" if in_envelope else "outside"


def _said(one: Outcome) -> str:
    if one.verdict == "passes":
        return f"passes, bounded by {one.bound_bytes} bytes"
    return _SHOWN.get(one.verdict, one.verdict)


def _name(one: Outcome) -> str:
    return f"{one.name}, {one.variant} ({_where(in_envelope=one.in_envelope)})"


def _of(outcomes: Sequence[Outcome], kind: str, *, in_envelope: bool | None = None) -> list[Outcome]:
    """Of a class; with `in_envelope` only those tried there."""
    return [one for one in outcomes if one.kind == kind and in_envelope in {None, one.in_envelope}]
