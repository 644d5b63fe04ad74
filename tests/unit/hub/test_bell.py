"""The bell wakes those who wait, whichever comes first: the ring or the wait."""

import asyncio
import threading

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
        assert not bell._waiters

    asyncio.run(play())
