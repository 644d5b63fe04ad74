"""Tells whether bytes are characters, and which: UTF-8, UTF-16, UTF-32, or a Latin code page.

Byte order marks are believed; without one, UTF-16 and UTF-32 show by the bytes
that are the same at every second or fourth place (Unicode 15, chapter 3.10; RFC 2781).
"""

from __future__ import annotations

import codecs
import re

import numpy as np

from insitu.gate.contents import Data

_SAMPLE = 4096
_LEAST_WIDE = 8  # characters: fewer say nothing about an encoding without a mark
_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_MANY = 0.9
_FEW_BLOCKS = 0.6  # of the characters share one high byte
_LAST_BLOCK = 0x0E  # of scripts with few letters; bytes taken for the many characters of others are anything


def is_text(data: Data) -> bool:
    """Whether `data` is UTF-8 without control characters."""
    return _utf8(data) is not None


def text_of(data: Data, *, latin: bool = True) -> str | None:
    """The text that `data` is, or None if it is something else; `latin`: also in an 8-bit code page."""
    for mark, encoding in _MARKS:
        if bytes(data[: len(mark)]) == mark:
            text = _decoded(data[len(mark) :], encoding)
            if text is not None and _is_readable(text):
                return text
    text = _utf8(data)
    return text if text is not None else _wide(data) or (_latin(data) if latin else None)


def bytes_in(text: str) -> bytes:
    """The bytes that a string may be: one a character, where it is no ordinary text. Empty if it is.

    Latin-1, or any other block of 256 characters: the low byte of each.
    """
    if text.isascii() and not _CONTROL.search(text):
        return b""
    if len(text) >= _LEAST_WIDE and len({ord(character) >> 8 for character in text}) == 1:
        return bytes(ord(character) & 0xFF for character in text)
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return b""


def without_controls(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _utf8(data: Data) -> str | None:
    head = bytes(data[:_SAMPLE])
    if _CONTROL.search(head.decode("latin-1")):  # before all of a large file is decoded
        return None
    text = _decoded(data, "utf-8")
    return None if text is None or _CONTROL.search(text) else text


def _decoded(data: Data, encoding: str) -> str | None:
    try:
        return str(data, encoding)
    except UnicodeDecodeError:
        return None


def _wide(data: Data) -> str | None:
    """UTF-16 or UTF-32 without a mark; a byte that is cut off at an end is left out."""
    for width, encodings in ((4, ("utf-32-le", "utf-32-be")), (2, ("utf-16-le", "utf-16-be"))):
        whole = len(data) // width * width
        if whole < width * _LEAST_WIDE:
            continue
        for place, encoding in zip((width - 1, 0), encodings, strict=True):
            if not _shares_high_byte(data, width, place):
                continue
            text = _decoded(data[:whole], encoding)
            if text is not None and _is_readable(text):
                return text
    return None


def _shares_high_byte(data: Data, width: int, place: int) -> bool:
    high = np.frombuffer(data[: _SAMPLE // width * width], dtype=np.uint8)[place::width]
    counts = np.bincount(high)
    return int(counts.argmax()) <= _LAST_BLOCK and int(counts.max()) >= _FEW_BLOCKS * len(high)


def _is_readable(text: str) -> bool:
    sample = text[:_SAMPLE]
    readable = sum(character.isprintable() or character in "\t\r\n" for character in sample)
    plain = sum(character.isalnum() or character.isspace() or character.isascii() for character in sample)
    return not sample or min(readable, plain) >= _MANY * len(sample)


def _latin(data: Data) -> str | None:
    """An 8-bit code page: mostly ASCII, and no control characters. Which page does not matter for what is ASCII."""
    sample = np.frombuffer(data[:_SAMPLE], dtype=np.uint8)
    ascii_share = np.count_nonzero((sample >= 0x20) & (sample < 0x7F)) / max(1, len(sample))
    if len(sample) < 2 * _LEAST_WIDE or ascii_share < _MANY:
        return None
    text = str(data, "latin-1")
    return None if _CONTROL.search(text) else text
