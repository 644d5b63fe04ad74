"""Takes the paths of a nested document as records: keys from the root to a leaf may be the cells of one row.

    {"Unna": {"4": {"asthma": {"61": 1}}}}  ─►  Unna 4 asthma 61 1

A table grouped by many columns is such a document. To the readers of tables it is
one key in each object; here each leaf is a line of the words on its way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

from insitu.gate.contents import Place

_LEAST_KEYS = 2  # on a path: fewer are a flat object, which is looked at as a table
_FEW = 16  # entries of a list that stand beside each other as cells do
_LINES = 1000
_JOINTS = re.compile(r"[_:=/|]")

Words = tuple[str, ...]


def add_paths(document: Any, place: Place) -> None:
    """Add the paths of `document` as text, a line for each leaf."""
    lines = ("\t".join(words) for words in _paths(document))
    while block := list(islice(lines, _LINES)):
        place.effort.spend_values(sum(line.count("\t") + 1 for line in block))
        place.contents.add_text(place.at("paths").where, "\n".join(block), guessed=True)


def _paths(document: Any) -> Iterator[Words]:
    """The words on the way to each leaf, where there are keys enough; of a list also the single values beside it."""
    stack: list[tuple[Any, Words, int]] = [(document, (), 0)]
    while stack:
        value, words, keys = stack.pop()
        if isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            texts = tuple(item for item in fields.values() if isinstance(item, str))
            own = tuple(str(item) for item in fields.values() if _is_number(item))
            if keys and own and len(fields) <= _FEW:
                yield (*words, *texts, *own)
            for key, item in fields.items():
                if _is_inner(item):
                    stack.append((item, (*words, *texts[:_FEW], *_parts(key)), keys + 1))
                elif keys + 1 >= _LEAST_KEYS:
                    yield (*words, *_parts(key), str(item))
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            inner = [item for item in items if _is_inner(item)]
            if keys and len(items) <= _FEW and len(inner) < len(items):
                words = (*words, *(str(item) for item in items if not _is_inner(item)))
                yield words
            stack += [(item, words, keys + (len(inner) < len(items))) for item in inner]


def _parts(key: str) -> Words:
    """A key, and what stands behind a name in it: `age_61`, `town=Unna`."""
    return tuple(dict.fromkeys((key, *(part for part in _JOINTS.split(key) if part))))


def _is_inner(value: object) -> bool:
    return isinstance(value, dict | list)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
