"""Shows what became of every attack and honest model: lines for people, RESULTS.md and RESULTS.json, all from one document.

RESULTS.md says only what was measured; what follows from it is in docs/threats.md.
"""

from __future__ import annotations

import json
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
    machine: Mapping[str, str]
    attacks: list[Outcome] = field(default_factory=list[Outcome])
    honest: list[HonestOutcome] = field(default_factory=list[HonestOutcome])
    seconds_per_100_mb: float | None = None

    def as_document(self) -> dict[str, Any]:
        return {
            "machine": dict(self.machine),
            "classes": [summary(self.attacks, kind) for kind in CLASSES if _of(self.attacks, kind)],
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
    if one.kind == "weights":
        if not one.in_envelope and one.got.rows:
            return "it passes outside of a run envelope"
        return "it passes without a stated bound" if one.got.rows and not one.bound_bytes else ""
    return f"{one.got.canaries} canaries recovered" if one.got.rows and not one.why_bounded else ""


def summary(outcomes: Sequence[Outcome], kind: str) -> dict[str, Any]:
    """The recall of one class, and what its decoders got out. Weights count outside of an envelope, as for free code."""
    all_of = _of(outcomes, kind)
    counted = [one for one in all_of if kind != "weights" or not one.in_envelope] or all_of
    return {
        "class": kind,
        "attacks": len(counted),
        "stopped": sum(one.stopped for one in counted),
        "listed": sum(one.listed for one in counted),
        "listed_stopped": sum(one.stopped and one.listed for one in counted),
        "recall": sum(one.stopped for one in counted) / len(counted) if counted else None,
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
        *_table(
            ["class", "stopped", "of these named by the design", "recall", "canaries", "bytes", "open gate"],
            _class_rows(document),
        ),
        "",
        'Attacks that are not stopped recovered so many canary rows (of 200) and bytes in all; "open gate" is what the',
        "same decoders recover where nobody is at the gate. For weights it is the figure of code that no steward approved.",
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
    return f"{_CLASS_NAMES[one.kind]} · {_name(one)}: {_said(one)} ({one.rule})"


def print_summary(results: Results, took_s: float) -> None:
    document = results.as_document()
    print()
    for row in _class_rows(document):
        print(f"  {row[0]:22} stopped {row[1]:>9}   recall {row[3]:>5}   canaries {row[4]:>4}   bytes {row[5]:>7}")
    print("  " + " ".join(_honest_line(document)))
    for missed in results.misses:
        print(f"  missed: {missed}")
    print(f"\n{len(results.misses)} misses, in {took_s:.0f} s.")


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
    inside = "inside" if one.in_envelope else "none"
    variant = f"**{one.variant}**" if one.listed else one.variant
    proof = str(one.proof.canaries) if one.proven else "NOT PROVEN"
    return [one.title, variant, inside, _said(one), one.rule, str(one.got.canaries), str(one.got.bytes), proof]


def _honest_row(one: HonestOutcome) -> list[str]:
    before = "" if one.before is None else f"{100 * one.before:.2f} %"
    change = "" if one.change is None else f"{one.change:+.2f}"
    return [one.title, one.verdict, one.rule, before, change, f"{one.size_bytes} B", f"{one.ceiling_bytes} B"]


def _said(one: Outcome) -> str:
    if one.verdict == "passes":
        return f"passes, bounded by {one.bound_bytes} bytes"
    return _SHOWN.get(one.verdict, one.verdict)


def _name(one: Outcome) -> str:
    return f"{one.name}, {one.variant}" + (" (in an envelope)" if one.in_envelope and one.kind == "weights" else "")


def _of(outcomes: Sequence[Outcome], kind: str) -> list[Outcome]:
    return [one for one in outcomes if one.kind == kind]
