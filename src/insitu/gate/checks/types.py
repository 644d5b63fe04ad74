"""A model is built from types that are on the built-in safe list or on the policy's."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.channels.names import objection_to
from insitu.gate.safe_types import SAFE_LOADERS, SAFE_TYPES
from insitu.gate.subject import Subject, Terms

RULE = "types"
_KNOWN_ROOTS = ("sklearn.", "numpy.", "scipy.", "builtins.", "collections.")
_SHOWN = 3


def check(subject: Subject, terms: Terms) -> Finding | None:
    allowed = SAFE_TYPES | set(terms.release.models.trusted_types)
    others = sorted(subject.types - allowed)
    if not others and subject.loaders <= SAFE_LOADERS:
        return None
    # A class of the script's own has a name that the script chose: it is counted and not shown.
    shown = [name for name in others if name.startswith(_KNOWN_ROOTS) and not objection_to(name)][:_SHOWN]
    rest = len(others) - len(shown)
    parts = [*shown, *([f"{rest} more"] if rest and shown else [f"{rest} types"] if rest else [])]
    return Finding(
        rule=RULE,
        measure=(", ".join(parts) or "nodes that call functions")[:200],
        limit="the safe list and release.models.trusted_types",
        hint="use an estimator on the safe list (docs/policy.md), or ask the steward to trust the type",
    )
