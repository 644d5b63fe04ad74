"""The bell wakes those who wait, whichever comes first: the ring or the wait."""

import asyncio
import threading

import pytest

from insitu.hub.bell import Bell


def test_a_ring_between_looking_and_waiting_is_not_missed():
    bell = Bell()
    mark = bell.mark("site:leeds")
    bell.ring("site:leeds")
    bell.wait("site:leeds", mark, timeout_s=3600)


def test_another_topic_wakes_nobody():
    bell = Bell()
    bell.ring("site:turin")
    bell.wait("site:leeds", bell.mark("site:leeds"), timeout_s=0.01)
    assert bell.mark("site:leeds") == 0


def test_a_thread_that_waits_is_woken():
    bell = Bell()
    mark = bell.mark("x")
    waiting = threading.Thread(target=bell.wait, args=("x", mark, 3600))
    waiting.start()
    bell.ring("x")
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_coroutine_is_woken_from_another_thread():
    async def play():
        bell = Bell()
        rung = bell.future("x", bell.mark("x"))
        threading.Thread(target=bell.ring, args=("x",)).start()
        await asyncio.wait_for(rung, 10)

    asyncio.run(play())


def test_a_closed_bell_lets_everybody_go_and_holds_nobody():
    async def play():
        bell = Bell()
        before = bell.future("x", 0)
        bell.close()
        await asyncio.wait_for(before, 10)
        await asyncio.wait_for(bell.future("x", 0), 10)
        bell.wait("x", 0, timeout_s=3600)
        assert bell.closed

    asyncio.run(play())


def test_who_forgets_leaves_nothing_behind():
    async def play():
        bell = Bell()
        waiters = [bell.future("x", 0) for _ in range(100)]
        for waiter in waiters:
            bell.forget("x", waiter)
        assert bell.waiting("x") == 0

    asyncio.run(play())


def test_an_errand_is_done_by_the_thread_that_rings_after_everybody_was_woken():
    async def play():
        bell, seen = Bell(), []
        woken = bell.future("x", 0)
        found = bell.errand("x", 0, lambda: seen.append(bell.mark("x")) or threading.current_thread().name)
        ringing = threading.Thread(target=bell.announce, args=("x",), name="ringing")
        ringing.start()
        await asyncio.wait_for(woken, 10)
        ringing.join()
        assert not found.done()  # it was announced, and who announces may still hold what the errand needs
        settling = threading.Thread(target=bell.do_errands, name="settling")
        settling.start()
        assert await asyncio.wait_for(found, 10) == "settling"
        assert seen == [1]

    asyncio.run(play())


def test_an_errand_that_fails_fails_for_who_left_it_and_not_for_who_rings():
    async def play():
        bell = Bell()
        found = bell.errand("x", 0, lambda: 1 // 0)
        other = bell.errand("x", 0, lambda: "done")
        bell.ring("x")
        assert await asyncio.wait_for(other, 10) == "done"
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(found, 10)

    asyncio.run(play())


def test_an_errand_that_comes_after_the_ring_is_left_to_who_came():
    async def play():
        bell = Bell()
        bell.ring("x")
        assert await asyncio.wait_for(bell.errand("x", 0, lambda: "done"), 10) is None
        bell.close()
        assert await asyncio.wait_for(bell.errand("x", 1, lambda: "done"), 10) is None

    asyncio.run(play())


def test_a_forgotten_errand_is_not_done():
    async def play():
        bell, done = Bell(), []
        kept, forgotten = (bell.errand("x", 0, lambda name=name: done.append(name)) for name in ("kept", "forgotten"))
        late = bell.errand("y", 0, lambda: done.append("late"))
        bell.forget("x", forgotten)
        bell.announce("x")
        bell.announce("y")
        bell.forget("y", late)  # between the ring and the errand
        bell.do_errands()
        await asyncio.wait_for(kept, 10)
        assert done == ["kept"]
        assert bell.waiting("x") == bell.waiting("y") == 0

    asyncio.run(play())


def test_closing_lets_those_go_who_left_an_errand():
    async def play():
        bell = Bell()
        found = bell.errand("x", 0, lambda: "done")
        bell.close()
        assert await asyncio.wait_for(found, 10) is None

    asyncio.run(play())


def test_a_pause_ends_when_time_is_up_or_the_bell_is_closed():
    bell = Bell()
    bell.pause(0.01)
    waiting = threading.Thread(target=bell.pause, args=(3600,))
    waiting.start()
    bell.close()
    waiting.join(10)
    assert not waiting.is_alive()


def test_what_rang_long_ago_is_forgotten_and_nobody_misses_a_ring_for_that(monkeypatch):
    monkeypatch.setattr("insitu.hub.bell._MOST_TOPICS", 3)
    bell = Bell()
    before = {topic: bell.mark(topic) for topic in ("rang", "silent")}
    bell.ring("rang")
    after = bell.mark("rang")
    for number in range(10):
        bell.ring(f"job:{number}")
    assert len(bell._rings) <= 3
    for topic, mark in [*before.items(), ("rang", after)]:
        bell.wait(topic, mark, timeout_s=3600)  # at worst it looks once too often
    now = bell.mark("rang")
    bell.wait("rang", now, timeout_s=0.01)
    bell.ring("rang")
    assert bell.mark("rang") == now + 1
