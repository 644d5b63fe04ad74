"""In which order a job's sandbox is prepared: nothing of it runs before a power cut can't undo that it was accepted."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from insitu.agent import steps
from insitu.agent.attempt import Next
from insitu.agent.job_root import JobRoot
from insitu.domain.errors import UnavailableError
from insitu.domain.jobs import JobState

ZERO = f"sha256:{'0' * 64}"
TARGET = {"base": ZERO, "python": "3.11", "platform": "x86_64-linux", "lock": ZERO}


class Recorded:
    """A site of which everything is said in the order in which it was done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.disk_is_full = False
        site = MagicMock()
        site.keepers.adopt.return_value = None
        site.keepers.starting.side_effect = self.starting("keeper", SimpleNamespace(go=lambda: self.done.append("go")))
        site.intakes.starting.side_effect = self.starting("gate", MagicMock())
        site.store.sync.side_effect = self.sync
        self.attempt = MagicMock(site=site, row=MagicMock(details={"target": TARGET}))
        root = JobRoot(Path("/base"), None)
        for name, answer in {
            "ready_data": [],
            "ready_root": root,
            "_ready_spec": MagicMock(),
            "_end_intake_of_a_former_try": None,
            "_make_room_for_intake": None,
            "intake_request": {},
            "ready_or_ended": MagicMock(),
            "_runs": Next(JobState.RUNNING),
        }.items():
            monkeypatch.setattr(steps, name, lambda *_, answer=answer: answer)

    def starting(self, name, given):
        @contextmanager
        def start(*_, **__):
            self.done.append(name)
            yield given
            self.done.append(f"{name} is left")

        return start

    def sync(self) -> None:
        self.done.append("sync")
        if self.disk_is_full:
            raise UnavailableError("the disk is full")


def test_a_sandbox_gets_ready_while_the_disk_works_and_goes_after_it(monkeypatch):
    site = Recorded(monkeypatch)
    assert steps.prepare(site.attempt).state is JobState.RUNNING
    assert site.done == ["keeper", "gate", "sync", "go", "gate is left", "keeper is left"]


def test_nothing_goes_while_the_disk_refuses(monkeypatch):
    site = Recorded(monkeypatch)
    site.disk_is_full = True
    with pytest.raises(UnavailableError):
        steps.prepare(site.attempt)
    assert "go" not in site.done
