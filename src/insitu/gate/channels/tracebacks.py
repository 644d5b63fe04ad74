"""Finds Python tracebacks in a stream of lines, and says what of them may leave.

The message of an exception is data-bearing (pandas prints rows into it), and so
is a source line with a literal in it. What leaves is the exception's type and
the frames in the script's own files: file, line number, function. Everything
else of the block stays, and so does what follows the exception line up to
something that is recognisably no longer its message.

A script can print a traceback as well as have one, and name classes and
functions as it runs. So files, lines and functions must be those of the signed
code, a type must be one of Python's, of a well-known library or of that code,
and a job has only so many different tracebacks.

Grammar: the format of the standard library's `traceback` module.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from insitu.gate.channels.code_words import CodeWords

_MARKS = r"[\s|+]*"  # exception groups are drawn with bars
_HEADER = re.compile(_MARKS + r"(?:Exception Group )?Traceback \(most recent call last\):\s*")
_FRAME = re.compile(_MARKS + r'File "([^"\n]{1,500})", line ([0-9]{1,7})(?:, in (.{1,200}))?\s*')
_EXCEPTION = re.compile(r"(?:[\s|+]{2,})?([A-Za-z_][\w.]{0,200})(?::.*)?\s*")
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_LOG_PREFIX = re.compile(r"\[?(?:\d{4}[-/]\d\d[-/]\d\d[ T]|\d\d:\d\d:\d\d|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\b)")
_MAX_FRAMES = 12
_MAX_TRACEBACKS = 8  # different ones
_ANONYMOUS = frozenset({"<module>", "<lambda>", "<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"})

_PYTHONS = frozenset(
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
)
_LIBRARIES = frozenset(
    """
    ArrowInvalid ArrowTypeError AxisError BrokenProcessPool CalledProcessError ComplexWarning ConvergenceError
    ConvergenceWarning CudaError DataConversionWarning DatabaseError DTypePromotionError EmptyDataError
    FitFailedWarning HTTPError InconsistentVersionWarning IntCastingNaNError InvalidIndexError InvalidParameterError
    JSONDecodeError LightGBMError LinAlgError MergeError MlflowException NoConvergence NotFittedError
    OperationalError OptionError OutOfBoundsDatetime OutOfMemoryError ParserError PerformanceWarning PicklingError
    RestException SettingWithCopyError SettingWithCopyWarning SingularMatrixWarning TimeoutExpired
    UndefinedMetricWarning UndefinedVariableError UnidentifiedImageError UnpicklingError UnsortedIndexError
    UntrustedTypesFoundException ValidationError XGBoostError
    """.split()
)


@dataclass
class TracebackFilter:
    """Takes lines in order. A line outside a traceback is handed back; inside, lines of ours replace it.

    Args:
        script_root: folder of the script's own files as the job sees it.
        code: what the signed code says of itself; asked at the first frame.
    """

    script_root: str = "/job/code"
    code: Callable[[], CodeWords] = CodeWords
    _state: str = field(default="outside", init=False)  # outside | frames | message
    _frames: list[str] = field(default_factory=list[str], init=False)
    _told: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]], init=False)

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
        return _OUTSIDE

    def end(self) -> tuple[str, ...]:
        """The stream has ended: what is known of a traceback that was cut off."""
        if self._state != "frames":
            return ()
        self._state = "outside"
        return self._summary("")

    def _in_frames(self, line: str) -> Passed:
        frame = _FRAME.fullmatch(line)
        if frame:
            self._note_frame(frame[1], int(frame[2]), frame[3] or "")
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
            return _OUTSIDE
        return Passed(inside=True)

    def _note_frame(self, path: str, line: int, function: str) -> None:
        root = self.script_root.rstrip("/") + "/"
        if not path.startswith(root) or len(self._frames) >= _MAX_FRAMES:
            return
        code, name = self.code(), path.removeprefix(root)
        if not code.has_line(name, line):
            self._frames.append("  a frame that is not in the script's signed code")
            return
        place = f'  File "{name}", line {line}'
        if function in code.words or function in _ANONYMOUS:
            place += f", in {function}"
        self._frames.append(place)

    def _summary(self, exception: str) -> tuple[str, ...]:
        told = (
            "Traceback, the script's own frames:",
            *self._frames,
            f"{self._shown(exception)}: the message stays at the site",
        )
        if told in self._told:
            return told
        if len(self._told) >= _MAX_TRACEBACKS:
            return ()
        self._told.add(told)
        return told

    def _shown(self, exception: str) -> str:
        """The name of an exception's type, if it is not one that a script may have made up."""
        if not exception:
            return "an exception (its type was not printed)"
        name = exception.rpartition(".")[2]
        if exception in _PYTHONS:
            return exception
        if name in _LIBRARIES:
            return name
        return name if name in self.code().words else "an exception (its type stays at the site)"


@dataclass(frozen=True, slots=True)
class Passed:
    """What the filter made of a line: whether it belongs to a traceback, and what may leave for it."""

    inside: bool
    summary: tuple[str, ...] = ()


_OUTSIDE = Passed(inside=False)
