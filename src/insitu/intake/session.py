"""One job from its request to its end: puts the parts together and runs the event loop.

    request → folders, sockets, "ready" → serving → {"op": "finish"}
            → the streams' ends (2 s at most) → counts of what was kept → artifacts.json, summary.json → the end

The process ends with 0 after a finish, and with 1 when it can't write down what
is decided: then nothing more leaves, and the attempt fails at the agent's side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from insitu.domain.errors import UnavailableError
from insitu.intake.api import Api
from insitu.intake.artifacts import ArtifactStore, Owner
from insitu.intake.coarse_time import CoarseClock
from insitu.intake.control import ControlSocket, Orders
from insitu.intake.decided import Decided
from insitu.intake.doors import listen
from insitu.intake.events import EventLog
from insitu.intake.http import MAX_CONNECTIONS, Connections, JobConnection
from insitu.intake.inputs import Inputs
from insitu.intake.kept import Kept
from insitu.intake.links import in_words
from insitu.intake.models import Models
from insitu.intake.outputs import as_document, candidates
from insitu.intake.request import EVENTS, LOGS, IntakeRequest
from insitu.intake.rules import NothingLeaves, Rules
from insitu.intake.runs import Runs, own_run
from insitu.intake.streams import JobStreams
from insitu.intake.tracking import Tracking

STREAMS_END_S = 2.0
_LAST_WORD_S = 2.0
_LOOK_FOR_FOLDER_S = 2.0


def utc_now() -> datetime:
    return datetime.now(UTC)


class Intake:
    """The state of one job, without its sockets. `serve` gives it those."""

    def __init__(
        self, request: IntakeRequest, rules: Rules, *, clock: Callable[[], datetime], on_growth: Callable[[int], None]
    ) -> None:
        self.request = request
        self.clock = clock
        limits, folder = request.limits, request.state_dir
        self.contract = request.contract.as_contract()
        coarse = CoarseClock(clock)
        self.events = EventLog(folder / EVENTS, most=limits.events_total, clock=coarse, on_growth=on_growth)
        self.kept = Kept(folder / "kept.jsonl", most_bytes=limits.kept_bytes)
        self.decided = Decided(rules, self.events, self.kept, clock=clock)
        start_ms = int(clock().timestamp() * 1000)
        own = own_run(request.run_id, name=request.run_name, tags=request.tags, start_ms=start_ms)
        self.runs = Runs(own, request.experiment_id)
        self.models = Models(self.runs, self.decided, self.contract, clock=clock)
        self.artifacts = ArtifactStore(
            folder, most_bytes=limits.artifact_bytes_total, most_files=limits.artifact_files, is_ours=self._is_ours
        )
        tracking = Tracking(self.runs, self.decided, experiment_name=request.experiment_name, clock=clock)
        self.streams = JobStreams(
            self.decided,
            folder=folder / LOGS,
            most_bytes=limits.log_bytes,
            reword=lambda text: in_words(text, self.runs),
        )
        self.api = Api(tracking, self.models, self.artifacts, self.decided, hear=self.streams.hear)

    def _is_ours(self, owner: Owner, owner_id: str) -> bool:
        return owner_id in (self.runs if owner == "runs" else self.models)

    def finish(self, reason: str) -> int:
        """Write the last events and the two documents; the last sequence number."""
        files = list(self.artifacts.walk())
        found = candidates(self.contract, self.runs, self.models, [path for path, _ in files])
        document, undeclared = as_document(found, files)
        if undeclared:
            self.decided.kept_elsewhere("artifact", len(undeclared))
        self.decided.tell_what_was_kept()
        self.decided.flush()
        _write_atomically(self.request.state_dir / "artifacts.json", document)
        _write_atomically(self.request.state_dir / "summary.json", self._summary(reason))
        self.close()
        return self.events.seq

    def close(self) -> None:
        self.streams.close()
        self.events.close()
        self.kept.close()

    def status(self) -> dict[str, Any]:
        """Counts alone."""
        return {
            "pid": os.getpid(),
            "job_id": self.request.job_id,
            "attempt": self.request.attempt,
            "seq": self.events.seq,
            "calls": self.api.calls,
            "artifact_bytes": self.artifacts.size_bytes,
        }

    def _summary(self, reason: str) -> dict[str, Any]:
        return {
            **self.status(),
            "last_seq": self.events.seq,
            "reason": reason,
            "finished_at": self.clock().isoformat(),
            "events": dict(self.events.counts),
            "kept": dict(self.kept.counts),
            "kept_by_rule": dict(self.kept.rules),
            "streams": {name: vars(each) for name, each in self.streams.counts.items()},
            "artifact_files": self.artifacts.files,
            "runs": {run.local: run.run_id for run in self.runs if run.announced},
            "registered": {name: intent.model_id or intent.source for name, intent in self.models.intents.items()},
            "refused_names": list(self.models.refused_names),
        }


async def serve(
    request: IntakeRequest, make_rules: Callable[[], Rules], *, control: socket.socket, ready: Callable[[], None]
) -> int:
    """Serve one job until it is finished. Returns the exit status.

    Args:
        make_rules: builds the rules. It may take long with large datasets, so it runs beside, after `ready`; what
            the job says until then waits in its sockets and pipes.
        control: the socket of agent and keeper, at `request.control`, which listens already.
        ready: called once both sockets take connections.
    """
    return await _Serving(request, asyncio.get_running_loop(), control).run(make_rules, ready)


class _Serving:
    """The sockets and streams of one job, on the event loop."""

    def __init__(self, request: IntakeRequest, loop: asyncio.AbstractEventLoop, control: socket.socket) -> None:
        self._request = request
        self._loop = loop
        self._finish_asked: asyncio.Future[str] = loop.create_future()
        self._broken: asyncio.Future[str] = loop.create_future()
        self._intake = Intake(request, NothingLeaves(), clock=utc_now, on_growth=self._grown)
        self._connections = Connections(
            self._intake.api,
            inputs=Inputs(request.inputs, request.address),
            feed=request.feed,
            feed_wait_s=request.feed_wait_s,
            most_body_bytes=request.limits.request_bytes,
            give_up=self._give_up,
            note=_note_fault,
        )
        orders = Orders(
            streams=self._intake.streams.begin,
            gate=self._take_gate,
            status=self._intake.status,
            finish=self._ask_to_finish,
            seq=lambda: self._intake.events.seq,
        )
        # The job's uid is another than ours; its folder decides who reaches its socket.
        self._doors = [listen(request.socket, mode=0o666)]
        self._servers: list[asyncio.Server] = []
        self._is_open = False
        self._opening: asyncio.Task[None] | None = None
        self._control = ControlSocket(loop, control, orders)
        loop.set_exception_handler(lambda _, context: _note_fault(type(context.get("exception")).__name__))

    async def run(self, make_rules: Callable[[], Rules], ready: Callable[[], None]) -> int:
        ready()
        try:
            self._intake.decided.rules = await self._loop.run_in_executor(None, make_rules)
        except Exception as exc:  # noqa: BLE001 - without rules nothing may be served, whatever the reason
            _note_fault(type(exc).__name__)
            return 1
        self._is_open = True  # whoever brings a door from now on has it opened
        for door in tuple(self._doors):
            await self._open(door)
        self._intake.streams.go(self._loop, self._give_up)
        self._look_for_folder()
        await asyncio.wait([self._finish_asked, self._broken], return_when=asyncio.FIRST_COMPLETED)
        if not self._broken.done():
            await self._intake.streams.wait_ended(STREAMS_END_S)
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections.open):
            connection.cut()
        return self._end()

    def _take_gate(self, fd: int) -> bool:
        """The socket that listens inside the sandbox. Who connects before the rules are ready waits in it."""
        if len(self._doors) > 1:
            return False
        try:
            door = socket.socket(fileno=fd)
        except OSError:
            return False
        if not door.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            door.detach()
            return False
        self._doors.append(door)
        if self._is_open:
            self._opening = self._loop.create_task(self._open(door))
        return True

    async def _open(self, door: socket.socket) -> None:
        make = self._loop.create_unix_server if door.family == socket.AF_UNIX else self._loop.create_server
        server = await make(lambda: JobConnection(self._connections), sock=door, backlog=MAX_CONNECTIONS)
        self._servers.append(server)

    def _end(self) -> int:
        if self._broken.done():
            _note_fault(self._broken.result())
            return 1
        try:
            last_seq = self._intake.finish(self._finish_asked.result())
        except (UnavailableError, OSError) as exc:
            _note_fault(type(exc).__name__)
            return 1
        self._control.say_finished(last_seq, timeout_s=_LAST_WORD_S)
        return 0

    def _look_for_folder(self) -> None:
        """End when the job's folder was removed: whoever did that does not come back for it."""
        if not self._request.control.exists():
            self._give_up(UnavailableError("the job's folder is gone", code="folder-gone"))
        self._loop.call_later(_LOOK_FOR_FOLDER_S, self._look_for_folder)

    def _grown(self, seq: int) -> None:
        del seq  # peers are told the number that it is when they are told
        self._control.grown()

    def _give_up(self, error: UnavailableError) -> None:
        if not self._broken.done():
            self._broken.set_result(error.code)

    def _ask_to_finish(self, reason: str) -> None:
        if not self._finish_asked.done():
            self._finish_asked.set_result(reason)


def _note_fault(name: str) -> None:
    """A word of ours for the site's log: never the text of an exception, which may hold what the job sent."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"intake: {name}\n")
        sys.stderr.flush()


def _write_atomically(path: Path, document: dict[str, Any]) -> None:
    temporary = path.with_suffix(".partial")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
