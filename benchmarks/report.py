"""Shows what was measured: a table for people, RESULTS.json for machines, and the table in README.md.

README.md keeps its prose; what stands between its two marks is written anew. Of
benches that did not run this time, the last figures stay.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Row

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.json"
README = FOLDER / "README.md"
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_HEADINGS = ("figure", "ours", "reference", "", "ratio", "goal", "met")


def print_table(bench: str, rows: Sequence[Row]) -> None:
    lines = [_cells(row.as_dict()) for row in rows]
    widths = [max(len(line[at]) for line in [*lines, list(_HEADINGS)]) for at in range(len(_HEADINGS))]
    print(f"\n{bench}")
    for line in [list(_HEADINGS), *lines]:
        # Numbers to the right, words to the left.
        cells = [
            cell.rjust(width) if at in (1, 2, 4) else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip())
    sys.stdout.flush()


def write_results(machine: Mapping[str, str], measured: Mapping[str, Sequence[Row]]) -> None:
    known: dict[str, Any] = json.loads(RESULTS.read_text())["benches"] if RESULTS.exists() else {}
    for bench, rows in measured.items():
        known[bench] = [row.as_dict() for row in rows]
    document = {"machine": dict(machine), "benches": known}
    RESULTS.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    README.write_text(f"{before}{_BEGIN}\n{_as_markdown(document)}{_END}{after}", encoding="utf-8")


def _as_markdown(document: Mapping[str, Any]) -> str:
    lines = ["", ", ".join(f"{name}: {value}" for name, value in document["machine"].items()) + ".", ""]
    for bench, rows in document["benches"].items():
        lines += [
            f"### {bench}",
            "",
            "| figure | ours | reference | | ratio | goal | met |",
            "|---|---:|---:|---|---:|---|---|",
        ]
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    if row["failed"]:
        goal = row["goal"]
        return [row["figure"], "not measured", "", row["failed"], "", goal, "MISSED" if goal else ""]
    return [
        row["figure"],
        f"{_number(row['ours'])} {row['unit']}",
        f"{_number(row['reference'])} {row['unit']}" if row["reference"] is not None else "",
        row["against"],
        f"{_number(row['ratio'])} ×" if row["ratio"] is not None else "",
        row["goal"],
        {None: "", True: "yes", False: "MISSED"}[row["met"]],
    ]


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"
