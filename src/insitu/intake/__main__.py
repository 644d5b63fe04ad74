"""`python -m insitu.intake`: waits, warm, for one request; serves that job; ends.

Started by the agent before there is a job, already confined. Everything is
imported and has run once before the request is read, for the time from request
to `{"ready": true}` is part of what a person waits for. When its input ends
first, the agent is gone and so is the reason to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import socket
import sys
from pathlib import Path

from insitu.domain.errors import InsituError, InvalidInputError
from insitu.intake.doors import Lines
from insitu.intake.gated import gate_rules, warm_up
from insitu.intake.request import FAULTS, MAX_REQUEST_BYTES, StandBack, WarmUp, read_request
from insitu.intake.session import serve
from insitu.intake.trial import serve_nobody


def main() -> int:
    serve_nobody()
    with asyncio.Runner() as runner:
        # In a thread, for the job's rules are made in one: then loop and thread are there as well.
        runner.run(asyncio.to_thread(warm_up, WarmUp()))
        gc.collect()
        gc.freeze()  # what was imported is not looked through again while a job runs
        lines = Lines(socket.socket(fileno=os.dup(sys.stdin.fileno())), most_bytes=MAX_REQUEST_BYTES)
        line, stand_back = _wait_for_request(lines)
        if not line:
            return 0
        if len(lines.sockets) != 1:
            raise InvalidInputError("with the request comes one socket, for control", code="bad-request")
        _stand_back(lines.sockets[0], stand_back)
        request = read_request(line)
        _write_faults_to(request.state_dir / FAULTS)
        make_rules = gate_rules(request)
        return runner.run(serve(request, make_rules, control=lines.sockets[0], ready=_say_ready))


def _wait_for_request(lines: Lines) -> tuple[bytes, StandBack]:
    """The request, and what was said before it of how to take it up. Empty: the agent has gone."""
    stand_back = StandBack()
    while line := lines.next():
        if line.startswith(b'{"warm_up"'):
            warm_up(WarmUp.model_validate_json(_inner(line)))
        elif line.startswith(b'{"stand_back"'):
            stand_back = StandBack.model_validate_json(_inner(line))
        else:
            return line, stand_back
    return b"", stand_back


def _inner(line: bytes) -> bytes:
    """What a line of one key says."""
    return line.split(b":", 1)[1].rstrip()[:-1]


def _stand_back(control: socket.socket, stand_back: StandBack) -> None:
    """Leave the processor to the sandbox until that has started, which its keeper says on the control socket."""
    if stand_back.at_most_s:
        poll = select.poll()
        poll.register(control, select.POLLIN)
        poll.poll(1000 * stand_back.at_most_s)


def _say_ready() -> None:
    """To the agent that waits for it; one that was killed meanwhile has a successor, who asks by the control socket."""
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), b'{"ready": true}\n')


def _write_faults_to(path: Path) -> None:
    """The agent may be killed while this process goes on: its pipe must not be what faults are written to."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    os.dup2(fd, sys.stderr.fileno())
    os.close(fd)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InsituError as error:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"intake: {error.code}: {error.what}\n")
        sys.exit(error.exit_code)
