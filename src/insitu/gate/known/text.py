"""Text as it is compared: the same for spellings that differ in case, space, quotes and separators.

`"Ada";  36` and `ada, 36` are one text. Of the known text every sixteenth place
has a fingerprint, and what is looked at is compared at every place.
"""

from __future__ import annotations

import numpy as np

from insitu.gate.known.fingerprints import RUN_BYTES, Bytes, places_in

TEXT_STEP = 16
CERTAIN_CHARACTERS = 2 * TEXT_STEP + RUN_BYTES - 1
"""A copied run of so many characters (in the normal form) has two fingerprints in a row, and is found for certain."""

_BLANK = 32
_SEPARATORS = "\t\n\r\x0b\x0c,;|\"'`\\[](){}<>=:"
_TABLE = bytes(
    32 if chr(code) in _SEPARATORS or code < 32 else code + 32 if 65 <= code <= 90 else code for code in range(256)
)
_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»‘’‚‛\u00a0\u2028\u2029", " "))


def normal_text(data: bytes | str) -> Bytes:
    """The normal form of UTF-8 text; what is not UTF-8 is taken byte by byte."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if not raw.isascii():
        raw = raw.decode("utf-8", "replace").translate(_QUOTES).casefold().encode("utf-8", "replace")
    found = np.frombuffer(raw.translate(_TABLE), dtype=np.uint8)
    keep = np.empty(len(found), dtype=bool)
    keep[:1] = True
    blank = found == _BLANK
    np.logical_and(blank[1:], blank[:-1], out=keep[1:])
    np.logical_not(keep[1:], out=keep[1:])
    return found[keep]


class TextPieces:
    """Normal text that comes in pieces: each one with the end of the one before it, so that no run is cut.

    Every `TEXT_STEP`-th place from the start is one of a piece's, however the pieces are cut.
    """

    def __init__(self) -> None:
        self._end = np.empty(0, dtype=np.uint8)

    def next(self, data: bytes | str) -> Bytes:
        more = normal_text(data)
        if len(self._end) and self._end[-1] == _BLANK and len(more) and more[0] == _BLANK:
            more = more[1:]
        whole = np.concatenate((self._end, more))
        self._end = whole[places_in(len(whole), TEXT_STEP) * TEXT_STEP :]
        return whole
