"""Reads skops files: a zip with `schema.json`, which describes objects, and arrays.

The schema is a tree of nodes, each with a loader and the class that the loader
would make (skops.io's persistence format, protocol 2). The tree is walked here
to list those classes and to collect the numbers and text that stand in it
singly; the arrays are members of the zip and are read as such. Nothing is
imported and nothing is built.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from insitu.gate.contents import NotReadableError, Place
from insitu.gate.readers.zip import Member

Node = dict[str, Any]
MAX_NODES = 500_000
_MAX_DEPTH = 100
_FIELDS = frozenset(  # of nodes and of the schema, as skops writes them
    "__class__ __module__ __loader__ __id__ content key_types type file shape is_json protocol _skops_version"
    " obj bound_class_name func step start stop default_factory random_state bit_generator state".split()
)


def is_skops(members: list[Member]) -> bool:
    return any(member.name == "schema.json" for member in members)


def parse_schema(members: list[Member]) -> Node:
    """The schema of a skops archive.

    Raises:
        NotReadableError: it isn't a JSON object of skops' form.
    """
    data = next(member.data for member in members if member.name == "schema.json")
    try:
        schema = json.loads(data, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise NotReadableError("schema.json is not JSON") from error
    if not isinstance(schema, dict) or "__loader__" not in schema:
        raise NotReadableError("schema.json is not a skops schema")
    return cast("Node", schema)


def walk(schema: Node) -> Iterator[Node]:
    """Every node, in the order of the file. A node is an object with `__loader__`."""
    count = 0
    stack: list[tuple[Any, int]] = [(schema, 0)]
    while stack:
        value, depth = stack.pop()
        count += 1
        if count > MAX_NODES or depth > _MAX_DEPTH:
            raise NotReadableError("schema.json is too large or too deep")
        if isinstance(value, dict):
            node = cast("Node", value)
            if "__loader__" in node:
                yield node
            children = list(node.values())
        else:
            children = cast("list[Any]", value) if isinstance(value, list) else []
        stack += [(child, depth + 1) for child in reversed(children)]


def class_of(node: Node) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}"


def read_skops(members: list[Member], place: Place) -> None:
    """Collect what stands in the schema itself: numbers in order, keys, strings and fields of no known name as text."""
    loose: list[float] = []
    texts: list[str] = []
    inner = place.at("schema")
    for node in walk(parse_schema(members)):
        place.effort.check_time()
        content = node.get("content")
        if node["__loader__"] == "JsonNode" and isinstance(content, str):
            _take_json(content, loose, texts, inner)
        elif isinstance(content, dict):
            texts += cast("dict[str, Any]", content)
        texts += [f"{key}\t{json.dumps(value)}" for key, value in node.items() if key not in _FIELDS]
    if len(loose) >= 3:
        inner.add_numbers(np.array(loose))
    place.read("\n".join(texts).encode(errors="replace"), "schema")


def _take_json(content: str, loose: list[float], texts: list[str], place: Place) -> None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        place.add_unread("a value is not JSON")
        return
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            loose.append(float(value))
        except OverflowError:
            texts.append(content)
    elif isinstance(value, list | dict):
        texts.append(content)


def _no_repeats(pairs: list[tuple[str, Any]]) -> Node:
    fields = dict(pairs)
    if len(fields) != len(pairs):  # two readers might each take another one of them
        raise NotReadableError("schema.json has a repeated key")
    return fields
