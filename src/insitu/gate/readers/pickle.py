"""Reads a pickle's opcodes, and never runs them.

`pickletools.genops` (standard library) names the opcodes; a small machine keeps
the stack that they would build, with a placeholder wherever a function would be
called. Arrays are recognised by the shape of what builds them, not by a class:
a state of (version, shape, dtype, order, bytes), a call with (buffer, dtype,
shape, order), or joblib's raw bytes behind its wrapper. So a renamed subclass
is read like any other. Numbers that stand singly are collected in order.

Bytes that no such shape claimed are looked at as raw floats. A pickle that the
machine does not follow to its end is reported as not read.

Formats: PEP 307, PEP 3154, PEP 574; joblib's `NumpyArrayWrapper`.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from insitu.gate.contents import Data, NotReadableError, Numbers, Place
from insitu.gate.readers.characters import bytes_in, without_controls
from insitu.gate.readers.numpy import add_array, array_of

_MAX_STACK = 1_000_000
_MIN_BLOB = 16  # bytes: shorter ones hold fewer cells than a row needs
_MIN_COLUMN = 3  # items of a list that may be a column of a table
_NUMBER_OPS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_BYTES_OPS = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_TEXT_OPS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_CLOSING_OPS = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "DICT", "APPENDS", "SETITEMS", "ADDITEMS", "FROZENSET"}


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


class _Mark:
    pass


_MARK = _Mark()


@dataclass
class _Machine:
    stream: io.BytesIO
    place: Place
    nested: Callable[[bytes], None]  # reads a pickle inside the pickle; called for joblib's object arrays
    stack: list[Any] = field(default_factory=list[Any])
    memo: dict[int, Any] = field(default_factory=dict[int, Any])
    loose: list[float] = field(default_factory=list[float])
    blobs: list[Blob] = field(default_factory=list[Blob])
    lists: list[list[Any]] = field(default_factory=list[list[Any]])
    lines: list[str] = field(default_factory=list[str])  # of what stands together in one container
    cells: list[Any] = field(default_factory=list[Any])  # of the line that is not yet complete
    arrays: int = 0

    def run(self) -> None:
        for number, (opcode, arg, _position) in enumerate(pickletools.genops(self.stream)):
            if number % 4096 == 0:
                self.place.effort.check_time()
            if len(self.stack) > _MAX_STACK:
                raise NotReadableError("the pickle's stack is too deep")
            self.step(opcode.name, arg)

    def step(self, name: str, arg: Any) -> None:
        if name in _NUMBER_OPS:
            self._push_number(arg)
        elif name in _BYTES_OPS:
            self._push_blob(arg if isinstance(arg, bytes | bytearray) else str(arg).encode("latin-1", "replace"))
        elif name in _TEXT_OPS:
            self._push_text(arg)
        elif name == "MARK":
            self.stack.append(_MARK)
        else:
            _STEPS[name](self, arg)  # KeyError: an opcode that this reader does not know
            if name in _CLOSING_OPS:
                self.end_line()

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise NotReadableError("the pickle's stack is out of order")
        return value

    def pop_to_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise NotReadableError("the pickle's stack has no mark")

    def end_line(self) -> None:
        """Keep what was met since the last line, if text is in it: numbers alone are kept as numbers."""
        if any(isinstance(cell, str) for cell in self.cells):
            self.lines.append(without_controls("\t".join(str(cell) for cell in self.cells)))
        self.cells.clear()

    def new_list(self, items: list[Any]) -> None:
        self.lists.append(items)
        self.stack.append(items)

    def _push_text(self, text: str) -> None:
        self.stack.append(text)
        self.cells.append(text)
        if data := bytes_in(text):
            self.blobs.append(Blob(data))

    def _push_number(self, arg: Any) -> None:
        self.stack.append(arg)
        self.cells.append(arg)
        if not isinstance(arg, bool):
            try:
                self.loose.append(float(arg))
            except OverflowError:
                return

    def _push_blob(self, data: bytes | bytearray) -> None:
        blob = Blob(bytes(data))
        self.blobs.append(blob)
        self.stack.append(blob)

    def call(self, made: Made) -> Any:
        """What a call is replaced by: bytes when it makes bytes, else a placeholder."""
        args = _tuple_or_empty(made.args)
        if made.name == "_codecs.encode" and args and isinstance(args[0], str):
            blob = Blob(args[0].encode("latin-1", "replace"))  # how protocols 0 to 2 spell bytes
            self.blobs.append(blob)
            return blob
        if len(args) == 1 and isinstance(args[0], Blob):  # bytearray(b"…"), PickleBuffer(b"…")
            return args[0]
        self._claim(args)
        return made

    def build(self, target: Any, state: Any) -> None:
        if isinstance(target, Made):
            target.state = state
            if target.name.endswith("NumpyArrayWrapper") and isinstance(state, dict):
                self._read_joblib(cast("dict[Any, Any]", state))
        if isinstance(state, tuple):
            self._claim(cast("tuple[Any, ...]", state))

    def _claim(self, parts: tuple[Any, ...]) -> None:
        """Read an array if `parts` hold a shape, a dtype and the bytes, in any order."""
        self._claim_objects(parts)
        dtypes = [d for part in parts if isinstance(part, Made) and (d := _dtype_of(part)) is not None]
        blobs = [part for part in parts if isinstance(part, Blob)]
        if not dtypes or not blobs:
            return
        shapes = [p for part in parts if isinstance(part, tuple) and _is_shape(p := cast("tuple[Any, ...]", part))]
        shape = shapes[0] if shapes else (len(blobs[0].data) // max(1, dtypes[0].itemsize),)
        fortran = any(part is True or part == "F" for part in parts)
        try:
            self._add(array_of(blobs[0].data, dtypes[0], shape, fortran_order=fortran))
        except (NotReadableError, ValueError):
            return  # stays unclaimed, and is looked at as raw bytes
        blobs[0].claimed = True

    def _claim_objects(self, parts: tuple[Any, ...]) -> None:
        """An array of Python objects is a flat list and a shape: its rows and its columns are lines."""
        lists = [cast("list[Any]", part) for part in parts if isinstance(part, list)]
        shapes = [cast("tuple[Any, ...]", part) for part in parts if isinstance(part, tuple)]
        shape = next((found for found in shapes if _is_shape(found) and len(found) == 2), None)
        if shape is None or not lists or len(lists[0]) != shape[0] * shape[1] or not all(shape):
            return
        if any(isinstance(item, str) for item in lists[0]):
            width = shape[1]
            rows = [lists[0][at : at + width] for at in range(0, len(lists[0]), width)]
            self.place.contents.add_records(self.place.where, rows)
            self.place.contents.add_records(self.place.where, list(zip(*rows, strict=True)))

    def _add(self, values: Numbers) -> None:
        if values.size == 1 and values.dtype.kind in "fiub":  # numpy's scalars, e.g. in a list
            self.loose.append(float(values.reshape(-1)[0]))
            return
        self.arrays += 1
        self.place.effort.spend_member()
        add_array(values, self.place.at(f"array {self.arrays}"))

    def _read_joblib(self, state: dict[Any, Any]) -> None:
        """The array's bytes follow the opcode in the stream itself, after some padding."""
        stored = state.get("dtype")
        dtype = _dtype_of(stored)
        shape = state.get("shape")
        if not isinstance(shape, tuple) or not _is_shape(shape := cast("tuple[Any, ...]", shape)):
            raise NotReadableError("joblib array without a shape")
        if dtype is None and _code_of(stored) == "O8":  # Python objects: a pickle of its own follows
            self.nested(self.stream.read())
            return
        if dtype is None:
            raise NotReadableError("joblib array of an unknown dtype")
        if state.get("numpy_array_alignment_bytes") is not None:
            padding = self.stream.read(1)
            self.stream.read(padding[0] if padding else 0)
        size = dtype.itemsize * int(np.prod(shape, dtype=object))
        data = self.stream.read(min(size, self.place.effort.left_bytes + 1))
        self._add(array_of(data, dtype, shape, fortran_order=state.get("order") == "F"))


def is_pickle(data: Data) -> bool:
    """By its magic; protocols 0 and 1 have none: all of their opcodes must make sense, up to a STOP at the very end."""
    if bytes(data[:1]) == b"\x80":
        return True
    if bytes(data[-64:]).rstrip()[-1:] != b".":
        return False
    try:
        names = [opcode.name for opcode, _, _ in pickletools.genops(bytes(data))]
    except (ValueError, IndexError, UnicodeError, OverflowError, MemoryError):
        return False
    return names[-1:] == ["STOP"] and len(names) > 1


def read_pickle(data: Data, place: Place) -> None:
    """Take what the pickle holds, and read the bytes after its STOP."""
    whole = bytes(data)
    end = _read_one(whole, place)
    place.read(memoryview(whole)[end:], "behind the pickle")


def _read_one(data: bytes, place: Place) -> int:
    """Take one pickle; return where it ends."""
    place.add_kind("pickle")
    place.effort.check_depth(place.depth, place.guesses)
    stream = io.BytesIO(data)
    machine = _Machine(stream, place, nested=lambda rest: _read_nested(rest, place, stream))
    try:
        machine.run()
    except (NotReadableError, ValueError, IndexError, KeyError, TypeError, UnicodeError, RecursionError, EOFError):
        # What it held up to here counts; all of it is looked at as bytes as well, and it is never clean.
        place.add_unread("pickle not understood to its end")
        _finish(machine, place)
        place.read(b"\x00" + data, "as bytes", guessed=True)  # the zero: as no pickle
        return len(data)
    _finish(machine, place)
    return stream.tell()


def _finish(machine: _Machine, place: Place) -> None:
    machine.end_line()
    if len(machine.loose) >= 3:
        place.add_numbers(np.array(machine.loose), "single numbers")
    place.read("\n".join(machine.lines).encode(errors="replace"), "text")
    _read_columns(machine.lists, place)
    for blob in machine.blobs:
        if not blob.claimed and len(blob.data) >= _MIN_BLOB:
            place.effort.spend_member()
            place.read(blob.data, "bytes", guessed=True)


def _read_columns(lists: list[list[Any]], place: Place) -> None:
    """Lists of equal length that hold single values, some of them text, may be the columns of a table."""
    by_length: dict[int, list[list[Any]]] = {}
    for items in lists:
        if len(items) >= _MIN_COLUMN and all(isinstance(item, str | int | float) for item in items):
            by_length.setdefault(len(items), []).append(items)
    for columns in by_length.values():
        if len(columns) > 1 and any(isinstance(column[0], str) for column in columns):
            place.contents.add_records(place.where, columns)


def _read_nested(rest: bytes, place: Place, stream: io.BytesIO) -> None:
    end = _read_one(rest, replace(place, depth=place.depth + 1))
    stream.seek(stream.getbuffer().nbytes - len(rest) + end)


def _dtype_of(value: Any) -> np.dtype[Any] | None:
    """A plain or structured dtype as numpy pickles it: `dtype('f8', …)`, then a state with order and fields."""
    code = _code_of(value)
    if not (code[:1] in "fiubcUSMV" and code[1:].isdecimal() and len(code) <= 8):
        return None
    state = _tuple_or_empty(value.state)
    try:
        if len(state) > 4 and isinstance(state[4], dict):
            return _structured(cast("dict[str, Any]", state[4]), int(code[1:]))
        order = state[1] if len(state) > 1 and state[1] in ("<", ">", "|", "=") else "="
        return np.dtype(f"{order}{code}")
    except (TypeError, ValueError, IndexError):
        return None


def _structured(fields: dict[str, Any], size: int) -> np.dtype[Any] | None:
    """A dtype with `fields`, each a name with (dtype, offset); names are replaced, they may be data."""
    formats = [_dtype_of(field[0]) for field in fields.values()]
    if not formats or any(form is None for form in formats):  # `in` would ask numpy, to which None equals f8
        return None
    names = [f"f{number}" for number in range(len(formats))]
    offsets = [int(field[1]) for field in fields.values()]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def _code_of(value: Any) -> str:
    """The type code of a pickled dtype, such as `f8` or `V32`; empty if `value` is none."""
    if not isinstance(value, Made) or not value.name.endswith("dtype"):
        return ""
    args = _tuple_or_empty(value.args)
    code = args[0].data.decode("latin-1") if args and isinstance(args[0], Blob) else (args[0] if args else "")
    return code if isinstance(code, str) else ""


def _tuple_or_empty(value: Any) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", value) if isinstance(value, tuple) else ()


def _is_shape(value: tuple[Any, ...]) -> bool:
    return len(value) <= 32 and all(type(size) is int and 0 <= size < 2**48 for size in value)


# ── The opcodes, by what they do to the stack (names as in pickletools) ─────

_Step = Callable[[_Machine, Any], None]


def _nothing(_: _Machine, __: Any) -> None:
    return


def _push(value: Any) -> _Step:
    def step(machine: _Machine, _: Any) -> None:
        machine.stack.append(value)

    return step


def _push_opaque(machine: _Machine, arg: Any) -> None:
    machine.cells.append(str(arg))
    machine.stack.append(Made("opaque", args=arg))


def _replace_opaque(machine: _Machine, _: Any) -> None:
    machine.stack.append(Made("opaque", args=machine.pop()))


def _empty_list(machine: _Machine, _: Any) -> None:
    machine.new_list([])


def _empty_dict(machine: _Machine, _: Any) -> None:
    machine.stack.append({})


def _list(machine: _Machine, _: Any) -> None:
    machine.new_list(machine.pop_to_mark())


def _tuple(machine: _Machine, _: Any) -> None:
    machine.stack.append(tuple(machine.pop_to_mark()))


def _tuple_of(count: int) -> _Step:
    def step(machine: _Machine, _: Any) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(values)))

    return step


def _dict(machine: _Machine, _: Any) -> None:
    machine.stack.append(_paired(machine.pop_to_mark()))


def _append(machine: _Machine, _: Any) -> None:
    _extend(machine.stack, [machine.pop()])


def _appends(machine: _Machine, _: Any) -> None:
    _extend(machine.stack, machine.pop_to_mark())


def _extend(stack: list[Any], values: list[Any]) -> None:
    if isinstance(stack[-1], list):
        cast("list[Any]", stack[-1]).extend(values)


def _setitem(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _update(machine.stack, [key, value])


def _setitems(machine: _Machine, _: Any) -> None:
    _update(machine.stack, machine.pop_to_mark())


def _update(stack: list[Any], values: list[Any]) -> None:
    if isinstance(stack[-1], dict):
        cast("dict[Any, Any]", stack[-1]).update(_paired(values))


def _paired(values: list[Any]) -> dict[Any, Any]:
    pairs = zip(values[::2], values[1::2], strict=False)
    return {key if isinstance(key, str | int | float | bool | None) else id(key): value for key, value in pairs}


def _pop(machine: _Machine, _: Any) -> None:
    machine.stack.pop()


def _pop_mark(machine: _Machine, _: Any) -> None:
    machine.pop_to_mark()


def _dup(machine: _Machine, _: Any) -> None:
    machine.stack.append(machine.stack[-1])


def _put(machine: _Machine, arg: Any) -> None:
    machine.memo[arg] = machine.stack[-1]


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _get(machine: _Machine, arg: Any) -> None:
    machine.stack.append(machine.memo[arg])


def _global(machine: _Machine, arg: Any) -> None:
    machine.lines.append(without_controls(str(arg)))  # names of what it would call: chosen by the job
    machine.stack.append(Made(str(arg).replace(" ", ".", 1)))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(Made(f"{module}.{name}"))


def _reduce(machine: _Machine, _: Any) -> None:
    args, function = machine.pop(), machine.pop()
    machine.stack.append(machine.call(Made(_name_of(function), args=args)))


def _newobj_ex(machine: _Machine, _: Any) -> None:
    machine.pop()
    _reduce(machine, _)


def _inst(machine: _Machine, arg: Any) -> None:
    machine.lines.append(without_controls(str(arg)))
    args = tuple(machine.pop_to_mark())
    machine.stack.append(machine.call(Made(str(arg).replace(" ", ".", 1), args=args)))


def _obj(machine: _Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    machine.stack.append(machine.call(Made(_name_of(values[0]), args=tuple(values[1:]))))


def _build(machine: _Machine, _: Any) -> None:
    state = machine.pop()
    machine.build(machine.stack[-1], state)


def _name_of(value: Any) -> str:
    return value.name if isinstance(value, Made) else "opaque"


_STEPS: dict[str, _Step] = {
    "PROTO": _nothing,
    "FRAME": _nothing,
    "STOP": _nothing,
    "READONLY_BUFFER": _nothing,
    "NEXT_BUFFER": _push_opaque,
    "NONE": _push(None),
    "NEWTRUE": _push(True),  # noqa: FBT003 - the value itself
    "NEWFALSE": _push(False),  # noqa: FBT003 - the value itself
    "EMPTY_LIST": _empty_list,
    "EMPTY_TUPLE": _push(()),
    "EMPTY_DICT": _empty_dict,
    "EMPTY_SET": _empty_list,
    "LIST": _list,
    "FROZENSET": _list,
    "ADDITEMS": _appends,
    "APPEND": _append,
    "APPENDS": _appends,
    "TUPLE": _tuple,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "DICT": _dict,
    "SETITEM": _setitem,
    "SETITEMS": _setitems,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": _dup,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _memoize,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _newobj_ex,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": _build,
    "EXT1": _push_opaque,
    "EXT2": _push_opaque,
    "EXT4": _push_opaque,
    "PERSID": _push_opaque,
    "BINPERSID": _replace_opaque,
}
