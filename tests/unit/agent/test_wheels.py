"""How an agent waits for wheels: it fetches what is there, goes on when the hub comes back, and gives up in the end."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from insitu.agent.hub_link import HubLink
from insitu.agent.wheels import WheelsOfHub
from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import NotFoundError, UnreachableError
from insitu.domain.images import LockedWheel
from insitu.images.wheel_store import WheelStore
from insitu.wire.wheels import WheelProblem, WheelsReply, WheelsRequest

LOCK = digest_of(b"a lock")
AWAY = UnreachableError("the hub did not answer")


def a_wheel(name: str) -> LockedWheel:
    return LockedWheel(f"{name}-1.0-py3-none-any.whl", digest_of(name.encode()).removeprefix("sha256:"))


ONE, TWO = a_wheel("one"), a_wheel("two")


class ScriptedLink:
    """A hub that answers as it is told, and gives every wheel; time passes when somebody pauses."""

    def __init__(self, *answers: WheelsReply | Exception) -> None:
        self.answers = list(answers)
        self.questions: list[WheelsRequest] = []
        self.fetched: list[str] = []
        self.now = 0.0
        self.breaks = 0

    def ask_for_wheels(self, request: WheelsRequest) -> WheelsReply:
        self.questions.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def fetch_blob(self, digest: Digest, target: Path) -> None:
        if self.breaks:
            self.breaks -= 1
            raise AWAY
        self.fetched.append(target.name)
        target.write_bytes(target.name.partition("-")[0].encode())

    def pause(self, seconds: float) -> None:
        self.now += seconds


def have(link: ScriptedLink, folder: Path, *wheels: LockedWheel) -> WheelStore:
    store = WheelStore(folder)
    wheels_of_hub = WheelsOfHub(cast("HubLink", link), store, pause=link.pause, monotonic=lambda: link.now)
    wheels_of_hub.have(LOCK, wheels)
    return store


def test_what_is_there_is_fetched_while_the_hub_fetches_the_rest(tmp_path):
    link = ScriptedLink(
        WheelsReply(here=[ONE.sha256], coming=[TWO.sha256]),
        WheelsReply(coming=[TWO.sha256]),
        WheelsReply(here=[TWO.sha256]),
    )
    store = have(link, tmp_path, ONE, TWO)
    assert store.lacking([ONE, TWO]) == []
    assert link.fetched == [ONE.filename, TWO.filename]
    assert [question.wanted for question in link.questions] == [[ONE.sha256, TWO.sha256], [TWO.sha256], [TWO.sha256]]
    assert [question.wait_s > 0 for question in link.questions] == [False, True, True]


def test_what_is_in_the_store_is_not_asked_for(tmp_path):
    WheelStore(tmp_path).place(ONE).write_bytes(b"one")
    link = ScriptedLink(AWAY)
    have(link, tmp_path, ONE)
    assert link.questions == []


def test_a_hub_that_was_away_and_a_transfer_that_broke_cost_a_pause(tmp_path):
    link = ScriptedLink(AWAY, AWAY, WheelsReply(here=[ONE.sha256]))
    link.breaks = 2
    assert have(link, tmp_path, ONE).lacking([ONE]) == []
    assert 0 < link.now < 10


def test_a_hub_that_stays_away_is_given_up_after_minutes_and_not_before(tmp_path):
    link = ScriptedLink(AWAY)
    with pytest.raises(UnreachableError):
        have(link, tmp_path, ONE)
    assert 300 < link.now < 330
    assert len(link.questions) < 40


def test_what_the_hub_cannot_have_ends_it_at_once_with_the_hub_s_reason(tmp_path):
    problem = WheelProblem(sha256=TWO.sha256, filename=TWO.filename, code="wheel-hash", what="other bytes", hint="look")
    link = ScriptedLink(WheelsReply(here=[ONE.sha256], failed=[problem]))
    with pytest.raises(NotFoundError) as failed:
        have(link, tmp_path, ONE, TWO)
    assert failed.value.what == f"the hub can't get {TWO.filename}"
    assert (failed.value.measure, failed.value.hint) == ("wheel-hash: other bytes", "look")
