"""The ends of followed streams: kept while somebody follows, found by cursor, never more than a few."""

from __future__ import annotations

import pytest

from insitu.hub.store.tails import StoredBatch, Tails


def batch(first: int, payload: bytes = b"[]") -> StoredBatch:
    return StoredBatch(first, 1, payload)


def test_a_batch_is_found_by_the_cursor_of_its_first_event() -> None:
    tails = Tails()
    with tails.follow("j-1"):
        tails.put("j-1", batch(4, b"[1]"))
        tails.put("j-1", batch(6, b"[2]"))
        assert tails.starting_at("j-1", 6) == batch(6, b"[2]")
        assert tails.starting_at("j-1", 5) is None
        assert tails.starting_at("j-2", 6) is None


def test_nothing_is_kept_of_a_job_that_nobody_follows() -> None:
    tails = Tails()
    tails.put("j-1", batch(1))
    with tails.follow("j-1"), tails.follow("j-1"):
        assert tails.starting_at("j-1", 1) is None
        tails.put("j-1", batch(2))
    assert tails.starting_at("j-1", 2) is None


def test_one_of_two_followers_may_go() -> None:
    tails = Tails()
    with tails.follow("j-1"):
        with tails.follow("j-1"):
            pass
        tails.put("j-1", batch(1))
        assert tails.starting_at("j-1", 1) is not None


def test_who_is_far_behind_finds_nothing_here() -> None:
    tails = Tails()
    with tails.follow("j-1"):
        for first in range(1, 100):
            tails.put("j-1", batch(first))
        assert tails.starting_at("j-1", 1) is None
        assert tails.starting_at("j-1", 99) is not None


def test_a_follower_that_fails_is_no_follower_any_more() -> None:
    tails = Tails()
    with pytest.raises(ValueError, match=r"^$"), tails.follow("j-1"):
        raise ValueError
    tails.put("j-1", batch(1))
    with tails.follow("j-1"):
        assert tails.starting_at("j-1", 1) is None
