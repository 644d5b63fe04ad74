"""What there is to try: every attack and every honest model, found by their files.

A module says what its job declares (`OUTPUTS`, `METRICS`), how it varies
(`VARIANTS`, the first is the design's own) and how many runs it takes (`RUNS`). An
honest one's `predict` is what the site asks its model with.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parent
CLASSES = ("weights", "objects", "metrics_and_logs", "containers")
_ALWAYS_AGREES = "benchmarks.leaks.inside.answers:same"
_NOT_CASES = {"__init__", "victim"}


@dataclass(frozen=True)
class Case:
    """One way of leaking, or of training a model that leaks nothing."""

    kind: str  # a class of attacks, or "honest"
    name: str
    module: ModuleType

    @property
    def path(self) -> str:
        """Below `benchmarks.leaks`."""
        return self.module.__name__.removeprefix("benchmarks.leaks.")

    @property
    def title(self) -> str:
        return str(self.module.__doc__).partition("\n")[0].rstrip(".:")

    @property
    def variants(self) -> Sequence[str]:
        return tuple(self.module.VARIANTS)

    @property
    def outputs(self) -> Mapping[str, str]:
        return getattr(self.module, "OUTPUTS", {})

    @property
    def metrics(self) -> Sequence[str]:
        return getattr(self.module, "METRICS", ["auc"])

    @property
    def dataset(self) -> str:
        return getattr(self.module, "DATASET", "people")

    def predict(self, output: str) -> str | None:
        """What the site asks this output's model with, before and after rewriting; none: what serving would use."""
        if self.outputs[output] != "custom_model":
            return None
        if self.kind != "honest":
            return _ALWAYS_AGREES
        own = getattr(self.module, "predict", None)
        return f"{own.__module__}:predict" if own else None

    def runs(self, variant: str) -> int:
        """How many jobs it takes."""
        runs: int | Mapping[str, int] = getattr(self.module, "RUNS", 1)
        return runs if isinstance(runs, int) else runs[variant]

    @property
    def takes_runs(self) -> bool:
        """Its decoder is given several jobs."""
        return hasattr(self.module, "RUNS")

    def bounded(self, variant: str) -> str:
        """Why this variant can't be stopped, only bounded; empty if it has to be stopped."""
        reasons: str | Mapping[str, str] = getattr(self.module, "BOUNDED", {})
        return reasons if isinstance(reasons, str) else reasons.get(variant, "")

    def options(self, variant: str) -> Mapping[str, Any]:
        return self.module.VARIANTS[variant]


def attacks(kinds: Sequence[str] = CLASSES) -> list[Case]:
    return [case for kind in kinds for case in _in_folder(kind, FOLDER / "attacks" / kind, f"attacks.{kind}")]


def honest_models() -> list[Case]:
    return _in_folder("honest", FOLDER / "honest", "honest")


def _in_folder(kind: str, folder: Path, package: str) -> list[Case]:
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in _NOT_CASES)
    modules = {name: importlib.import_module(f"benchmarks.leaks.{package}.{name}") for name in names}
    return [Case(kind, name, module) for name, module in modules.items() if hasattr(module, "VARIANTS")]
