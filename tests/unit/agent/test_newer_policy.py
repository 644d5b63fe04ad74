"""A policy that becomes stricter while a job runs holds at once; with the same one, or a looser one, nothing changes."""

from __future__ import annotations

from typing import Any

import pytest

from insitu.agent.newer_policy import SecondLook, channels
from insitu.gate.policy.loading import Policy, load_policy

LINE = {"kind": "log", "stream": "stdout", "text": "epoch 1"}
FRAME = {"kind": "log", "stream": "stderr", "text": "ValueError"}
PAIR = {"kind": "param", "key": "C", "value": "1.0"}
STATE = {"kind": "state", "state": "running"}


def metric(value: float = 0.123456) -> dict[str, Any]:
    return {"kind": "metric", "key": "auc", "value": value}


def policy(
    *,
    digits: int = 4,
    count: int = 5,
    params: str = "8kB",
    mode: str = "scanned",
    logs: str = "1kB",
    errors: str = "type-and-frames",
) -> Policy:
    return load_policy(
        f"version: 1\nrelease:\n  metrics: {{digits: {digits}, max_count: {count}}}\n"
        f"  params: {{max_bytes: {params}}}\n  logs: {{mode: {mode}, max_bytes: {logs}}}\n  errors: {errors}\n"
    )


def leaves(events: list[dict[str, Any]], now: Policy, *, started: Policy | None = None) -> list[dict[str, Any]]:
    return SecondLook(channels(started or policy()), {}).may_leave(events, now)


@pytest.mark.parametrize("mode", ["held", "scanned", "open"])
def test_with_the_policy_that_it_was_started_with_all_passes_as_it_is(mode: str) -> None:
    same = policy(mode=mode)
    events = [STATE, metric(0.1235), PAIR, LINE, FRAME]
    assert leaves(events, same, started=same) == events


def test_with_a_looser_policy_all_passes_as_it_is() -> None:
    events = [STATE, metric(0.1235), PAIR, LINE, FRAME]
    looser = policy(digits=8, count=100, params="1MB", mode="open", logs="1MB")
    assert leaves(events, looser) == events


def test_fewer_digits_round_what_comes_from_then_on() -> None:
    assert leaves([metric(0.1235)], policy(digits=2)) == [metric(0.12)]
    line = {**LINE, "text": "loss 0.1235 of 10"}
    assert leaves([line], policy(digits=2)) == [{**LINE, "text": "loss 0.12 of 10"}]
    assert leaves([line], policy(digits=4)) == [line]


@pytest.mark.parametrize(
    ("event", "now", "what"),
    [
        (metric(), policy(count=0), "metric"),
        (PAIR, policy(params="3B"), "parameter"),
        ({**PAIR, "kind": "tag"}, policy(params="3B"), "tag"),
        (LINE, policy(mode="held"), "log line"),
        (FRAME, policy(mode="held"), "log line"),
        (FRAME, policy(errors="none"), "log line"),
    ],
)
def test_what_a_stricter_policy_does_not_let_out_is_counted_and_stays(event: Any, now: Policy, what: str) -> None:
    kept = {"kind": "kept", "what": f"{what}, by a newer policy", "count": 2}
    assert leaves([event, STATE, event], now) == [STATE, kept]


def test_lines_that_nobody_scanned_stay_when_the_policy_wants_them_scanned() -> None:
    assert leaves([LINE], policy(mode="scanned"), started=policy(mode="open"))[0]["kind"] == "kept"


def test_of_errors_alone_only_what_stands_on_standard_error_stays() -> None:
    assert leaves([LINE], policy(errors="none")) == [LINE]


def test_sizes_and_counts_go_on_from_what_has_left() -> None:
    look = SecondLook(channels(policy()), {"metric": 4})
    assert [one["kind"] for one in look.may_leave([metric(), metric()], policy(count=5))] == ["metric", "kept"]
    assert look.may_leave([PAIR], policy(params="6B")) == [PAIR]
    assert look.may_leave([PAIR], policy(params="6B"))[0]["kind"] == "kept"
    long = {**LINE, "text": "x" * 9000}
    assert look.may_leave([long], policy(logs="1kB")) == [long]  # 8 KiB of errors have room of their own at the gate
    assert look.may_leave([LINE, long], policy(logs="1kB"))[-1]["kind"] == "kept"


def test_of_a_gate_process_of_which_nothing_is_known_the_strictest_is_thought() -> None:
    assert SecondLook({}, {}).may_leave([LINE], policy(mode="scanned"))[0]["kind"] == "kept"


def test_what_the_site_itself_says_is_no_output_of_the_job() -> None:
    said = {"kind": "log", "stream": "site", "text": "starting"}
    assert leaves([said], policy()) == [said]
