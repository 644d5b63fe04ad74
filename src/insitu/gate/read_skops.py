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

from insitu.gate.contents import Contents
from insitu.gate.read_numpy import NotReadableError
from insitu.gate.read_zip import Member

Node = dict[str, Any]
MAX_NODES = 500_000
_MAX_DEPTH = 100


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


def read_skops(members: list[Member], where: str, contents: Contents) -> None:
    """Collect what stands in the schema itself: numbers in order, keys and strings as text."""
    loose: list[float] = []
    for node in walk(parse_schema(members)):
        contents.effort.check_time()
        content = node.get("content")
        if node["__loader__"] == "JsonNode" and isinstance(content, str):
            _take_json(content, where, loose, contents)
        elif isinstance(content, dict):
            for key in cast("dict[str, Any]", content):
                contents.add_text(f"{where}: schema", key)
    if len(loose) >= 3:
        contents.add_numbers(f"{where}: schema", np.array(loose))


def _take_json(content: str, where: str, loose: list[float], contents: Contents) -> None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        contents.add_unread(f"{where}: schema", "a value is not JSON")
        return
    if isinstance(value, str):
        contents.add_text(f"{where}: schema", value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            loose.append(float(value))
        except OverflowError:
            contents.add_text(f"{where}: schema", content)
    elif isinstance(value, list | dict):
        contents.add_text(f"{where}: schema", content)


def _no_repeats(pairs: list[tuple[str, Any]]) -> Node:
    fields = dict(pairs)
    if len(fields) != len(pairs):  # two readers might each take another one of them
        raise NotReadableError("schema.json has a repeated key")
    return fields
