"""Many agents that only wait, in one process: `python -m benchmarks.idle_crowd`, told on standard input whom to be.

Each is one connection that speaks what an agent speaks: its own signed token, its
report with a signed head of its ledger, a long poll of 25 s, and the next one. The
first polls end spread out over 25 s, so that what the hub sees is the steady state
and not a wave. It says on standard output when all wait, and then each assignment
that one of them hears of, with the time on the clock that all processes share.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import resource
import sys
import time
from datetime import UTC, datetime
from typing import Any

from insitu.domain.digests import digest_of
from insitu.wire.keys import SigningKey
from insitu.wire.sync import head_message
from insitu.wire.tokens import issue_agent_token

_POLL_S = 25.0
_CONNECTING = 50  # at a time


class _Agent:
    """One site's agent with nothing to do."""

    def __init__(self, site: str, key: SigningKey, started_at: str) -> None:
        self.site = site
        hash_ = digest_of(site.encode())
        signature = base64.b64encode(key.sign(head_message(site, 1, hash_))).decode()
        token = issue_agent_token(site, key, now=datetime.now(UTC))
        self._report: dict[str, Any] = {
            "agent_version": "bench",
            "started_at": started_at,
            "sandbox": "bubblewrap",
            "policy_version": 1,
            "bases": [{"digest": digest_of(b"a base"), "python": "3.11", "platform": "x86_64-linux"}],
            "capacity": {"cpus": 4, "memory_bytes": 8 << 30, "slots": 4},
            "attempts": [],
            "head": {"entries": 1, "hash": hash_, "signature": signature},
            "revision": "",
            "wait_s": 0,
        }
        self._head = f"POST /agent/v1/sync HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n"

    async def live(self, port: int, gate: asyncio.Semaphore, waits: asyncio.Event, all_wait: asyncio.Event) -> None:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await self._ask(reader, writer, 0)
        waits.set()
        await all_wait.wait()
        wait_s = random.uniform(0.1, _POLL_S)
        while True:
            await self._ask(reader, writer, wait_s)
            wait_s = _POLL_S

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
        """One report, and what the hub answers to it."""
        body = json.dumps(self._report | {"wait_s": wait_s}).encode()
        writer.write(f"{self._head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        answer = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
        heard_at = time.monotonic()
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the hub refused {self.site}: {answer}")
        self._report["revision"] = answer["revision"]
        known = {attempt["job_id"] for attempt in self._report["attempts"]}
        for one in answer["assignments"]:
            if one["job_id"] not in known:
                _say({"job": one["job_id"], "heard_at": heard_at})
                held = {"job_id": one["job_id"], "attempt": one["attempt"], "fence": one["fence"]}
                self._report["attempts"].append(held | {"state": "assigned", "last_seq": 0})


async def _live(port: int, agents: list[_Agent]) -> None:
    gate, all_wait = asyncio.Semaphore(_CONNECTING), asyncio.Event()
    waiting = [asyncio.Event() for _ in agents]
    async with asyncio.TaskGroup() as group:
        for agent, waits in zip(agents, waiting, strict=True):
            group.create_task(agent.live(port, gate, waits, all_wait))
        for waits in waiting:
            await waits.wait()
        all_wait.set()
        _say({"waiting": len(agents)})


def _say(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> None:
    told = json.loads(sys.stdin.readline())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    started_at = datetime.now(UTC).isoformat()
    agents = [
        _Agent(site, SigningKey.from_seed(base64.b64decode(seed)), started_at) for site, seed in told["sites"].items()
    ]
    asyncio.run(_live(told["port"], agents))


if __name__ == "__main__":
    main()
