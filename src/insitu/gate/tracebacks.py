"""Finds Python tracebacks in a stream of lines, and says what of them may leave.

The message of an exception is data-bearing (pandas prints rows into it), and so
is a source line with a literal in it. What leaves is the exception's type and
the frames in the script's own files: file, line number, function. Everything
else of the block stays, and so does what follows the exception line up to
something that is recognisably no longer its message.

Grammar: the format of the standard library's `traceback` module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from insitu.gate.names import objection_to

_MARKS = r"[\s|+]*"  # exception groups are drawn with bars
_HEADER = re.compile(_MARKS + r"(?:Exception Group )?Traceback \(most recent call last\):\s*")
_FRAME = re.compile(_MARKS + r'File "([^"\n]{1,500})", line ([0-9]{1,7})(?:, in (.{1,200}))?\s*')
_EXCEPTION = re.compile(r"(?:[\s|+]{2,})?([A-Za-z_][\w.]{0,200})(?::.*)?\s*")
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_LOG_PREFIX = re.compile(r"\[?(?:\d{4}[-/]\d\d[-/]\d\d[ T]|\d\d:\d\d:\d\d|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\b)")
_MAX_FRAMES = 30


@dataclass
class TracebackFilter:
    """Takes lines in order. A line outside a traceback is handed back; inside, lines of ours replace it.

    Args:
        script_root: folder of the script's own files as the job sees it.
    """

    script_root: str = "/job/code"
    _state: str = field(default="outside", init=False)  # outside | frames | message
    _frames: list[str] = field(default_factory=list[str], init=False)

    def take(self, line: str) -> Passed:
        """Decide on one line."""
        if _HEADER.fullmatch(line):
            cut_off = self._summary("") if self._state == "frames" else ()
            self._state, self._frames = "frames", []
            return Passed(inside=True, summary=cut_off)
        if self._state == "frames":
            return self._in_frames(line)
        if self._state == "message":
            return self._in_message(line)
        return Passed(inside=False)

    def end(self) -> tuple[str, ...]:
        """The stream has ended: what is known of a traceback that was cut off."""
        if self._state != "frames":
            return ()
        self._state = "outside"
        return self._summary("")

    def _in_frames(self, line: str) -> Passed:
        frame = _FRAME.fullmatch(line)
        if frame:
            self._note_frame(frame[1], frame[2], frame[3] or "")
            return Passed(inside=True)
        exception = _EXCEPTION.fullmatch(line)
        if exception is None or line[:1] in (" ", "\t"):  # a source line, a caret, "[Previous line repeated …]"
            return Passed(inside=True)
        self._state = "message"
        return Passed(inside=True, summary=self._summary(exception[1]))

    def _in_message(self, line: str) -> Passed:
        if line.strip() in _CHAINED:
            return Passed(inside=True, summary=(line.strip(),))
        if _LOG_PREFIX.match(line):
            self._state = "outside"
            return Passed(inside=False)
        return Passed(inside=True)

    def _note_frame(self, path: str, line: str, function: str) -> None:
        root = self.script_root.rstrip("/") + "/"
        if not path.startswith(root) or len(self._frames) >= _MAX_FRAMES:
            return
        name = path.removeprefix(root)
        shown = name if not objection_to(name) else "a file of the script"
        place = f'  File "{shown}", line {line}'
        if function and not objection_to(function):
            place += f", in {function}"
        self._frames.append(place)

    def _summary(self, exception: str) -> tuple[str, ...]:
        if not exception:
            kind = "an exception (its type was not printed)"
        else:
            kind = exception if not objection_to(exception) else "an exception (its type stays at the site)"
        return ("Traceback, the script's own frames:", *self._frames, f"{kind}: the message stays at the site")


@dataclass(frozen=True, slots=True)
class Passed:
    """What the filter made of a line: whether it belongs to a traceback, and what may leave for it."""

    inside: bool
    summary: tuple[str, ...] = ()
