"""Keyed fingerprints of short runs of bytes: how copies of a dataset's bytes are found in what a job wrote.

A fingerprint is a keyed 64-bit hash of 24 bytes. Winnowing (Schleimer, Wilkerson
and Aiken: Local algorithms for document fingerprinting, SIGMOD 2003) keeps so
many of them that a common run of a certain length can't be missed: at least one
of each window of `w`, so that any common run of `w + k - 1` bytes is found. It
chooses by hash, since it samples both sides. Here only one side, or each side by
its own step, has to be thinned out, and choosing by place does the same for less:

    known data: every `d`-th place    looked at: every place       found: d + k - 1
    known data: every `d`-th place    looked at: every `s`-th      found: d · s + k - 1

The second needs `d` and `s` without a common factor: of any `d · s` places in a
row one is both (the Chinese remainder theorem), however the copy is shifted.

The hash multiplies and folds, as MurmurHash3 ends, with secret factors. Two
different runs collide with a chance of about 2^-64 under a random key, and who
has the set without its key can't try out guesses. The set is kept sorted, and
mapped into memory; before it stands a filter of sixteen bits for each entry
(Putze, Sanders and Singler: Cache-, hash- and space-efficient Bloom filters,
2007), so that what is not there costs one access to memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.known.files import NpyWriter, load_npy

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

RUN_BYTES = 24
"""Of one fingerprint."""
KNOWN_STEP = 5
"""Every so many bytes of the known data have one: odd, so that it has no factor in common with the other step."""
PROBE_STEP = 16
"""Every so many bytes of what is looked at are compared."""
CERTAIN_BYTES = KNOWN_STEP * PROBE_STEP + RUN_BYTES - 1
"""Any copied run of so many bytes is found for certain."""

_FILTER_BITS = 16  # for each fingerprint
_CHUNK = 1 << 14  # places at a time: all that is worked on stays in the processor's cache
_SPREAD = (2654435761, 2246822519, 3266489917)  # primes of about 2^32, as in xxHash
_U64 = np.uint64


@dataclass(frozen=True)
class HashKey:
    """Secret factors, all odd, and a start."""

    start: np.uint64
    factors: tuple[np.uint64, np.uint64, np.uint64]

    @staticmethod
    def of(key: bytes, purpose: bytes) -> HashKey:
        drawn = hashlib.blake2b(purpose, key=key[:64], digest_size=32, person=b"insitu-hashes").digest()
        words = np.frombuffer(drawn, dtype="<u8")
        return HashKey(_U64(words[0]), (_U64(words[1] | _U64(1)), _U64(words[2] | _U64(1)), _U64(words[3] | _U64(1))))


def hash_words(key: HashKey, words: Iterable[Words], lengths: Words | None = None) -> Words:
    """One hash for each place, of the words that stand there; `lengths` if they differ."""
    state: Words | None = None
    spare: Words | None = None
    first, second, third = key.factors
    for word in words:
        if state is None or spare is None:
            begin = key.start if lengths is None else key.start ^ (lengths * second)
            state = np.bitwise_xor(word, begin)
            spare = np.empty_like(state)
        else:
            np.bitwise_xor(state, word, out=state)
        np.multiply(state, first, out=state)
        np.right_shift(state, _U64(32), out=spare)
        np.bitwise_xor(state, spare, out=state)
    if state is None or spare is None:
        raise ValueError("nothing to hash")
    np.multiply(state, second, out=state)
    np.right_shift(state, _U64(29), out=spare)
    np.bitwise_xor(state, spare, out=state)
    np.multiply(state, third, out=state)
    np.right_shift(state, _U64(32), out=spare)
    return np.bitwise_xor(state, spare, out=state)


def words_at(data: Bytes, start: int, step: int, count: int) -> Words:
    """The eight bytes at `start`, at `start + step`, …; the last of them must lie inside."""
    return np.ndarray((count,), dtype="<u8", buffer=data.data, offset=start, strides=(step,))


def places_in(size: int, step: int, start: int = 0) -> int:
    """How many runs stand in so many bytes."""
    return max(0, (size - start - RUN_BYTES) // step + 1)


def fingerprints_of(key: HashKey, data: Bytes, step: int, start: int = 0) -> Iterator[tuple[int, Words]]:
    """The fingerprints of every `step`-th run, in chunks: (the first one's place in bytes, hashes)."""
    count = places_in(len(data), step, start)
    for done in range(0, count, _CHUNK):
        some, at = min(_CHUNK, count - done), start + done * step
        yield at, hash_words(key, [words_at(data, at + 8 * word, step, some) for word in range(RUN_BYTES // 8)])


class FingerprintSet:
    """Fingerprints, sorted, with the filter before them."""

    def __init__(self, sorted_: Words, filter_: Words) -> None:
        self._sorted = sorted_
        self._filter = filter_
        self._shift = _U64(64 - max(1, len(filter_).bit_length() - 1))

    def __len__(self) -> int:
        return len(self._sorted)

    @staticmethod
    def open(folder: Path, name: str) -> FingerprintSet:
        return FingerprintSet(load_npy(folder / f"{name}-sorted.npy"), load_npy(folder / f"{name}-filter.npy"))

    @staticmethod
    def of(hashes: Words) -> FingerprintSet:
        known = np.unique(hashes)
        return FingerprintSet(known, _filter_of(known))

    def where(self, hashes: Words) -> NDArray[np.intp]:
        """Which of `hashes` are in the set, as places in `hashes`."""
        if not len(self._sorted):
            return np.empty(0, dtype=np.intp)
        bits = _bits_of(hashes)
        words = self._filter.take(np.right_shift(hashes, self._shift).view(np.int64))
        np.bitwise_and(words, bits, out=words)
        likely = np.flatnonzero(words == bits)
        asked = hashes[likely]
        at = np.searchsorted(self._sorted, asked)
        np.minimum(at, len(self._sorted) - 1, out=at)
        return likely[self._sorted[at] == asked]


_THREE_BITS: Words = np.bitwise_or.reduce(
    [_U64(1) << (np.arange(1 << 12, dtype=_U64) * _U64(factor) >> _U64(26) & _U64(63)) for factor in _SPREAD]
)


def write_set(folder: Path, name: str, blocks: Iterable[Words]) -> int:
    """Store a set from blocks in ascending order, each fingerprint once; how many there are."""
    path = folder / f"{name}-sorted.npy"
    stored = NpyWriter(path, "<u8")
    for block in blocks:
        stored.write(block)
    stored.close()
    np.save(folder / f"{name}-filter.npy", _filter_of(load_npy(path)), allow_pickle=False)
    return stored.count


def _filter_of(known: Words) -> Words:
    size = 1 << max(1, (len(known) * _FILTER_BITS // 64).bit_length())
    found = np.zeros(size, dtype=_U64)
    shift = _U64(64 - (size.bit_length() - 1))
    for start in range(0, len(known), 1 << 20):
        part = np.asarray(known[start : start + (1 << 20)])
        at = np.right_shift(part, shift).astype(np.int64)  # ascending, as `known` is
        first = np.flatnonzero(np.concatenate(([True], at[1:] != at[:-1])))
        found[at[first]] |= np.bitwise_or.reduceat(_bits_of(part), first)
    return found


def _bits_of(hashes: Words) -> Words:
    """The three bits of each fingerprint in its word of the filter: from a table, which is quicker than shifting."""
    return _THREE_BITS.take(np.bitwise_and(hashes, _U64(len(_THREE_BITS) - 1)).view(np.int64))


def distinct_bytes(data: Bytes, places: NDArray[Any]) -> NDArray[np.intp]:
    """How many different bytes stand in the run at each place."""
    runs = np.sort(data[places[:, None] + np.arange(RUN_BYTES)], axis=1)
    return 1 + np.count_nonzero(np.diff(runs, axis=1), axis=1)
