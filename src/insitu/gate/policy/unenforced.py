"""Keys and values of the policy's design that this version does not enforce yet.

A policy that carries one is refused as a whole, and the error says what to do:
a bound that is written down but not kept would be worse than none. When a rule
is built, its line here goes away and a value in `policy/values.py` appears.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

_VALUES: Mapping[tuple[str, ...], Mapping[str, str]] = {
    ("release", "files", "otherwise"): {"resident": "use held; only a model can be used at a site without leaving it"},
}


def unenforced(document: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str, str]]:
    """What `document` asks for and nobody would keep: (path, what, what to do)."""
    found: list[tuple[tuple[str, ...], str, str]] = []
    for path, known in _VALUES.items():
        value = _at(document, path)
        if isinstance(value, str) and value in known:
            found.append((path, f"{'.'.join(path)}: {value} is not enforced by this version", known[value]))
    gpus = _at(document, ("sandbox", "gpus"))
    if isinstance(gpus, int) and gpus > 0:
        what = f"sandbox.gpus: {gpus} is not enforced by this version"
        found.append((("sandbox", "gpus"), what, "use 0; no sandbox hands out a GPU"))
    return found


def _at(document: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = cast("Mapping[str, Any]", document).get(key)
    return document
