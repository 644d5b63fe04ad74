"""What a job takes of the disk: allocated blocks, each once, and whatever can't be counted counts as too much."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from insitu.agent.disk import check_free, check_taken, taken_by, watched
from insitu.agent.spare_threads import SpareThreads
from insitu.domain.errors import DeniedError, UnavailableError
from insitu.gate.policy.values import SandboxRules

MEGABYTE = 1_000_000


def rules(**fields: Any) -> SandboxRules:
    values = {"memory": 1, "cpus": 1, "timeout": 1, "processes": 1, "disk": "1MB", "free": 0}
    return SandboxRules.model_validate(values | fields)


def test_files_count_as_the_blocks_they_take(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"x" * 100_000)
    taken = taken_by(tmp_path, most_bytes=MEGABYTE)
    assert 200_000 <= taken.size_bytes < 250_000
    assert (taken.entries, taken.uncounted) == (3, "")


def test_a_sparse_file_counts_as_what_it_takes_and_not_as_what_it_says(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(1 << 40)
        stream.write(b"x")
    assert taken_by(tmp_path, most_bytes=MEGABYTE).size_bytes < 100_000


def test_a_file_of_several_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    for number in range(20):
        os.link(tmp_path / "a", tmp_path / f"link-{number}")
    check_taken(tmp_path, rules())


def test_what_a_link_leads_to_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 2 * MEGABYTE)
    inside = tmp_path / "outputs"
    inside.mkdir()
    (inside / "out").symlink_to(tmp_path)
    (inside / "file").symlink_to(tmp_path / "large")
    check_taken(inside, rules())


def test_counting_stops_at_the_first_thing_too_many(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}").write_bytes(b"x" * 100_000)
    assert taken_by(tmp_path, most_bytes=MEGABYTE).entries < 15
    assert taken_by(tmp_path, most_bytes=MEGABYTE * 100, most_entries=20).entries == 21


def test_too_much_is_refused_with_rule_measure_limit_and_hint(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 1_100_000)
    with pytest.raises(DeniedError) as caught:
        check_taken(tmp_path, rules())
    error = caught.value
    assert (error.code, error.rule) == ("outputs-too-large", "sandbox.disk")
    assert error.measure
    assert error.limit
    assert error.hint
    assert "model.bin" not in str(error.as_dict())


def test_folders_nested_too_deep_to_be_counted_are_too_much(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(70):
        folder /= "d"
    folder.mkdir(parents=True)
    (folder / "hidden").write_bytes(b"x" * 2 * MEGABYTE)
    with pytest.raises(DeniedError) as caught:
        check_taken(tmp_path, rules())
    assert "nested" in caught.value.measure


def test_a_disk_with_less_than_the_reserve_starts_nothing(tmp_path: Path) -> None:
    check_free(tmp_path, 1)
    with pytest.raises(UnavailableError) as caught:
        check_free(tmp_path, 1 << 60)
    assert (caught.value.code, caught.value.rule) == ("disk-reserve", "sandbox.free")


@pytest.mark.parametrize(
    ("fields", "code"), [({}, "outputs-too-large"), ({"disk": "1GB", "free": 1 << 60}, "disk-reserve")]
)
def test_a_job_that_takes_too_much_is_stopped_once(tmp_path: Path, fields: dict[str, Any], code: str) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 1_100_000)
    stopped, calls = threading.Event(), []

    def stop() -> None:
        calls.append(1)
        stopped.set()

    with watched(tmp_path, lambda: rules(**fields), stop, SpareThreads()) as watch:
        assert stopped.wait(20)
    assert watch.problem is not None
    assert (watch.problem.code, calls) == (code, [1])


def test_while_the_policy_can_not_be_read_nobody_is_ended(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 1_100_000)
    asked, calls = threading.Event(), []

    def none() -> None:
        asked.set()

    with watched(tmp_path, none, lambda: calls.append(1), SpareThreads()) as watch:
        assert asked.wait(20)
    assert (watch.problem, calls) == (None, [])
