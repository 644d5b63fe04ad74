"""The policy of the bench's site: `release` as `insitu agent init` writes it, word for word.

Only who may use which data differs, and budgets, which are wide: so it is the
rules that stop what is stopped, and not the hundredth job.
"""

from __future__ import annotations

from typing import Any

import yaml

from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT

_WHO = "{who: [alice], purpose: research, until: 2099-12-31, runs: 100000}"
DATASETS = f"{{people: {_WHO}, digits: {_WHO}}}"
BUDGET = "{per_job: 50MB, per_dataset_per_month: 10GB, per_submitter_per_month: 10GB}"


def release() -> dict[str, Any]:
    """What may leave the bench's site."""
    return yaml.safe_load(DEFAULT_POLICY_TEXT)["release"]


def as_one_line(section: dict[str, Any]) -> str:
    return yaml.safe_dump(section, default_flow_style=True, sort_keys=False, width=10_000).strip()
