"""A reviewer at a terminal: the evidence page, and verdicts signed with the key of whoever runs the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as Terminal

from insitu.agent.console import Console
from insitu.cli import main
from insitu.cli.release_text import describe_difference, describe_release
from insitu.sdk.config import UserFolders, load_or_make_key
from tests.unit.agent.review_world import ReviewWorld, held

Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewWorld]:
    """A site whose console answers, as an agent's does."""
    world = ReviewWorld(tmp_path_factory.mktemp("s") / "site")
    world.folder.settings.write_text("{}\n")
    console = Console(world.folder.console, world.steward)
    yield world
    console.close()


@pytest.fixture
def run(world: ReviewWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as the reviewer jo, whose key lies where `insitu login` keeps it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("INSITU_SITE_DIR", str(world.root))
    world.jo = load_or_make_key(UserFolders.from_environment({"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}))
    world.write_policy()
    from datetime import UTC, datetime

    world.now = datetime.now(UTC)

    def run(*arguments: str) -> tuple[int, Any]:
        code = main.run(["release", *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_looking_is_recorded_under_the_reviewers_name(world: ReviewWorld, run: Run) -> None:
    item = world.held_item()
    for what in ("show", "diff"):
        code, found = run(what, item)
        assert (code, found["id"]) == (0, item)
    assert [(view.viewer, view.what, view.key) for view in world.store.queue.views(item)] == [
        ("jo", "show", world.jo.fingerprint),
        ("jo", "diff", world.jo.fingerprint),
    ]


@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        (("approve",), "releasing"),
        (("approve", "--resident"), "announcing"),
        (("reject", "--reason", "no"), "rejected"),
        (("request-changes", "--reason", "drop the ids"), "changes_requested"),
    ],
)
def test_each_verdict_has_its_command(world: ReviewWorld, run: Run, arguments: tuple[str, ...], state: str) -> None:
    item = world.held_item()
    code, found = run(arguments[0], item, *arguments[1:])
    assert (code, found["state"]) == (0, state)
    assert world.store.queue.verdicts(_item(world, item))[0].reviewer == "jo"
    assert not world.store.queue.views(item), "to decide is not to look"


@pytest.mark.parametrize(("reason", "code"), [("  ", "no-reason"), ("x" * 501, "reason-too-long")])
def test_a_reason_is_neither_empty_nor_endless(world: ReviewWorld, run: Run, reason: str, code: str) -> None:
    item = world.held_item()
    exit_code, found = run("reject", item, "--reason", reason)
    assert (exit_code, found["error"]["code"]) == (2, code)
    assert world.state(item) == "held"


def test_somebody_who_is_not_listed_is_told_whom_the_policy_names(world: ReviewWorld, run: Run) -> None:
    world.write_policy(reviewers={"bo": world.bo})
    exit_code, found = run("approve", world.held_item())
    assert (exit_code, found["error"]["code"], found["error"]["limit"]) == (3, "unknown-reviewer", "bo")


# -- the page ----------------------------------------------------------------------------------------------------------


def _drawn(parts: list[Any]) -> str:
    terminal = Terminal(width=100, no_color=True, highlight=False, emoji=False)
    with terminal.capture() as drawn:
        for part in parts:
            terminal.print(part)
    return drawn.get()


def _line(page: str, word: str) -> str:
    return next(line for line in page.splitlines() if word in line)


def test_what_was_not_checked_has_a_mark_of_its_own(world: ReviewWorld) -> None:
    page = _drawn(describe_release(world.look(world.held_item())))
    assert _line(page, "426 of the").startswith("  rule rows-in-model")
    assert _line(page, "✗").split()[:3] == ["✗", "found", "rows-in-model:"]
    assert _line(page, "? not checked").split() == ["?", "not", "checked", "types"]
    assert "types" not in _line(page, "✓ passed")


def test_places_that_were_not_searched_stand_above_what_passed(world: ReviewWorld) -> None:
    places = ("file 1: tensor a: not searched for streams in it", "file 1: tensor \x1b[2Jb: 3 of 32 slices of bits")
    page = _drawn(describe_release(world.look(world.judged(world.attempt(), held(passed_over=places)))))
    assert "tensor a: not searched for streams in it" in page
    assert "3 of 32 slices of bits" in page
    assert "\x1b" not in page
    assert page.index("not searched for what may hide there") < page.index("✓ passed")


def test_a_page_fits_a_terminal_of_a_hundred_columns(world: ReviewWorld) -> None:
    world.write_policy(needed=2)
    item = world.held_item()
    world.decide(item, "reject", world.jo, reason="QUITE UNMISTAKABLE")
    page = _drawn(describe_release(world.look(item, world.bo)))
    assert max(map(len, page.splitlines())) <= 100
    assert "1 of 2 verdicts given, by jo" in page
    assert "QUITE" not in page
    assert f"insitu release approve --resident {item}" in page


def test_what_could_not_be_rewritten_is_not_offered_for_approval(world: ReviewWorld) -> None:
    item = world.judged(world.attempt(), held(files=(), rule="pickles", findings=(), not_checked=("all",)))
    page = _drawn(describe_release(world.look(item)))
    assert "insitu release approve" not in page
    assert f"insitu release request-changes {item}" in page
    assert "✓" not in page


def test_control_characters_of_a_job_do_not_reach_the_terminal(world: ReviewWorld) -> None:
    code = world.folder.cache / "code" / ("c" * 64)
    code.mkdir(parents=True)
    (code / "train.py").write_text("print('\x1b[2J\x1b]0;owned\x07')\n")
    found = world.look(world.held_item(), what="diff")
    from insitu.agent.differences import compare_code

    found["code"]["diff"] = compare_code(None, code).__dict__
    assert "\x1b" not in _drawn(describe_difference(found))


def _item(world: ReviewWorld, item: str) -> Any:
    return world.store.queue.item(item)
