"""Keys and values of the policy's design that this version does not enforce yet.

A policy that carries one is refused as a whole, and the error says what to do:
a bound that is written down but not kept would be worse than none. When a rule
is built, its line here goes away and a field in `policy_values.py` appears.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

_KEYS: Mapping[tuple[str, ...], str] = {
    ("release", "models", "ceiling"): "leave it out and lower release.models.max_bytes: it bounds what a model carries",
    ("release", "models", "free_ceiling"): "leave it out and lower release.models.max_bytes",
    ("release", "models", "precision"): "leave it out; weights leave as they were stored",
    ("release", "models", "smoke"): "leave it out; nothing is predicted at the gate",
    ("release", "files", "max_count"): "leave it out; release.files.max_bytes bounds an output",
    ("budget", "ceiling_per_dataset_per_month"): "leave it out; budget.per_dataset_per_month bounds what leaves",
    ("budget", "ceiling_per_submitter_per_month"): "leave it out; budget.per_submitter_per_month bounds what leaves",
}
_VALUES: Mapping[tuple[str, ...], Mapping[Any, str]] = {
    ("release", "logs", "mode"): {"open": "use scanned, or held"},
    ("release", "models", "otherwise"): {"resident": "use held"},
    ("release", "models", "formats"): {
        "safetensors": "allow skops; what is in another format is held for a reviewer",
        "onnx": "allow skops; what is in another format is held for a reviewer",
        "json": "allow skops; JSON tables may leave through release.files",
    },
    ("release", "files", "formats"): {"png": "allow json and csv; a picture is held for a reviewer"},
    ("release", "files", "otherwise"): {"resident": "use held"},
    ("review", "needed"): {2: "use 1; only one reviewer is asked"},
}


def unenforced(document: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str, str]]:
    """What `document` asks for and nobody would keep: (path, what, what to do)."""
    found: list[tuple[tuple[str, ...], str, str]] = []
    for path, hint in _KEYS.items():
        if _at(document, path) is not None:
            found.append((path, f"{'.'.join(path)} is not enforced by this version", hint))
    for path, known in _VALUES.items():
        value = _at(document, path)
        for item in cast("list[Any]", value) if isinstance(value, list) else [value]:
            if isinstance(item, str | int) and item in known:
                found.append((path, f"{'.'.join(path)}: {item} is not enforced by this version", known[item]))
    gpus = _at(document, ("sandbox", "gpus"))
    if isinstance(gpus, int) and gpus > 0:
        what = f"sandbox.gpus: {gpus} is not enforced by this version"
        found.append((("sandbox", "gpus"), what, "use 0; no sandbox hands out a GPU"))
    return found


def is_unenforced_key(path: tuple[str, ...]) -> bool:
    return path in _KEYS


def _at(document: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = cast("Mapping[str, Any]", document).get(key)
    return document
