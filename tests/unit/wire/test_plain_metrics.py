"""Metrics by the thousand: the short ways of writing and reading them say what the events themselves say."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from insitu.wire.events import MAX_EVENTS, EventBatch, MetricEvent
from insitu.wire.plain_metrics import metric_line, read_plain_metrics

AT = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)


def event(**changes):
    fields = {"seq": 1, "at": "2026-11-23T12:00:00.25Z", "kind": "metric", "run": "", "key": "auc"}
    return {**fields, "value": 0.5, "step": 3, "timestamp_ms": 1_800_000_000_250, **changes}


def batch(*events, **changes):
    fields = {"job_id": "j-1", "attempt": 1, "fence": 2, "entry": 7, "size_bytes": 90}
    return json.dumps({**fields, "events": list(events), **changes}).encode()


def numbered(count):
    return [event(seq=seq) for seq in range(5, 5 + count)]


@pytest.mark.parametrize(
    "fields",
    [
        {"seq": 1, "at": AT, "run": "", "key": "auc", "value": 0.1 + 0.2, "step": 0},
        {"seq": 10**9, "at": AT, "run": "r12", "key": 'a "b"\n\\ é \u2028', "value": -0.0, "step": 10_000_000},
        {"seq": 2, "at": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))), "run": "", "key": "k", "value": 1e-300, "step": 1},
        {"seq": 2, "at": AT, "run": "", "key": "k", "value": 3, "step": 1},
    ],
)  # fmt: skip
def test_a_line_is_what_the_event_would_have_written(fields):
    written = MetricEvent.model_validate_json(metric_line(**fields))
    expected = MetricEvent(timestamp_ms=int(fields["at"].timestamp() * 1000), **fields)
    assert written == expected
    assert written.at.utcoffset() == expected.at.utcoffset()


def test_a_batch_of_metrics_is_read_as_it_was_written():
    body = batch(*numbered(MAX_EVENTS))
    found, expected = read_plain_metrics(body), EventBatch.model_validate_json(body)
    assert found is not None
    assert (found.job_id, found.attempt, found.fence) == (expected.job_id, expected.attempt, expected.fence)
    assert (found.entry, found.size_bytes) == (expected.entry, expected.size_bytes)
    assert [MetricEvent.model_validate(each) for each in found.events] == expected.events


def test_what_agents_send_is_read_without_objects():
    lines = [metric_line(seq=seq, at=AT, run="", key="loss", value=1 / seq, step=seq) for seq in (1, 2, 3)]
    assert read_plain_metrics(batch(*map(json.loads, lines))) is not None


@pytest.mark.parametrize(
    "given",
    [
        {"at": "2026-11-23T12:00:00.123456+01:00"},
        {"at": "2026-11-23T12:00:00Z"},
        {"key": "k" * 250, "run": "r" * 64},
        {"value": 1.7976931348623157e308},
        {"step": -5, "timestamp_ms": -1},
    ],
)
def test_events_at_the_edge_are_read_as_their_type_reads_them(given):
    body = batch(event(**given))
    batch_read = read_plain_metrics(body)
    assert batch_read is not None
    (found,) = batch_read.events
    assert [MetricEvent.model_validate(found)] == EventBatch.model_validate_json(body).events


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"job_id": "j-1"}',
        b"{" * 10_000,
        batch(),
        batch(*numbered(MAX_EVENTS + 1)),
        batch(event(seq=0)),
        batch(event(seq=-1), event(seq=0)),
        batch(event(seq=1.0)),
        batch(event(seq=True)),
        batch(event(seq=1), event(seq=3)),
        batch(event(seq=2), event(seq=1)),
        batch(event(kind="param")),
        batch(event(key="k" * 251)),
        batch(event(run="r" * 65)),
        batch(event(key=None)),
        batch(event(value=1)),
        batch(event(value="0.5")),
        batch(event(value="NaN")),
        batch(event()).replace(b"0.5", b"NaN"),
        batch(event()).replace(b"0.5", b"1e999"),
        batch(event()).replace(b"0.5", b"-1e999"),
        batch(event(step=1.0)),
        batch(event(timestamp_ms=True)),
        batch(event(at="2026-11-23T12:00:00")),
        batch(event(at="2026-02-30T12:00:00Z")),
        batch(event(at="2026-W48-1T12:00:00Z")),
        batch(event(at=1_800_000_000)),
        batch(event(more=1)),
        batch({key: value for key, value in event().items() if key != "run"}),
        batch("metric"),
        batch(event(), None),
        batch(event(), attempt="1"),
        batch(event(), entry=-1),
        batch(event(), size_bytes=-1),
        batch(event(), fence=True),
        batch(event(), job_id=None),
        batch(event(), other=1),
        batch(event(), events={"seq": 1}),
    ],
)
def test_everything_else_is_left_to_the_type_itself(body):
    assert read_plain_metrics(body) is None
