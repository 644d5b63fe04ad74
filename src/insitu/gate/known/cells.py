"""Cells of text, as keyed hashes: one at a time for what is looked up, many at a time for what is indexed.

Cells of a small domain (names, codes, dates) could be guessed from plain values,
so only hashes under the index's own key are kept. Spellings that differ in case
or space have one hash.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from insitu.gate.known.fingerprints import Bytes, HashKey, Words, words_at

Places = NDArray[np.int64]

_LONGEST = 64  # bytes of a cell that is hashed together with others; longer ones are rare
_ALL = (1 << 64) - 1
_U64 = np.uint64
_LOW_BYTES: Words = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=_U64)
PADDING = 32
"""Bytes that must stand before and behind the cells, so that whole words can be read."""


def hash_cell(key: HashKey, cell: str) -> int:
    """A cell's hash; 0 for an empty one."""
    normal = " ".join(cell.casefold().split()).encode("utf-8", "surrogatepass")
    if not normal:
        return 0
    first, second, third = (int(factor) for factor in key.factors)
    state = int(key.start) ^ (len(normal) * second & _ALL)
    for at in range(0, len(normal), 8):
        state = (state ^ int.from_bytes(normal[at : at + 8], "little")) * first & _ALL
        state ^= state >> 32
    state = state * second & _ALL
    state ^= state >> 29
    state = state * third & _ALL
    return state ^ state >> 32 or 1


def hash_cells(
    key: HashKey, data: Bytes, starts: Places, ends: Places, odd: Sequence[int], *, quoted: bool = True
) -> Words:
    """The hashes of the cells `data[start:end]`, which are in lower case and ASCII, but for those in `odd`.

    `data` has `PADDING` bytes before and behind its cells. What is longer than most is added to the odd ones.
    """
    sizes = ends - starts
    first, second, third = key.factors
    state = key.start ^ (sizes.astype(_U64) * second)
    words = words_at(data, 0, 1, len(data) - 7)
    for done in range(0, min(int(sizes.max(initial=0)), _LONGEST), 8):
        some = np.flatnonzero(sizes > done)
        rest = np.minimum(sizes[some] - done, 8)
        here = state[some] ^ (words[starts[some] + done] & _LOW_BYTES[rest])
        here *= first
        state[some] = here ^ here >> _U64(32)
    state *= second
    state ^= state >> _U64(29)
    state *= third
    state ^= state >> _U64(32)
    state[state == 0] = 1
    state[sizes == 0] = 0
    for at in {*odd, *np.flatnonzero(sizes > _LONGEST).tolist()}:
        state[at] = hash_cell(key, cell_text(data, int(starts[at]), int(ends[at]), quoted=quoted))
    return state


def cell_text(data: Bytes, start: int, end: int, *, quoted: bool = True) -> str:
    """A cell as CSV means it: without its quotes."""
    text = data[start:end].tobytes().decode("utf-8")
    return text[1:-1].replace('""', '"') if quoted and len(text) > 1 and text[0] == text[-1] == '"' else text
