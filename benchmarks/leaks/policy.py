"""The policy of the bench's site: what `insitu agent init` writes, with every format allowed that the gate can rewrite.

Nothing here is stricter than there but `free_ceiling`, which is as left out: a
model of code that no steward has approved waits for a person. Budgets are wide,
so that it is the rules that stop what is stopped, and not the hundredth job.
"""

from __future__ import annotations

RELEASE = """
  metrics: {digits: 4, max_count: 5000, per_second: 2000}
  params: {max_bytes: 8kB}
  logs: {mode: scanned, max_bytes: 256kB}
  errors: type-and-frames
  models:
    formats: [skops, safetensors, onnx, json]
    trusted_types: []
    known_rows: 0
    max_bytes: 5MB
    precision: bfloat16
    ceiling: 256kB
    otherwise: held
  files: {formats: [csv, json, png], max_bytes: 256kB, otherwise: held}
"""
DATASETS = (
    "{people: {who: [alice], purpose: research, until: 2099-12-31, runs: 100000}, "
    "digits: {who: [alice], purpose: research, until: 2099-12-31, runs: 100000}}"
)
BUDGET = "{per_job: 50MB, per_dataset_per_month: 10GB, per_submitter_per_month: 10GB}"
