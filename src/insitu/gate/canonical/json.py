"""Rewrites a model that is a JSON document: coefficients, centres, trees.

There is no one format, so what is kept is what any such document is made of:
objects with ordinary keys, lists, short ordinary words, numbers. Keys are
sorted; layout, escapes and spellings of numbers go (RFC 8259). A repeated key,
a long or encoded word, or a number that JSON has not is refused.

Floats are rounded to the policy's precision. Those at one *place* (a path
without the positions in lists) are one array: `coef[]`, `trees[].threshold`.
A place where each number has a feature beside it holds thresholds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from insitu.gate.canonical.form import Canonical, is_ordinary
from insitu.gate.canonical.precision import SMALL, Rounding
from insitu.gate.ceiling import bits_of_grid, bits_of_integers, bits_of_values, bytes_of_text
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.tree_shapes import leaves_of

_MAX_DEPTH = 60
_FEATURE = re.compile(
    r"(split_?)?(feature|index|indices|fid|var|variable|column)(_?(id|index|name))?s?|split_feature|split_indices"
)
_KNOWN = b'{"bias":0.5,"classes":[0,1],"coef":[[0.5,0.5]],"feature":[0,0],"intercept":[0.5],"left":[0,0],"mean":[0.5],"n_samples":[0],"right":[0,0],"scale":[0.5],"threshold":[0.5],"value":[0.5]}'


@dataclass
class _Place:
    """The numbers that stand at one path."""

    values: list[int | float] = field(default_factory=list[int | float])
    features: list[Any] = field(default_factory=list[Any])
    replaced: list[int | float] = field(default_factory=list[int | float])


def rewrite_json_model(data: bytes, rounding: Rounding, effort: Effort) -> Canonical:
    """The canonical form of a JSON document.

    Raises:
        NotReadableError: it isn't one, or holds text that is not a short ordinary word.
    """
    effort.check_time()
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_no_repeats, parse_constant=_no_constant)
        places: dict[str, _Place] = {}
        shape = _walk(document, "", None, 0, _collector(places))
    except (ValueError, RecursionError) as error:
        raise NotReadableError("not JSON, or of words that are too long or encoded") from error
    bits = 8 * bytes_of_text(_compact(shape), _KNOWN)
    for place in places.values():
        bits += _round(place, rounding)
    taken = {path: iter(place.replaced) for path, place in places.items()}
    rounded = _walk(document, "", None, 0, lambda path, _, __: next(taken[path]))
    return Canonical(_compact(rounded), "json", bits, leaves=leaves_of(rounded))


_Take = Callable[[str, int | float, Any], Any]


def _walk(value: Any, path: str, feature: Any, depth: int, take: _Take) -> Any:
    """The value with keys sorted and each number replaced by what `take` makes of it."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        beside = next((item for key, item in sorted(fields.items()) if _FEATURE.fullmatch(key)), None)
        return {_word(key): _walk(fields[key], _path(path, key), beside, depth + 1, take) for key in sorted(fields)}
    if isinstance(value, list):
        items = cast("list[Any]", value)
        features = cast("list[Any]", feature) if isinstance(feature, list) else []
        along = features if len(features) == len(items) else [None] * len(items)
        return [_walk(item, f"{path}[]", at, depth + 1, take) for item, at in zip(items, along, strict=True)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return take(f"{path}:{type(value).__name__}", value, feature)
    return _word(value) if isinstance(value, str) else value


def _collector(places: dict[str, _Place]) -> _Take:
    def take(path: str, value: float, feature: Any) -> int | float:
        place = places.setdefault(path, _Place())
        place.values.append(value)
        place.features.append(feature if isinstance(feature, int | str) else None)
        return 0 if isinstance(value, int) else 0.5

    return take


def _round(place: _Place, rounding: Rounding) -> int:
    """Fill in what leaves instead of the numbers of a place; return what that carries."""
    if isinstance(place.values[0], int):
        place.replaced = place.values
        return bits_of_integers([int(value) for value in place.values])
    values = np.array(place.values, dtype=np.float64)
    if None in place.features or len(values) <= min(SMALL, rounding.fine_left):
        rounded = rounding.small(values)
        bits = bits_of_values(rounded)
    else:
        groups = np.unique(np.array([str(feature) for feature in place.features]), return_inverse=True)[1]
        rounded = rounding.on_grid(values, groups)
        bits = bits_of_grid(rounded, groups, rounding.precision)
    place.replaced = rounded.tolist()
    return bits


def _path(path: str, key: str) -> str:
    return f"{path}.{'#' if key.isdecimal() else key}"


def _word(text: str) -> str:
    if text and not is_ordinary(text):
        raise ValueError("a word that is long, unusual or encoded")
    return text


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _no_repeats(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a repeated key")
    return fields


def _no_constant(_: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")
