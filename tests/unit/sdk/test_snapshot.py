"""A code folder as one file: the same files give the same digest, and the job file is no part of it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from insitu.sdk.snapshot import snapshot


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_another_value_in_the_job_file_is_still_the_same_code(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("pass\n")
    job = tmp_path / "job.yaml"
    job.write_text("inputs: {C: 1}\n")
    before = snapshot(tmp_path, without=job)
    job.write_text("inputs: {C: 30}\n")
    assert snapshot(tmp_path, without=job) == before
    assert names(before) == ["train.py"]


def test_a_job_file_that_lies_elsewhere_takes_nothing_away(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "job.yaml").write_text("of another job\n")
    (tmp_path / "job.yaml").write_text("code: code\n")
    assert names(snapshot(code, without=tmp_path / "job.yaml")) == ["job.yaml"]
