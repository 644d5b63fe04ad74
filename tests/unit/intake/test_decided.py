"""The one door: rules that crash, lines, what waits for the end of a stream, rules that aren't ready."""

from insitu.intake.rules import NothingLeaves
from tests.unit.intake.intake_parts import OWN


def crash(*args, **kwargs):
    raise ZeroDivisionError("a value of the data")


def test_a_rule_that_crashes_keeps_what_it_was_asked_about_and_the_script_goes_on(job, monkeypatch):
    for name in ("metric", "param", "tag", "name", "lines", "end"):
        monkeypatch.setattr(job.rules, name, crash)
    job.call("POST", "runs/log-metric", {"run_id": OWN, "key": "auc", "value": 1.0, "timestamp": 1, "step": 0})
    job.call("POST", "runs/log-parameter", {"run_id": OWN, "key": "C", "value": "1"})
    job.call("POST", "runs/set-tag", {"run_id": OWN, "key": "t", "value": "v"})
    job.call("POST", "runs/create", {"run_name": "kid"})
    left: list[int] = []
    job.intake.decided.lines("stdout", ["text", "more"], left.append)
    job.intake.decided.stream_ended("stdout", left.append)
    _, summary = job.finish()
    assert left == [0, 0]
    assert {event.kind for event in job.events()} == {"run", "kept", "log"}
    assert {event.stream for event in job.of_kind("log")} == {"site"}
    assert summary["kept_by_rule"]["metric: rule-failed"] == 1
    assert "a value of the data" not in "".join(path.read_text() for path in job.folder.glob("*.json*"))


def test_before_the_rules_are_ready_nothing_leaves(job):
    job.intake.decided.rules = NothingLeaves()
    job.call("POST", "runs/log-metric", {"run_id": OWN, "key": "auc", "value": 1.0, "timestamp": 1, "step": 0})
    job.call("POST", "runs/set-tag", {"run_id": OWN, "key": "t", "value": "v"})
    job.intake.decided.lines("stdout", ["text"], lambda _: None)
    job.finish()
    assert {event.kind for event in job.events()} == {"kept", "log"}
    assert {event.stream for event in job.of_kind("log")} == {"site"}


def test_of_what_stayed_the_scientist_is_told_rule_limit_and_what_to_do(job):
    job.intake.decided.kept_elsewhere("artifact", 17)
    job.intake.kept.count("log line", 3, rule="log-ceiling")
    job.finish()
    told = [event.text for event in job.of_kind("log") if event.stream == "site"]
    assert told[0].startswith(
        "at least 10 × artifact stayed at the site, rule not-declared: declare it in the job's file"
    )
    assert told[1].startswith(
        "at least 1 × log line stayed at the site, rule log-ceiling (limit: release.logs.ceiling): "
    )


def test_lines_that_wait_for_more_are_decided_when_the_stream_ends(job):
    decided = job.intake.decided
    left: list[int] = []
    for text in ("hold: a", "hold: b", "plain"):
        decided.lines("stderr", [text], left.append)
    decided.stream_ended("stderr", left.append)
    assert left == []
    decided.flush()
    assert left == [0, 0, 1, 1]
    assert [event.text for event in job.of_kind("log")] == ["plain", "2 held"]
    assert job.finish()[1]["kept"] == {"log line": 2}
