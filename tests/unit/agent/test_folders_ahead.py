"""Folders that were made ahead are what an attempt would have made, and nothing is in them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from insitu.agent import folders_ahead
from insitu.agent.folder import SiteFolder
from insitu.agent.folders_ahead import FoldersAhead
from insitu.agent.spare_threads import Running, SpareThreads
from insitu.agent.workspace import Workspace
from insitu.intake.request import GATE_FILES

GATE_UID = 54_321 if os.geteuid() == 0 else os.geteuid()


class Once(SpareThreads):
    """Does what it is given when it is told to."""

    def run(self, work, *, name, running=None):
        self.due = work
        return running or Running()


@pytest.fixture
def site(tmp_path) -> SiteFolder:
    found = SiteFolder(tmp_path / "site")
    found.make(gate_gid=GATE_UID if os.geteuid() == 0 else None)
    return found


@pytest.fixture
def threads() -> Once:
    return Once()


@pytest.fixture
def folders(site, threads, monkeypatch) -> FoldersAhead:
    monkeypatch.setattr(folders_ahead, "_FILL_AFTER_S", 0)
    found = FoldersAhead(site.run / "ahead", gate_uid=GATE_UID, threads=threads)
    found.fill()
    return found


def made(workspace: Workspace) -> dict[str, tuple[str, int, int]]:
    """Which folders an attempt has, and who may do what with them."""
    workspace.begin()
    workspace.make(gate_uid=GATE_UID)
    workspace.make_outputs(GATE_UID + 1 if os.geteuid() == 0 else GATE_UID)
    roots = {"root": workspace.root, "gate": workspace.gate, "control": workspace.control.parent}
    found: dict[str, tuple[str, int, int]] = {}
    for name, root in roots.items():
        for path in (root, *root.rglob("*")):
            how = path.lstat()
            found[f"{name}/{path.relative_to(root)}"] = (stat.filemode(how.st_mode), how.st_uid, how.st_gid)
    return found


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_an_attempt_gets_what_it_would_have_made(site, folders):
    taken, own = Workspace(site.jobs / "j-1-1"), Workspace(site.jobs / "j-2-1")
    ahead = inode(site.run / "ahead")
    folders.take(taken)
    found, alone = made(taken), made(own)
    assert {name: how for name, how in found.items() if name in alone} == alone
    assert inode(taken.root) == ahead
    mode, uid = "-rw-r-----", GATE_UID
    assert {name: how for name, how in found.items() if name not in alone and "journal" not in name} == {
        "root/intake/logs": ("drwxr-x---", uid, uid),
        **{f"root/intake/{name}": (mode, uid, uid) for name in GATE_FILES},
    }, "the gate's alone, and what it would have made itself"
    assert [path.stat().st_size for path in taken.root.rglob("*") if path.is_file()] == [0] * (1 + len(GATE_FILES))
    assert taken.journal.stat().st_uid == os.geteuid()


def test_the_next_are_made_later(site, folders, threads):
    first, second, third = (Workspace(site.jobs / f"j-{number}-1") for number in (1, 2, 3))
    folders.take(first)
    folders.take(second)
    assert not second.root.exists(), "it makes its own"
    threads.due()
    folders.take(third)
    assert third.keeper.is_dir()


def test_an_attempt_that_has_folders_keeps_them(site, folders):
    before = Workspace(site.jobs / "j-1-1")
    before.begin()
    before.make(gate_uid=GATE_UID)
    (before.intake / "events.jsonl").write_text("{}\n")
    folders.take(before)
    assert (before.intake / "events.jsonl").exists()
    folders.take(Workspace(site.jobs / "j-2-1"))
    assert not (site.run / "ahead").exists(), "and another one gets those"


def test_what_an_agent_left_that_was_killed_while_it_gave_them_is_made_anew(site, folders, threads):
    (site.run / "ahead" / "gate").rmdir()
    (site.run / "ahead" / "intake" / "events.jsonl").write_text("planted")
    again = FoldersAhead(site.run / "ahead", gate_uid=GATE_UID, threads=threads)
    again.fill()
    taken = Workspace(site.jobs / "j-1-1")
    again.take(taken)
    made(taken)
    assert not any(path.stat().st_size for path in taken.intake.rglob("*") if path.is_file())
    assert taken.gate.is_dir()


def test_where_they_can_not_be_given_the_attempt_makes_its_own(site, folders):
    taken = Workspace(site.jobs / "j-1-1")
    taken.gate.mkdir()
    (taken.gate / "s").touch()  # of another life of the same attempt
    folders.take(taken)
    assert {"root/intake", "root/keeper", "root/outputs", "control/."} <= made(taken).keys()


def test_a_disk_without_room_is_no_reason_to_stop(site, threads, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    folders = FoldersAhead(site.run / "ahead", gate_uid=GATE_UID, threads=threads)
    folders.fill()
    folders.take(Workspace(site.jobs / "j-1-1"))
    assert not (site.jobs / "j-1-1").exists()


def test_until_they_are_taken_nobody_of_the_gate_gets_in(site, folders):
    assert stat.S_IMODE((site.run / "ahead").stat().st_mode) == 0o700


def test_once_closed_nothing_new_is_made(site, folders, threads):
    folders.take(Workspace(site.jobs / "j-1-1"))
    folders.close()
    threads.due()
    assert not (site.run / "ahead").exists()


def test_what_is_no_folder_is_not_taken_for_one(site, tmp_path):
    workspace = Workspace(site.jobs / "j-1-1")
    workspace.begin()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    workspace.outputs.symlink_to(elsewhere)
    with pytest.raises(FileExistsError):
        workspace.make_outputs(GATE_UID)
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755
