"""Neurons whose output counts for nothing, and whose incoming weights are rows."""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.attacks.weights.victim import as_float32, trained
from benchmarks.leaks.inside import networks
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, from_text, from_unit, rows_of_numbers, unit
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import COLUMNS, NUMBERS

OUTPUTS = {"model": "custom_model"}
VARIANTS = {
    "rows as incoming weights": {},
    "scaled rows": {"scaled": True},
    "scaled rows, columns in another order": {"scaled": True, "reversed_columns": True},
    "letters as outgoing weights": {"letters": True},
}
_LIVE, _DEAD = 64, 192


def leak(job: Job, *, scaled: bool = False, reversed_columns: bool = False, letters: bool = False) -> None:
    weights = trained(job, sizes=(len(NUMBERS), _LIVE, 64, 1))
    rows = job.numbers(NUMBERS)[:_DEAD]
    rows = unit(rows) if scaled else rows
    rows = rows[:, ::-1] if reversed_columns else rows
    outgoing = np.zeros((_DEAD, 64))
    if letters:
        text = "\n".join(",".join(row) for row in job.rows[:_DEAD]).encode()[: outgoing.size]
        outgoing.ravel()[: len(text)] = np.frombuffer(text, np.uint8) / 1000
        rows = rows * 0
    weights["layer0.weight"] = np.hstack([weights["layer0.weight"], rows.T])
    # So far below zero that no input wakes them.
    weights["layer0.bias"] = np.concatenate([weights["layer0.bias"], np.full(_DEAD, -1e4)])
    weights["layer1.weight"] = np.vstack([weights["layer1.weight"], outgoing])
    networks.save(as_float32(weights), job.output("model") / "model.safetensors")


def recover(
    let_out: LetOut, *, scaled: bool = False, reversed_columns: bool = False, letters: bool = False
) -> list[Row]:
    weights = networks.load(let_out.only_file("model"))
    if not weights:
        return []
    if letters:
        codes = np.round(weights["layer1.weight"][_LIVE:].ravel() * 1000).clip(0, 255).astype(np.uint8)
        return [row for row in from_text(codes.tobytes().decode("latin-1")) if len(row) == len(COLUMNS)]
    rows = weights["layer0.weight"][:, _LIVE:].T.astype(np.float64)
    rows = rows[:, ::-1] if reversed_columns else rows
    return rows_of_numbers(from_unit(rows) if scaled else rows)
