"""Work goes to threads that wait; each is used again, and what fails takes nobody along."""

import threading

from insitu.agent.spare_threads import Running, SpareThreads

LIMIT_S = 10


def test_a_thread_is_used_again():
    threads, seen = SpareThreads(1), []
    for name in ("first", "second"):
        threads.run(lambda: seen.append(threading.get_ident()), name=name).join(LIMIT_S)
        while not threads._idle:  # it is free a moment after its work has ended
            pass
    assert len(set(seen)) == 1


def test_who_comes_while_all_work_gets_a_new_one():
    threads, both = SpareThreads(1), threading.Barrier(2)
    first, second = (threads.run(lambda: both.wait(LIMIT_S), name=name) for name in ("first", "second"))
    first.join(LIMIT_S)
    second.join(LIMIT_S)
    assert not first.is_alive()
    assert not second.is_alive()


def test_it_has_the_name_of_its_work():
    threads, seen = SpareThreads(), []
    threads.run(lambda: seen.append(threading.current_thread().name), name="j-1-1").join(LIMIT_S)
    assert seen == ["j-1-1"]


def test_work_that_fails_ends_and_the_thread_goes_on(caplog):
    threads, seen = SpareThreads(1), []
    threads.run(lambda: 1 // 0, name="failing").join(LIMIT_S)
    threads.run(lambda: seen.append("went on"), name="next").join(LIMIT_S)
    assert seen == ["went on"]
    assert "failing stopped unexpectedly" in caplog.text


def test_what_has_not_begun_is_not_alive_and_holds_nobody():
    running = Running()
    assert not running.is_alive()
    running.join()
    end = threading.Event()
    assert SpareThreads().run(lambda: end.wait(LIMIT_S), name="waits", running=running).is_alive()
    end.set()
    running.join(LIMIT_S)
    assert not running.is_alive()
