"""How many fetch at once: few where processors are the limit, as many as are allowed where all wait."""

from __future__ import annotations

import os
import threading
import time

import pytest

from insitu.agent.staging import workers
from insitu.agent.staging.workers import Idle, StoppedError, do_all

LIMIT_S = 30
FEW = len(os.sched_getaffinity(0)) + 1


def do(tasks, *, most, idle):
    do_all(iter(tasks), stop=lambda: False, ending=threading.Event(), most=most, idle=lambda: idle)


def test_while_processors_idle_more_workers_begin(monkeypatch):
    monkeypatch.setattr(workers, "_LOOK_S", 0.001)
    most = FEW + 4
    all_at_once = threading.Barrier(most)
    do([lambda: all_at_once.wait(LIMIT_S)] * most, most=most, idle=0.9)


@pytest.mark.parametrize(("most", "at_once"), [(FEW + 4, FEW), (1, 1)])
def test_on_busy_processors_there_are_no_more_than_keep_them_busy(monkeypatch, most, at_once):
    monkeypatch.setattr(workers, "_LOOK_S", 0.001)
    lock, now, seen = threading.Lock(), 0, []

    def task():
        nonlocal now
        with lock:
            now += 1
            seen.append(now)
        time.sleep(0.005)
        with lock:
            now -= 1

    do([task] * 40, most=most, idle=0.1)
    assert len(seen) == 40
    assert max(seen) == at_once


def test_there_are_never_more_than_are_allowed(monkeypatch):
    monkeypatch.setattr(workers, "_LOOK_S", 0.001)
    names = set()

    def task():
        names.add(threading.get_ident())
        time.sleep(0.005)

    do([task] * 60, most=FEW + 1, idle=1.0)
    assert len(names) <= FEW + 1


def test_the_first_failure_ends_the_others_and_is_raised():
    ending, done = threading.Event(), []

    def fail():
        raise StoppedError("enough")

    tasks = iter([fail, *[lambda: done.append(ending.wait(LIMIT_S))] * 1000])
    with pytest.raises(StoppedError):
        do_all(tasks, stop=lambda: False, ending=ending, most=FEW, idle=lambda: 0.0)
    assert len(done) < FEW
    assert all(done)


def test_idle_is_the_part_that_nobody_used_since_the_last_look(monkeypatch, tmp_path):
    stat = tmp_path / "stat"
    monkeypatch.setattr(workers, "_STAT", stat)
    stat.write_text("cpu  100 0 50 800 20 0 0 30 7 7\ncpu0 1 2 3\n")
    idle = Idle()
    assert idle() == 0.0, "no time has gone by"
    stat.write_text("cpu  130 0 70 810 60 0 0 30 7 7\ncpu0 1 2 3\n")
    assert idle() == 0.5
    stat.write_text("cpu  230 0 70 810 60 0 0 30 7 7\ncpu0 1 2 3\n")
    assert idle() == 0.0


def test_where_nobody_tells_there_are_few(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "_STAT", tmp_path / "none")
    assert Idle()() == 0.0
