"""Sandboxes started in this process, so that one of their defences can be taken away.

What starts them is what an agent's keeper calls, from the same spec. The self-test from inside is taken away too: it
starts nothing where it sees that a defence is missing, and would hide what that defence does.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from insitu.sandbox import engines, init
from insitu.sandbox.contract import Likely, open_sandbox
from tests.attacks.defences import DEFENCES
from tests.sandbox_rig import END_LIMIT_S, LIMITS, Rig, until


def take_away(rig: Rig, monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    without_the_self_test(monkeypatch, rig)
    for name in names:
        DEFENCES[rig.kind][name](monkeypatch, rig)


def without_the_self_test(monkeypatch: pytest.MonkeyPatch, rig: Rig) -> None:
    """It refuses to start anything where it sees that a defence is missing, and would hide what that one does."""
    monkeypatch.setattr(init, "check_guards", lambda *_: None)
    altered = rig.folder / "init.py"
    name, text = "def check_guards(", Path(init.__file__).read_text()
    assert text.count(name) == 1
    altered.write_text(text.replace(name, "def check_guards(*_): pass\n\n\ndef _not_called("))
    monkeypatch.setattr(engines, "init", SimpleNamespace(__file__=str(altered)))


@dataclass
class Running:
    """A sandbox without a keeper: who ends it is the test."""

    started: Any
    out: Path

    def said(self) -> str:
        return self.out.read_text()

    def until_it_says(self, word: str) -> None:
        until(lambda: word in self.said() or "Traceback" in self.said(), f"it to say {word}")
        assert word in self.said(), self.said()

    def ends(self, within_s: float = END_LIMIT_S) -> str:
        """What its first process says of the end: `exit 0`, `signal 9`, or nothing when it is killed or goes on."""
        heard = ""
        waiting = select.poll()
        waiting.register(self.started.channel, select.POLLIN)
        while "exit" not in heard and "signal" not in heard and waiting.poll(within_s * 1000):
            part = self.started.channel.recv(200).decode()
            heard += part
            if not part:
                break
        begun = "starting\nstarted\n"
        assert heard.startswith(begun), heard or self.said()
        return heard.removeprefix(begun).strip()


@contextlib.contextmanager
def started(rig: Rig, code: str, *, ahead: bool = False, **changes: Any) -> Iterator[Running]:
    """Start it here, as a keeper would; everything of it is gone at the end of the block."""
    spec = rig.spec(code, **changes)
    room = rig.folder / spec.name / "room"
    room.mkdir()
    room.chmod(0o755)
    for mount in spec.mounts:
        if mount.writable:
            os.chown(mount.source, spec.uid, spec.gid)
    out = rig.folder / spec.name / "out"
    sink = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND, 0o600)
    sandbox = open_sandbox(rig.kind, rig.settings)
    if ahead:
        sandbox.prepare(Likely(rig.rootfs, LIMITS.scratch_bytes))
    try:
        running = sandbox.start(spec, room, lambda: (sink, sink))
        try:
            yield Running(running, out)
        finally:
            running.kill()
            sandbox.destroy(spec.name)
    finally:
        os.close(sink)


def says(rig: Rig, code: str, **changes: Any) -> str:
    """What the code prints; and, when it does not end by itself with 0, how it ended."""
    with started(rig, code, **changes) as running:
        ended = running.ends()
        return running.said() + ("" if ended == "exit 0" else f"[{ended or 'killed'}]")


def in_turn(probes: Mapping[str, str]) -> str:
    """Code that runs each of them, and prints a line of JSON with its name and what it said."""
    return f"""
import json, os, subprocess, sys
for name, code in {dict(probes)!r}.items():
    try:
        with open('/tmp/said', 'w+') as out:
            argv = [sys.executable, '-c', code]
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
            child.wait()
            try: os.killpg(child.pid, 9)  # what it left running
            except ProcessLookupError: pass
            out.seek(0)
            print(json.dumps([name, out.read()]), flush=True)
    except OSError as exc: print(json.dumps([name, f'not run: {{exc.strerror}}']), flush=True)
"""
