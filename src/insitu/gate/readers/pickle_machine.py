"""The machine that follows a pickle's opcodes: the stack that they would build, with placeholders for all calls.

Arrays are recognised by the shape of what builds them, not by a class: a state of
(version, shape, dtype, order, bytes), a call with (buffer, dtype, shape, order), or
joblib's raw bytes behind its wrapper. So a renamed subclass is read like any other.
Numbers that stand singly are collected in order.

Formats: PEP 307, PEP 3154, PEP 574; joblib's `NumpyArrayWrapper`.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from insitu.gate.contents import NotReadableError, Numbers, Place
from insitu.gate.readers.characters import bytes_in, without_controls
from insitu.gate.readers.numpy import add_array, array_of
from insitu.gate.readers.pickle_parts import Blob, Made, code_of, dtype_of, is_shape, tuple_or_empty

_MAX_STACK = 1_000_000
_NUMBER_OPS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_BYTES_OPS = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_TEXT_OPS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_CLOSING_OPS = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "DICT", "APPENDS", "SETITEMS", "ADDITEMS", "FROZENSET"}


class _Mark:
    pass


_MARK = _Mark()


@dataclass
class Machine:
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
        args = tuple_or_empty(made.args)
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
        dtypes = [d for part in parts if isinstance(part, Made) and (d := dtype_of(part)) is not None]
        blobs = [part for part in parts if isinstance(part, Blob)]
        if not dtypes or not blobs:
            return
        shapes = [p for part in parts if isinstance(part, tuple) and is_shape(p := cast("tuple[Any, ...]", part))]
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
        shape = next((found for found in shapes if is_shape(found) and len(found) == 2), None)
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
        dtype = dtype_of(stored)
        shape = state.get("shape")
        if not isinstance(shape, tuple) or not is_shape(shape := cast("tuple[Any, ...]", shape)):
            raise NotReadableError("joblib array without a shape")
        if dtype is None and code_of(stored) == "O8":  # Python objects: a pickle of its own follows
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


# ── The opcodes, by what they do to the stack (names as in pickletools) ─────

_Step = Callable[[Machine, Any], None]


def _nothing(_: Machine, __: Any) -> None:
    return


def _push(value: Any) -> _Step:
    def step(machine: Machine, _: Any) -> None:
        machine.stack.append(value)

    return step


def _push_opaque(machine: Machine, arg: Any) -> None:
    machine.cells.append(str(arg))
    machine.stack.append(Made("opaque", args=arg))


def _replace_opaque(machine: Machine, _: Any) -> None:
    machine.stack.append(Made("opaque", args=machine.pop()))


def _empty_list(machine: Machine, _: Any) -> None:
    machine.new_list([])


def _empty_dict(machine: Machine, _: Any) -> None:
    machine.stack.append({})


def _list(machine: Machine, _: Any) -> None:
    machine.new_list(machine.pop_to_mark())


def _tuple(machine: Machine, _: Any) -> None:
    machine.stack.append(tuple(machine.pop_to_mark()))


def _tuple_of(count: int) -> _Step:
    def step(machine: Machine, _: Any) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(values)))

    return step


def _dict(machine: Machine, _: Any) -> None:
    machine.stack.append(_paired(machine.pop_to_mark()))


def _append(machine: Machine, _: Any) -> None:
    _extend(machine.stack, [machine.pop()])


def _appends(machine: Machine, _: Any) -> None:
    _extend(machine.stack, machine.pop_to_mark())


def _extend(stack: list[Any], values: list[Any]) -> None:
    if isinstance(stack[-1], list):
        cast("list[Any]", stack[-1]).extend(values)


def _setitem(machine: Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _update(machine.stack, [key, value])


def _setitems(machine: Machine, _: Any) -> None:
    _update(machine.stack, machine.pop_to_mark())


def _update(stack: list[Any], values: list[Any]) -> None:
    if isinstance(stack[-1], dict):
        cast("dict[Any, Any]", stack[-1]).update(_paired(values))


def _paired(values: list[Any]) -> dict[Any, Any]:
    pairs = zip(values[::2], values[1::2], strict=False)
    return {key if isinstance(key, str | int | float | bool | None) else id(key): value for key, value in pairs}


def _pop(machine: Machine, _: Any) -> None:
    machine.stack.pop()


def _pop_mark(machine: Machine, _: Any) -> None:
    machine.pop_to_mark()


def _dup(machine: Machine, _: Any) -> None:
    machine.stack.append(machine.stack[-1])


def _put(machine: Machine, arg: Any) -> None:
    machine.memo[arg] = machine.stack[-1]


def _memoize(machine: Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _get(machine: Machine, arg: Any) -> None:
    machine.stack.append(machine.memo[arg])


def _global(machine: Machine, arg: Any) -> None:
    machine.lines.append(without_controls(str(arg)))  # names of what it would call: chosen by the job
    machine.stack.append(Made(str(arg).replace(" ", ".", 1)))


def _stack_global(machine: Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(Made(f"{module}.{name}"))


def _reduce(machine: Machine, _: Any) -> None:
    args, function = machine.pop(), machine.pop()
    machine.stack.append(machine.call(Made(_name_of(function), args=args)))


def _newobj_ex(machine: Machine, _: Any) -> None:
    machine.pop()
    _reduce(machine, _)


def _inst(machine: Machine, arg: Any) -> None:
    machine.lines.append(without_controls(str(arg)))
    args = tuple(machine.pop_to_mark())
    machine.stack.append(machine.call(Made(str(arg).replace(" ", ".", 1), args=args)))


def _obj(machine: Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    machine.stack.append(machine.call(Made(_name_of(values[0]), args=tuple(values[1:]))))


def _build(machine: Machine, _: Any) -> None:
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
