"""A code snapshot becomes a folder of plain files inside it, or nothing."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path

import pytest

from insitu.agent.workspace import give_to_gate, unpack_code
from insitu.domain.errors import IntegrityError
from insitu.sdk.snapshot import snapshot


def _tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    member.size = 1 if kind == tarfile.REGTYPE else 0
    return member


def test_what_was_packed_is_what_is_unpacked(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "lib").mkdir(parents=True)
    (code / "train.py").write_text("print(1)\n")
    (code / "lib" / "run.sh").write_text("#!/bin/sh\n")
    (code / "lib" / "run.sh").chmod(0o755)
    (code / ".gitignore").write_text("*.csv\n")
    (code / "rows.csv").write_text("1,2\n")
    (tmp_path / "code.tar").write_bytes(snapshot(code))
    unpack_code(tmp_path / "code.tar", tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"train.py", "lib/run.sh", ".gitignore"}
    assert (tmp_path / "out" / "lib" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "train.py").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "member",
    [
        _member("../outside"),
        _member("/etc/passwd"),
        _member("a/../../outside"),
        _member("link", tarfile.SYMTYPE, "/etc/passwd"),
        _member("hard", tarfile.LNKTYPE, "train.py"),
        _member("fifo", tarfile.FIFOTYPE),
        _member("device", tarfile.CHRTYPE),
    ],
    ids=lambda member: member.name,
)
def test_a_snapshot_that_leads_outside_or_holds_no_plain_file_is_refused(
    tmp_path: Path, member: tarfile.TarInfo
) -> None:
    path = _tar(tmp_path / "code.tar", _member("train.py"), member)
    with pytest.raises(IntegrityError):
        unpack_code(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("is_root", [True, False])
def test_what_the_gate_is_given_is_whole_and_cannot_be_written_by_it(tmp_path, monkeypatch, is_root):
    known, target = tmp_path / "known", tmp_path / "given.json"
    known.write_text("[]")
    known.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if is_root else 1000)
    for _ in range(2):  # a crash may have come between this and what follows
        give_to_gate(known, target)
        assert target.read_text() == "[]"
        assert target.stat().st_mode & 0o777 == 0o644
        assert (target.stat().st_ino == known.stat().st_ino) is is_root, "one uid for all: a file of its own"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.json", "known"]


def test_the_gate_gets_a_copy_where_no_link_can_be_made(tmp_path, monkeypatch):
    (tmp_path / "known").write_text("[]")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("not the gate's")
    (tmp_path / "given.partial").symlink_to(elsewhere)  # in a folder that is the gate's

    def on_another_disk(*_):
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", on_another_disk)
    give_to_gate(tmp_path / "known", tmp_path / "given")
    assert (tmp_path / "given").read_text() == "[]"
    assert elsewhere.read_text() == "not the gate's"
