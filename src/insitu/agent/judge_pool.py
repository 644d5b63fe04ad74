"""Judges of the gate that wait for work: processes that have imported all they need, one for each judgement.

To start one takes longer than most judgements. So one is started ahead, confined
like any other, and waits for its request: it has seen nothing, reads one request
and ends with its answer. No judge sees two jobs.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from insitu.domain.outputs import Decision
from insitu.gate.judgement import JudgeRequest, judge_request_json, parse_judge_reply
from insitu.sandbox.confine import confined_argv

JUDGE_TIME_S = 300.0
_MEMORY_BYTES = 4 << 30
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"}
_REFILL_AFTER_S = 1.0


class JudgePool:
    """Asks judges, of whom a few are started ahead of need.

    Args:
        root: the site's folder.
        uid: of the gate's processes; it can reach the candidates, and write the folder for copies.
        size: how many wait. With 0 each is started when it is asked.
    """

    def __init__(self, root: Path, *, uid: int, size: int = 0) -> None:
        self._root, self._uid, self._size = root, uid, size
        self._waiting: deque[subprocess.Popen[bytes]] = deque()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    @property
    def waiting(self) -> tuple[int, ...]:
        """The process ids of those who wait."""
        with self._lock:
            return tuple(process.pid for process in self._waiting)

    def fill(self) -> None:
        """Start what is missing. Returns before they are warm."""
        with self._lock:
            while not self._closed and len(self._waiting) < self._size:
                self._waiting.append(self._spawn())

    def ask(self, request: JudgeRequest) -> dict[str, Decision]:
        """Output → decision, by a judge of its own; empty when it ended without an answer."""
        line = judge_request_json(request).encode()
        end = time.monotonic() + JUDGE_TIME_S
        with contextlib.suppress(subprocess.SubprocessError, ValueError, OSError):
            ahead = self._take()
            try:
                reply = None if ahead is None else _answer(ahead, line, end)
                # One that waited may have died of waiting: then a new one says it, in the time that is left.
                return _decisions(reply if reply is not None else _answer(self._spawn(), line, end))
            finally:
                self._refill_later()
        return {}

    def close(self) -> None:
        """End those who wait. Those who judge go on."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            waiting, self._waiting = list(self._waiting), deque()
        for process in waiting:
            _let_go(process)

    def _take(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            while self._waiting:
                process = self._waiting.popleft()
                if process.poll() is None:
                    return process
                _let_go(process)
        return None

    def _spawn(self) -> subprocess.Popen[bytes]:
        argv = confined_argv(
            [sys.executable, "-P", "-m", "insitu.gate.judge"],
            uid=self._uid,
            gid=self._uid,
            memory_bytes=_MEMORY_BYTES,
            cpu_s=int(JUDGE_TIME_S),
            folders=(self._root,),
        )
        return subprocess.Popen(
            argv,
            env=_ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what it says there may hold what it read
            start_new_session=True,  # Ctrl-C at the agent's terminal is for the agent
        )

    def _refill_later(self) -> None:
        """Not at once: what comes after a judgement needs the processor, and more are asked for in a row."""
        with self._lock:
            if not self._size or self._closed or (self._timer is not None and self._timer.is_alive()):
                return
            self._timer = threading.Timer(_REFILL_AFTER_S, self.fill)
            self._timer.daemon = True
            self._timer.start()


def _answer(process: subprocess.Popen[bytes], line: bytes, end: float) -> bytes | None:
    """What it says; None when it failed.

    Raises:
        TimeoutExpired: it was not ready in time, and was ended.
    """
    with process:
        try:
            out, _ = process.communicate(line, timeout=max(0.0, end - time.monotonic()))
        except BaseException:
            process.kill()
            raise
    return out if process.returncode == 0 else None


def _decisions(reply: bytes | None) -> dict[str, Decision]:
    return {} if reply is None else {decision.name: decision for decision in parse_judge_reply(reply.decode())}


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """It has read nothing and written nothing, so it may end at once."""
    process.kill()
    with process:
        process.communicate()
