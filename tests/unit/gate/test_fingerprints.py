"""Fingerprints: any copied run of the stated length is found, wherever it begins, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.gate.known.fingerprints import (
    CERTAIN_BYTES,
    KNOWN_STEP,
    PROBE_STEP,
    RUN_BYTES,
    FingerprintSet,
    HashKey,
    distinct_bytes,
    fingerprints_of,
    hash_words,
    write_set,
)

KEY = HashKey.of(b"key of an index", b"bytes")
KNOWN = np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8)


def prints_of(data: np.ndarray, step: int, key: HashKey = KEY) -> np.ndarray:
    return np.concatenate([found for _, found in fingerprints_of(key, data, step)])


KNOWN_PRINTS = FingerprintSet.of(prints_of(KNOWN, KNOWN_STEP))


@settings(max_examples=200, deadline=None)
@given(start=st.integers(0, len(KNOWN) - CERTAIN_BYTES), before=st.integers(0, 200), behind=st.integers(0, 60))
def test_a_copied_run_of_the_certain_length_is_found_at_any_offset(start, before, behind):
    rng = np.random.default_rng([before, behind, 1])
    copied = KNOWN[start : start + CERTAIN_BYTES]
    data = np.concatenate(
        [rng.integers(0, 256, before, dtype=np.uint8), copied, rng.integers(0, 256, behind, dtype=np.uint8)]
    )
    hits = [
        at + place * PROBE_STEP
        for at, found in fingerprints_of(KEY, data, PROBE_STEP)
        for place in KNOWN_PRINTS.where(found)
    ]
    assert hits
    # A byte of noise may continue the copy by chance, so what counts is that each hit is a run of what is known.
    assert all(data[hit : hit + RUN_BYTES].tobytes() in KNOWN.tobytes() for hit in hits)


def test_the_two_steps_have_no_factor_in_common_or_some_shifts_would_never_meet():
    assert np.gcd(KNOWN_STEP, PROBE_STEP) == 1
    aligned = FingerprintSet.of(prints_of(KNOWN, 8))
    shifted = np.concatenate([np.zeros(1, dtype=np.uint8), KNOWN])
    assert not any(len(aligned.where(found)) for _, found in fingerprints_of(KEY, shifted, 8))


def test_other_bytes_are_not_found():
    other = np.random.default_rng(1).integers(0, 256, 200_000, dtype=np.uint8)
    assert not len(KNOWN_PRINTS.where(prints_of(other, 1)))


def test_the_filter_loses_no_fingerprint_and_lets_few_others_through():
    hashes = np.random.default_rng(2).integers(0, 2**64, 30_000, dtype=np.uint64)
    known = FingerprintSet.of(hashes)
    assert known.where(hashes).tolist() == list(range(len(hashes)))
    assert len(known) == len(np.unique(hashes))


def test_a_set_is_the_same_from_disk(tmp_path):
    hashes = np.unique(np.random.default_rng(3).integers(0, 2**64, 5000, dtype=np.uint64))
    assert write_set(tmp_path, "some", iter(np.array_split(hashes, 7))) == len(hashes)
    stored = FingerprintSet.open(tmp_path, "some")
    assert stored.where(hashes).tolist() == list(range(len(hashes)))
    assert not len(stored.where(hashes + np.uint64(1)))


def test_an_empty_set_holds_nothing(tmp_path):
    assert write_set(tmp_path, "none", iter(())) == 0
    assert not len(FingerprintSet.open(tmp_path, "none").where(np.arange(10, dtype=np.uint64)))


def test_without_the_key_the_fingerprints_say_nothing():
    other = HashKey.of(b"another key", b"bytes")
    assert not len(KNOWN_PRINTS.where(prints_of(KNOWN, KNOWN_STEP, other)))
    assert not len(KNOWN_PRINTS.where(prints_of(KNOWN, KNOWN_STEP, HashKey.of(b"key of an index", b"text"))))


def test_every_byte_of_a_run_counts():
    base = prints_of(KNOWN[:RUN_BYTES], 1)
    for at in range(RUN_BYTES):
        changed = KNOWN[:RUN_BYTES].copy()
        changed[at] ^= 1
        assert prints_of(changed, 1) != base


def test_what_is_shorter_than_a_run_has_no_fingerprint():
    assert not list(fingerprints_of(KEY, KNOWN[: RUN_BYTES - 1], 1))
    with pytest.raises(ValueError, match="nothing"):
        hash_words(KEY, [])


def test_repetition_has_few_different_bytes():
    data = np.frombuffer(b"\x00" * 40 + bytes(range(40)), dtype=np.uint8)
    assert distinct_bytes(data, np.array([0, 40])).tolist() == [1, 24]
