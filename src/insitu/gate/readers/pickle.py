"""Reads a pickle's opcodes, and never runs them.

`pickletools.genops` (standard library) names the opcodes; a small machine
(`pickle_machine.py`) keeps the stack that they would build, with a placeholder wherever
a function would be called. What it met of arrays, numbers and texts is taken from it here.

Bytes that no array claimed are looked at as raw floats. A pickle that the
machine does not follow to its end is reported as not read.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import replace
from typing import Any

import numpy as np

from insitu.gate.contents import Data, NotReadableError, Place
from insitu.gate.readers.pickle_machine import Machine

_MIN_BLOB = 16  # bytes: shorter ones hold fewer cells than a row needs
_MIN_COLUMN = 3  # items of a list that may be a column of a table


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
    machine = Machine(stream, place, nested=lambda rest: _read_nested(rest, place, stream))
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


def _finish(machine: Machine, place: Place) -> None:
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
