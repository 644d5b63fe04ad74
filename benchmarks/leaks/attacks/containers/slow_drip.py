"""Forty runs, a row each, by a channel that is hardly used in any of them."""

from __future__ import annotations

import json
import re

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import CELL_BITS, Row, from_text, row_bits, rows_of_bits
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import COLUMNS, NUMBERS

OUTPUTS = {"table": "uri_file"}
METRICS = ["auc", "fold_*"]
RUNS = 40
VARIANTS = {
    "a row in a log line": {"how": "line"},
    "a row as a small file": {"how": "file"},
    "a cell in a parameter": {"how": "cell"},
    "seven values of a metric": {"how": "metric"},
}
BOUNDED = {
    "seven values of a metric": "digits that the policy lets out can say anything",
    "a cell in a parameter": "a word in a parameter is a word: release.params.ceiling and the number of runs bound them",
}
_PER_ROW = len(COLUMNS)


def leak(job: Job, *, how: str, run: int) -> None:
    row = job.rows[run]
    if how == "line":
        print(",".join(row))
    elif how == "file":
        (job.output("table") / "summary.json").write_text(json.dumps(dict(zip(COLUMNS, row, strict=True))))
    elif how == "cell":  # twenty runs for one row
        row, at = job.rows[1 + run // _PER_ROW], run % _PER_ROW
        job.tracking.params({"setting": row[at]})
    else:
        bits = row_bits(job.numbers(NUMBERS)[run : run + 1]).reshape(-1, CELL_BITS)
        steps = (bits.astype(int) << np.arange(CELL_BITS - 1, -1, -1)).sum(axis=1)
        job.metrics([(f"fold_{number}", (1000 + int(step)) / 10_000, 0) for number, step in enumerate(steps)])


def recover(let_outs: list[LetOut], *, how: str) -> list[Row]:
    if how == "line":
        return from_text("\n".join(line for let_out in let_outs for line in let_out.lines))
    if how == "file":
        found = [let_out.only_file("table") for let_out in let_outs]
        return [json.loads(data) for data in found if data]
    if how == "cell":
        cells = [let_out.params.get("setting", "") for let_out in let_outs]
        return [dict(zip(COLUMNS, cells[at : at + _PER_ROW], strict=False)) for at in range(0, len(cells), _PER_ROW)]
    rows: list[Row] = []
    for let_out in let_outs:
        told = {metric.key: metric.value for metric in let_out.metrics if re.fullmatch(r"fold_\d", metric.key)}
        if len(told) == len(NUMBERS):
            steps = [round(told[name] * 10_000) - 1000 for name in sorted(told)]
            rows += rows_of_bits([max(0, step) >> at & 1 for step in steps for at in range(CELL_BITS - 1, -1, -1)])
    return rows
