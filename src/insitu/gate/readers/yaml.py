"""Reads YAML as values, without building what it says: no tags, no anchors, no merging.

PyYAML's events are followed (YAML 1.1); an alias, which a bomb is made of, is
nothing. Scalars stay text: what looks like a number is told later, as for JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import yaml

from insitu.gate.effort import Effort

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C where PyYAML was built with it
_MAX_TEXT = 2 << 20  # characters: larger ones are still read as lines
_MAX_DEPTH = 60
_STARTS = re.compile(r"\s*(---|- |\? |[\w\"'.$/-][^\n:]{0,80}:(\s|$))")


def parse_yaml(text: str, effort: Effort) -> Any:
    """The documents in `text` as lists, dictionaries and strings; None if it is no YAML or holds but one scalar."""
    if len(text) > _MAX_TEXT or not _STARTS.match(text):
        return None
    root: list[Any] = []
    stack: list[list[Any]] = [root]  # of a mapping: keys and values in turn
    try:
        for number, event in enumerate(_events(text)):
            if number % 1000 == 0:
                effort.check_time()
            if isinstance(event, yaml.ScalarEvent):
                stack[-1].append(event.value)
            elif isinstance(event, yaml.AliasEvent):
                stack[-1].append(None)
            elif isinstance(event, yaml.CollectionStartEvent):
                if len(stack) > _MAX_DEPTH:
                    return None
                stack.append([])
            elif isinstance(event, yaml.CollectionEndEvent):
                items = stack.pop()
                stack[-1].append(_mapping(items) if isinstance(event, yaml.MappingEndEvent) else items)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    return [value for value in root if isinstance(value, list | dict)] or None


def _events(text: str) -> Iterator[Any]:
    return cast("Any", yaml).parse(text, Loader=_LOADER)  # PyYAML's stubs say nothing of events


def _mapping(items: list[Any]) -> dict[str, Any]:
    """Keys that are no text, and repeated ones, keep their values under a name of ours."""
    values: dict[str, Any] = {}
    for number, (key, value) in enumerate(zip(items[::2], items[1::2], strict=False)):
        if isinstance(key, str) and key not in values:
            values[key] = value
        else:
            values[f"{key if isinstance(key, str) else ''}#{number}"] = value
            if not isinstance(key, str) and key is not None:
                values[f"key#{number}"] = key
    return values
