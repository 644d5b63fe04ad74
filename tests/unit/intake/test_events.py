"""The file of events: numbered, whole lines, undone when the disk is full."""

import os

import pytest

from insitu.domain.errors import UnavailableError
from insitu.intake.client import EventReader
from insitu.intake.events import EventLog
from insitu.wire.events import LogEvent
from tests.unit.intake.intake_parts import NOW


@pytest.fixture
def a_log(request):
    def make(path, **changes):
        settings = {"most": 100, "clock": lambda: NOW, "on_growth": lambda seq: None, **changes}
        log = EventLog(path, **settings)
        request.addfinalizer(log.close)
        return log

    return make


def say(log, text):
    log.append(lambda seq, at: LogEvent(seq=seq, at=at, stream="stdout", text=text))


def test_nothing_is_visible_before_the_flush_and_growth_is_told_after_it(a_log, tmp_path):
    grown = []
    log = a_log(tmp_path / "events.jsonl", on_growth=grown.append)
    say(log, "a\nb")
    say(log, "c")
    assert (tmp_path / "events.jsonl").read_bytes() == b""
    log.flush()
    log.flush()
    events = [LogEvent.model_validate_json(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert [(event.seq, event.text) for event in events] == [(1, "a\nb"), (2, "c")]
    assert grown == [2]


def test_a_file_of_events_is_never_taken_up_a_second_time(a_log, tmp_path):
    path = tmp_path / "events.jsonl"
    path.touch()  # whoever made the folder may have made it, too
    log = a_log(path)
    with pytest.raises(FileExistsError):
        a_log(path)
    say(log, "a line")
    log.flush()
    log.close()
    with pytest.raises(FileExistsError):
        a_log(path)


def test_a_write_that_a_full_disk_cuts_is_undone_and_nothing_follows_it(a_log, tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    log = a_log(path)
    say(log, "whole")
    log.flush()
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    say(log, "cut")
    with pytest.raises(UnavailableError):
        log.flush()
    monkeypatch.undo()
    assert path.read_bytes() == before
    with pytest.raises(UnavailableError):
        log.flush()


def test_a_reader_goes_on_from_its_offset_and_leaves_a_torn_last_line(tmp_path):
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert reader.read(0) == ([], 0)
    path.write_bytes(b'{"seq":1}\n{"seq":2}\n{"se')
    lines, offset = reader.read(0)
    assert lines == [b'{"seq":1}', b'{"seq":2}']
    with path.open("ab") as file:
        file.write(b'q":3}\n')
    assert reader.read(offset) == ([b'{"seq":3}'], path.stat().st_size)


def test_a_reader_reads_much_in_parts_and_a_long_line_whole(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a" * 50 + b"\n" + b"b\n" * 20)
    reader = EventReader(path)
    found, offset = [], 0
    while True:
        lines, offset = reader.read(offset, most_bytes=10)
        if not lines:
            break
        found += lines
    assert found == [b"a" * 50] + [b"b"] * 20
