"""What a pickle is made of as far as a reader of numbers and texts must know: calls, bytes, shapes, numpy's dtypes.

Nothing here is the thing that it stands for: a class is its name, a call its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np


@dataclass
class Made:
    """What a call or a class would have become: its name, its arguments, its state."""

    name: str
    args: Any = None
    state: Any = None


@dataclass
class Blob:
    """Bytes in the pickle. `claimed` once an array was read from them."""

    data: bytes
    claimed: bool = False


def dtype_of(value: Any) -> np.dtype[Any] | None:
    """A plain or structured dtype as numpy pickles it: `dtype('f8', …)`, then a state with order and fields."""
    code = code_of(value)
    if not (code[:1] in "fiubcUSMV" and code[1:].isdecimal() and len(code) <= 8):
        return None
    state = tuple_or_empty(value.state)
    try:
        if len(state) > 4 and isinstance(state[4], dict):
            return _structured(cast("dict[str, Any]", state[4]), int(code[1:]))
        order = state[1] if len(state) > 1 and state[1] in ("<", ">", "|", "=") else "="
        return np.dtype(f"{order}{code}")
    except (TypeError, ValueError, IndexError):
        return None


def _structured(fields: dict[str, Any], size: int) -> np.dtype[Any] | None:
    """A dtype with `fields`, each a name with (dtype, offset); names are replaced, they may be data."""
    formats = [dtype_of(field[0]) for field in fields.values()]
    if not formats or any(form is None for form in formats):  # `in` would ask numpy, to which None equals f8
        return None
    names = [f"f{number}" for number in range(len(formats))]
    offsets = [int(field[1]) for field in fields.values()]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def code_of(value: Any) -> str:
    """The type code of a pickled dtype, such as `f8` or `V32`; empty if `value` is none."""
    if not isinstance(value, Made) or not value.name.endswith("dtype"):
        return ""
    args = tuple_or_empty(value.args)
    code = args[0].data.decode("latin-1") if args and isinstance(args[0], Blob) else (args[0] if args else "")
    return code if isinstance(code, str) else ""


def tuple_or_empty(value: Any) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", value) if isinstance(value, tuple) else ()


def is_shape(value: tuple[Any, ...]) -> bool:
    return len(value) <= 32 and all(type(size) is int and 0 <= size < 2**48 for size in value)
