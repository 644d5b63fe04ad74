"""Many agents that only wait, in one process: `python -m benchmarks.idle_crowd`, told on standard input whom to be.

Each joins with a one-time token and a key of its own, and is then one connection that
speaks what an agent speaks: a token that it signs, its report with a signed head of
its ledger, a long poll of 25 s, and the next one. The
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
_JOINING = 20  # at a time


class _Agent:
    """One site's agent with nothing to do."""

    def __init__(self, site: str, join_token: str, started_at: str) -> None:
        self.site = site
        key = SigningKey.generate()
        self._join = {"token": join_token, "public_key": key.public.text}
        hash_ = digest_of(site.encode())
        signature = base64.b64encode(key.sign(head_message(site, 1, hash_, hash_))).decode()
        token = issue_agent_token(site, key, now=datetime.now(UTC))
        self._report: dict[str, Any] = {
            "agent_version": "bench",
            "started_at": started_at,
            "sandbox": "bubblewrap",
            "policy_version": 1,
            "bases": [{"digest": digest_of(b"a base"), "python": "3.11", "platform": "x86_64-linux"}],
            "capacity": {"cpus": 1000, "memory_bytes": 1 << 44, "slots": 1000},
            "attempts": [],
            "head": {"entries": 1, "hash": hash_, "root": hash_, "signature": signature},
            "revision": "",
            "wait_s": 0,
        }
        self._authorization = f"Authorization: Bearer {token}\r\n"

    async def live(self, port: int, turn: asyncio.Semaphore, waits: asyncio.Event, all_wait: asyncio.Event) -> None:
        async with turn:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
            await self._post("/agent/v1/join", self._join)
            await self._sync(0)
        waits.set()
        await all_wait.wait()
        wait_s = random.uniform(0.1, _POLL_S)
        while True:
            await self._sync(wait_s)
            wait_s = _POLL_S

    async def _sync(self, wait_s: float) -> None:
        answer = await self._post("/agent/v1/sync", self._report | {"wait_s": wait_s})
        heard_at = time.monotonic()
        self._report["revision"] = answer["revision"]
        known = {attempt["job_id"] for attempt in self._report["attempts"]}
        for one in answer["assignments"]:
            if one["job_id"] not in known:
                _say({"job": one["job_id"], "heard_at": heard_at})
                held = {"job_id": one["job_id"], "attempt": one["attempt"], "fence": one["fence"]}
                self._report["attempts"].append(held | {"state": "assigned", "last_seq": 0})

    async def _post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(document).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: hub\r\n{self._authorization}Content-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        content = await self._reader.readexactly(int(length.partition(b":")[2]))
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the hub refused {self.site}: {content.decode()}")
        return json.loads(content)


async def _live(port: int, agents: list[_Agent]) -> None:
    turn, all_wait = asyncio.Semaphore(_JOINING), asyncio.Event()
    waiting = [asyncio.Event() for _ in agents]
    async with asyncio.TaskGroup() as group:
        for agent, waits in zip(agents, waiting, strict=True):
            group.create_task(agent.live(port, turn, waits, all_wait))
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
    agents = [_Agent(site, token, started_at) for site, token in told["sites"].items()]
    asyncio.run(_live(told["port"], agents))


if __name__ == "__main__":
    main()
