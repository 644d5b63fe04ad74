"""What a new policy changes against an old one: key by key, stricter or looser.

Both are compared as they act, not as they are written: a section that is left out
is one of zeros and empty lists, so leaving it out is a change like any other. Which
way is stricter is in `policy/keys.py`. Where neither value is inside the other (a
key fingerprint, a purpose) the change counts as looser, since it lets in what was
kept out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from pydantic import BaseModel

from insitu.domain.quantities import format_bytes
from insitu.gate.policy.keys import AS_STORED, KEYS, Key, Order, Ranked
from insitu.gate.policy.values import BudgetRules, FreeRules, Policy, Ports, ReleaseRules, SmokeRules

_NO_SMOKE = SmokeRules.model_construct(rows=0, tolerance=1.0)  # as it acts: no row is asked, all predictions may differ
_FREE = {  # what is stricter for free code → what it narrows
    "metric_digits": ("metrics", "digits"),
    "metric_count": ("metrics", "max_count"),
    "param_bytes": ("params", "max_bytes"),
    "logs": ("logs", "mode"),
    "log_bytes": ("logs", "max_bytes"),
    "log_ceiling": ("logs", "ceiling_bytes"),
    "param_ceiling": ("params", "ceiling_bytes"),
    "file_formats": ("files", "formats"),
}
_NAMED = (("signers",), ("datasets",), ("review", "reviewers"))  # below them stand names that the file chooses
_Path = tuple[str, ...]


class Direction(StrEnum):
    LOOSER = "looser"
    STRICTER = "stricter"
    NEUTRAL = "neutral"


@dataclass(frozen=True)
class Change:
    """One key that differs."""

    key: str
    before: str
    after: str
    direction: Direction
    help: str


@dataclass(frozen=True)
class _Leaf:
    """One value, as it compares and as people read it."""

    value: Any
    text: str


def compare(old: Policy, new: Policy) -> list[Change]:
    """Every difference, in the order of the file's keys."""
    before, after = dict(_leaves(old, ())), dict(_leaves(new, ()))
    changes: list[Change] = []
    whole: set[_Path] = set()  # names that are in one of the two only
    for path in _in_order({*before, *after}):
        name = _name_in(path)
        if name and _below(name, before).keys() ^ _below(name, after).keys():
            if name not in whole:
                whole.add(name)
                changes.append(_whole(name, _below(name, before), _below(name, after)))
        elif before[path].value != after[path].value and not (
            _adds_nothing(path, before) and _adds_nothing(path, after)
        ):
            opened = _closed(old, path), _closed(new, path)
            changes += _of(path, before[path], after[path], _OPENED.get(opened))
    return changes


def count(changes: Sequence[Change]) -> dict[str, int]:
    """How many of each direction."""
    return {direction.value: sum(one.direction is direction for one in changes) for direction in Direction}


# -- values ------------------------------------------------------------------------------------------------------------


def _leaves(model: BaseModel, path: _Path) -> Iterator[tuple[_Path, _Leaf]]:
    for attribute, field in type(model).model_fields.items():
        here = (*path, field.alias or attribute)
        value: Any = _effective(model, attribute)
        if isinstance(model, ReleaseRules) and isinstance(value, FreeRules):
            acts = model.for_free_code
            for key, (section, limit) in _FREE.items():
                yield (*here, key), _leaf(getattr(getattr(acts, section), limit), limit)
        elif isinstance(value, Ports):
            yield here, _Leaf((value.first, value.last), f"{value.first}-{value.last}")
        elif isinstance(value, BaseModel):
            yield from _leaves(value, here)
        elif isinstance(value, Mapping):
            for name, item in cast("Mapping[str, Any]", value).items():
                below = (*here, name)
                yield from _leaves(item, below) if isinstance(item, BaseModel) else [(below, _leaf(item, attribute))]
        else:
            yield here, _leaf(value, attribute)


def _adds_nothing(path: _Path, leaves: Mapping[_Path, _Leaf]) -> bool:
    """Whether what is said for free code is what is said for all: then the change is told there, and not twice."""
    if path[:2] != ("release", "free"):
        return False
    section, limit = _FREE[path[2]]
    key = "ceiling" if limit == "ceiling_bytes" else limit  # as the file calls it
    return bool(leaves[path].value == leaves["release", section, key].value)


def _effective(model: BaseModel, attribute: str) -> Any:
    """The value as it acts, where what is left out stands for something else."""
    value = getattr(model, attribute)
    if value is not None:
        return value
    if isinstance(model, BudgetRules):
        return getattr(model, attribute.removeprefix("ceiling_"))
    if attribute == "smoke":
        return _NO_SMOKE
    return AS_STORED  # precision


def _leaf(value: Any, attribute: str) -> _Leaf:
    if isinstance(value, tuple):
        return _Leaf(value, ", ".join(str(item) for item in cast("tuple[object, ...]", value)) or "none")
    if attribute.endswith("_bytes"):
        return _Leaf(value, format_bytes(value))
    if attribute.endswith("_s"):
        return _Leaf(value, _duration(value))
    return _Leaf(value, f"{value:g}" if isinstance(value, float) else str(value))


def _duration(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


# -- names that come and go --------------------------------------------------------------------------------------------


def key_in_table(path: _Path) -> str:
    """`datasets.*.who` for ("datasets", "wdbc", "who"): names may have dots in them, so paths are tuples."""
    name = _name_in(path)
    return ".".join((*name[:-1], "*", *path[len(name) :]) if name else path)


def _name_in(path: _Path) -> _Path:
    """("datasets", "wdbc") of ("datasets", "wdbc", "who"); nothing for a path without a name of the file's own."""
    start = next((start for start in _NAMED if path[: len(start)] == start), None)
    return path[: len(start) + 1] if start else ()


def _in_order(paths: AbstractSet[_Path]) -> list[_Path]:
    """In the order of the table of keys; names by the alphabet."""
    place = {key: number for number, key in enumerate(KEYS)}
    return sorted(paths, key=lambda path: (place[key_in_table(path)], path))


def _below(name: _Path, leaves: Mapping[_Path, _Leaf]) -> dict[_Path, _Leaf]:
    return {path: leaf for path, leaf in leaves.items() if path[: len(name)] == name}


def _whole(name: _Path, before: Mapping[_Path, _Leaf], after: Mapping[_Path, _Leaf]) -> Change:
    text = "; ".join(
        f"{path[-1]} {leaf.text}" if path != name else leaf.text for path, leaf in (after or before).items()
    )
    help_ = KEYS[key_in_table(name)].help
    if after:
        return Change(".".join(name), "", text, Direction.LOOSER, help_)
    return Change(".".join(name), text, "", Direction.STRICTER, help_)


# -- which way ---------------------------------------------------------------------------------------------------------


_OPENED: Mapping[tuple[bool, bool], Direction] = {
    (True, False): Direction.LOOSER,
    (False, True): Direction.STRICTER,
}
"""Of a section that was closed, and is. What a closed one says besides means nothing."""


def _closed(policy: Policy, path: _Path) -> bool:
    """Whether the section that `path` is in lets nothing through: it is left out, or says what that says."""
    holder: BaseModel = policy.release if path[0] == "release" else policy
    section = path[1] if path[0] == "release" else path[0]
    if section == "free":  # left out, it is as open as what it narrows
        return False
    value = getattr(holder, section)
    return isinstance(value, BaseModel) and bool(value == type(holder).model_fields[section].default)


def _of(path: _Path, before: _Leaf, after: _Leaf, opened: Direction | None) -> Iterator[Change]:
    key = KEYS[key_in_table(path)]
    if opened is not None:
        yield Change(".".join(path), before.text, after.text, opened, key.help)
        return
    if key.order is Order.FEWER:
        yield from _of_lists(path, before, after, key)
        return
    direction = _direction(key.order, before.value, after.value)
    yield Change(".".join(path), before.text, after.text, direction, key.help)


def _of_lists(path: _Path, before: _Leaf, after: _Leaf, key: Key) -> Iterator[Change]:
    """What came is looser and what went is stricter, also when both happened."""
    dotted = ".".join(path)
    gone = [item for item in before.value if item not in after.value]
    come = [item for item in after.value if item not in before.value]
    if come:
        yield Change(dotted, before.text, after.text, Direction.LOOSER, f"{key.help} New: {', '.join(come)}.")
    if gone:
        yield Change(dotted, before.text, after.text, Direction.STRICTER, f"{key.help} Gone: {', '.join(gone)}.")
    if not come and not gone:
        yield Change(dotted, before.text, after.text, Direction.NEUTRAL, f"{key.help} Only the order differs.")


def _direction(order: Order | Ranked, before: Any, after: Any) -> Direction:
    if isinstance(order, Ranked):
        lets_less = order.words.index(after) < order.words.index(before)
    elif order is Order.NEUTRAL:
        return Direction.NEUTRAL
    elif order is Order.NARROWER:
        lets_less = before[0] <= after[0] and after[1] <= before[1]
    else:
        lets_less = {Order.LOWER: after < before, Order.HIGHER: after > before}.get(order, False)
    return Direction.STRICTER if lets_less else Direction.LOOSER
