"""Bytes of a stream → the lines that a person would see. Pure; bounded by one line.

- A line longer than 16 KiB is cut, and says so; its rest is dropped up to its end.
- A carriage return starts the line anew, as on a terminal: of a progress bar its last state is a line.
- What is not UTF-8 is replaced. Colours and other terminal controls are taken out: a line is shown on
  the terminals of other people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_LINE_BYTES = 16 << 10
CUT_MARK = " [cut: the line is longer than 16 KiB]"

# ECMA-48: control sequences (ESC [ …), operating system commands (ESC ] … BEL or ESC \), other escapes.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LONGEST_TEXT = MAX_LINE_BYTES - len(CUT_MARK)


def clean(raw: bytes, *, was_cut: bool = False) -> str:
    """The text of one line, without its end."""
    text = raw.decode("utf-8", "replace")
    if not text.isascii() or not text.isprintable():
        text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text))
    if was_cut or len(text) > MAX_LINE_BYTES:
        return text[:_LONGEST_TEXT] + CUT_MARK
    return text


class LineSplitter:
    """Feed it chunks; it gives lines as they become whole."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._over = False  # the line is longer than is kept of it
        self._returned = False  # a carriage return was the last byte: the next one tells what it meant

    def feed(self, chunk: bytes) -> Iterator[str]:
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            self._add(piece)
            yield self._take()
        self._add(rest)

    def end(self) -> Iterator[str]:
        """The last line, if the stream ended without an end of line."""
        if self._line:
            yield self._take()

    def _add(self, piece: bytes) -> None:
        if not piece:
            return
        if self._returned:
            self._restart()
        if piece.endswith(b"\r"):
            self._returned = True
            piece = piece[:-1]
        before, found, last = piece.rpartition(b"\r")
        if found:
            del before  # overwritten on a terminal
            self._restart(returned=self._returned)
        room = MAX_LINE_BYTES - len(self._line)
        self._over = self._over or len(last) > room
        self._line += last[: max(room, 0)]

    def _restart(self, *, returned: bool = False) -> None:
        self._line.clear()
        self._over = False
        self._returned = returned

    def _take(self) -> str:
        text = clean(bytes(self._line), was_cut=self._over)
        self._restart()
        return text
