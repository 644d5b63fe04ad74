"""The texts in a job's signed code that it may print: what they look like with their values left out.

`print(f"epoch {epoch}: loss {loss:.4f}")` and `log.info("epoch %d: loss %.4f", …)` will
print lines whose shape is `epoch #: loss #`. Such a line says which of the code's
texts it is, and its numbers, no more. Code is parsed, never run.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from insitu.gate.channels.line_shapes import NUMBER_MARK, RUN_MARK, take_apart

_MOST_TEXTS = 4_000
_LONGEST = 1_000
_WORD = re.compile("[A-Za-z]{2}")  # without one it is no text
_PLACE = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]|\{[^{}]*\}")
_BLANKS = re.compile(rf"(?:\s|(?<=\s){RUN_MARK})+")
_SIGNED = re.compile(rf"(?<![\w{NUMBER_MARK}])[-+](?={NUMBER_MARK})")


def texts_of(source: str) -> frozenset[str]:
    """The bare shapes of the lines that Python `source` may print. Nothing of what does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its escapes
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(tree):
        for text in _texts_of_node(node):
            lines = (bare_shape(take_apart(line).shape) for line in text.split("\n"))
            found.update(line for line in lines if len(line) <= _LONGEST and _WORD.search(line))
        if len(found) >= _MOST_TEXTS:
            break
    return frozenset(found)


def bare_shape(shape: str) -> str:
    """`shape` without what a format changes: signs of numbers and how many blanks."""
    return _BLANKS.sub(" ", _SIGNED.sub("", shape)).strip()


def _texts_of_node(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and node.args:  # print("epoch", epoch, "loss", loss)
        yield " ".join(_text(argument) for argument in node.args)
    elif isinstance(node, (ast.Constant, ast.JoinedStr)):
        yield _text(node)


def _text(node: ast.AST) -> str:
    """What `node` prints, a value as a number."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _PLACE.sub("0", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(value.value) if isinstance(value, ast.Constant) else "0" for value in node.values)
    return "0"
