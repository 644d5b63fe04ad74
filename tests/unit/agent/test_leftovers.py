"""Parts of transfers that nobody went on with are removed at the start; those that somebody may need are not."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from insitu.agent.leftovers import remove_given_up

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PLACES = ("code", "locks", "wheels/ab12", "images/layout/blobs/sha256")


def part(cache: Path, place: str, age: timedelta, name: str = ".x.part") -> Path:
    path = cache / place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    written = (NOW - age).timestamp()
    os.utime(path, (written, written))
    return path


@pytest.mark.parametrize("place", PLACES)
def test_a_part_of_the_day_before_is_removed_and_one_of_today_is_not(tmp_path: Path, place: str) -> None:
    old, new = part(tmp_path, place, timedelta(days=2)), part(tmp_path, place, timedelta(hours=2), ".y.part")
    whole = part(tmp_path, place, timedelta(days=200), "whole")
    assert remove_given_up(tmp_path, now=NOW) == 1
    assert [path.exists() for path in (old, new, whole)] == [False, True, True]


def test_a_part_that_somebody_fetches_is_left_alone(tmp_path: Path) -> None:
    held = part(tmp_path, "code", timedelta(days=2))
    with held.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert remove_given_up(tmp_path, now=NOW) == 0
    assert held.exists()
    assert remove_given_up(tmp_path, now=NOW) == 1


def test_an_image_that_was_half_unpacked_is_removed_and_a_whole_one_stays(tmp_path: Path) -> None:
    for name in (".work-1", "ab12"):
        (tmp_path / "images/unpacked" / name / "rootfs").mkdir(parents=True)
        written = (NOW - timedelta(days=3)).timestamp()
        os.utime(tmp_path / "images/unpacked" / name, (written, written))
    remove_given_up(tmp_path, now=NOW)
    assert [path.name for path in (tmp_path / "images/unpacked").iterdir()] == ["ab12"]


def test_a_cache_that_was_never_used_is_no_error(tmp_path: Path) -> None:
    assert remove_given_up(tmp_path / "none", now=NOW) == 0
