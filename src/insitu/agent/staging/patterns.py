"""Which objects a dataset is made of: a pattern over their names.

    *  within a name's part     **  any number of parts     ?  one character     [abc]  one of them

A pattern that ends with a slash means everything below it. Matching is exact: case
counts, and so does each character as it is.
"""

from __future__ import annotations

import re

from insitu.domain.errors import InvalidInputError

_WILD = re.compile(r"[*?\[]")


def literal_prefix(pattern: str) -> str:
    """What the names of all matches begin with, so that a store needs to list no more."""
    found = _WILD.search(_whole(pattern))
    return _whole(pattern)[: found.start()] if found else pattern


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The pattern, for `fullmatch`.

    Raises:
        InvalidInputError: it leads outside, or is none.
    """
    if not pattern or pattern.startswith("/") or ".." in pattern.split("/"):
        raise InvalidInputError("--path is a pattern inside the datastore", code="data-path", hint="e.g. 'wdbc/*.csv'")
    return re.compile("".join(_parts(_whole(pattern))), re.DOTALL)


def _whole(pattern: str) -> str:
    return f"{pattern}**" if pattern.endswith("/") else pattern


def _parts(pattern: str) -> list[str]:
    out: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out.append("(?:[^/]+/)*")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif pattern[at] == "*":
            out.append("[^/]*")
            at += 1
        elif pattern[at] == "?":
            out.append("[^/]")
            at += 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inside = pattern[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            out.append(f"(?!/)[{'^' + inside[1:] if inside[0] == '!' else inside}]")
            at = end + 1
        else:
            out.append(re.escape(pattern[at]))
            at += 1
    return out
