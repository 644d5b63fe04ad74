"""Filters and orders of `runs/search`, over the few runs of one job.

Of MLflow's language (`mlflow/utils/search_utils.py`) this has: conditions
joined by AND; metrics, params, tags and a run's id, name and status; = != < <=
> >= LIKE ILIKE IN; names in back quotes or double quotes. All else is refused:
a filter that is ignored would be an answer that is wrong.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from insitu.intake.calls import invalid
from insitu.intake.runs import Run

_NAME = r'(?P<name>(?:(?:metrics?|params?|parameters?|tags?|attributes?|attr|run)\.)?(?:`[^`]+`|"[^"]+"|[\w.]+))'
_VALUE = r"(?P<value>'[^']*'|\"[^\"]*\"|-?[0-9][0-9.eE+-]*|\([^()]*\))"
_CONDITION = re.compile(rf"\s*{_NAME}\s*(?P<op>!=|<=|>=|=|<|>|I?LIKE\b|IN\b)\s*{_VALUE}\s*", re.IGNORECASE)
_AND = re.compile(r"AND\b", re.IGNORECASE)
_ORDER = re.compile(rf"\s*{_NAME}(?:\s+(?P<way>ASC|DESC))?\s*", re.IGNORECASE)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Read = Callable[[Run], "str | float | None"]


def select(runs: Iterable[Run], condition: str, orders: Iterable[str]) -> list[Run]:
    """Those of `runs` for which `condition` holds, in order; newest first where `orders` says nothing.

    Raises:
        CallRefused: the condition or an order is none that is understood here.
    """
    tests = list(_tests(condition))
    found = [run for run in reversed(list(runs)) if all(test(run) for test in tests)]
    for order in reversed(list(orders)):
        match = _ORDER.fullmatch(order)
        if match is None:
            raise invalid(f"the order {order[:100]!r} is not understood inside a job")
        read, _ = _reader(match["name"])
        falls = (match["way"] or "ASC").upper() == "DESC"
        with_value = [run for run in found if read(run) is not None]
        without = [run for run in found if read(run) is None]
        found = sorted(with_value, key=partial(_key, read), reverse=falls) + without
    return found


def _key(read: Read, run: Run) -> Any:
    return read(run)


def _tests(condition: str) -> Iterable[Callable[[Run], bool]]:
    place = 0
    while place < len(condition.rstrip()):
        match = _CONDITION.match(condition, place)
        if match is None:
            raise _not_understood(condition)
        yield _test(match["name"], match["op"].upper(), match["value"])
        place = match.end()
        if place < len(condition):
            joint = _AND.match(condition, place)
            if joint is None or joint.end() == len(condition.rstrip()):
                raise _not_understood(condition)
            place = joint.end()


def _test(name: str, op: str, written: str) -> Callable[[Run], bool]:
    read, is_number = _reader(name)
    if is_number:
        if op not in _COMPARE or written.startswith(("'", '"', "(")):
            raise invalid("a metric is compared with a number")
        return partial(_holds, read, _COMPARE[op], _number(written))
    texts = [first or second for first, second in _QUOTED.findall(written)]
    if op == "IN":
        return partial(_holds, read, lambda value, among: value in among, texts)
    if written.startswith("(") or not texts or op not in {"=", "!=", "LIKE", "ILIKE"}:
        raise invalid("a text is compared with a quoted text, by =, !=, LIKE, ILIKE or IN")
    if op in {"LIKE", "ILIKE"}:
        pattern = ".*".join(re.escape(part).replace("_", ".") for part in texts[0].split("%"))
        like = re.compile(pattern, re.DOTALL | (re.IGNORECASE if op == "ILIKE" else 0))
        return partial(_holds, read, lambda value, form: form.fullmatch(value) is not None, like)
    return partial(_holds, read, _COMPARE[op], texts[0])


def _holds(read: Read, compare: Callable[[Any, Any], bool], wanted: Any, run: Run) -> bool:
    value = read(run)
    return value is not None and compare(value, wanted)


def _reader(name: str) -> tuple[Read, bool]:
    """How to read `name` of a run, and whether it is a number. None: the run has no such thing."""
    kind, _, key = name.partition(".")
    if not key:
        kind, key = "attributes", kind
    key = key.strip('`"')
    if kind.startswith("metric"):
        return (lambda run: run.latest[key][0] if key in run.latest else None), True
    if kind.startswith("param"):
        return (lambda run: run.params.get(key)), False
    if kind.startswith("tag"):
        return (lambda run: run.tags.get(key)), False
    if key in {"start_time", "end_time"}:
        return (lambda run: float(run.start_ms if key == "start_time" else run.end_ms)), True
    if key in {"run_id", "run_name", "status"}:
        return (lambda run: {"run_id": run.run_id, "run_name": run.name, "status": run.status}[key]), False
    raise invalid(f"{name[:100]!r} can't be searched by inside a job")


def _number(written: str) -> float:
    try:
        return float(written)
    except ValueError as exc:
        raise invalid("a metric is compared with a number") from exc


def _not_understood(condition: str) -> Exception:
    return invalid(f"the filter {condition[:200]!r} is not understood inside a job; simple conditions and AND are")
