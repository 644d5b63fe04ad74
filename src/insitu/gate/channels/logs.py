"""Which lines of a job's output leave while it runs.

Mode `held`: none. Mode `open`: all, within the bounds of bytes and rate. Mode
`scanned`: a line leaves that looks like no encoding and that says, with all else
that the job has said, no rows or columns of the data; its fractions are rounded
like metrics, since `print` has seventeen digits to hide something in. A line that
was held can still be read by the steward.

What looks like nothing of the kind can still be chosen to spell something. So each
line is charged what it tells beyond what was to be expected, against
`release.logs.ceiling` (`channels/line_code.py`); lines that would tell more stay,
and numbers that would are hidden. What the clock says is the gate's to tell: times of
loggers and the durations in progress bars are left out and said anew
(`channels/clock_times.py`, `channels/progress_bars.py`). Once a line was held because it says rows or columns
of the data, only lines in a form that has left before leave: a table printed cell by
cell is stopped at its first cell that tells.

Tracebacks are taken out first, in every mode: what leaves of them is decided by
`release.errors` and described in `channels/tracebacks.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from urllib.parse import unquote

from insitu.gate.channels.cells import read_backwards
from insitu.gate.channels.clock_times import mark_times, say_times
from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.disguise import Disguise
from insitu.gate.channels.evidence import LiveEvidence, Telling
from insitu.gate.channels.installed_texts import SOURCE_FOLDER
from insitu.gate.channels.line_code import LineCode
from insitu.gate.channels.progress_bars import mark_bar, say_bar
from insitu.gate.channels.rate import Rate
from insitu.gate.channels.tracebacks import TracebackFilter
from insitu.gate.encoded_text import encoded_run
from insitu.gate.policy.values import ReleaseRules

LINE_BYTES = 4096
"""A line that is longer is held: nobody reads it, and much fits in."""
ERROR_BYTES = 8192
"""Of types and frames, in all: so that a failing job tells why even where no log leaves."""
_FEWEST_DIGITS = 4  # that a line keeps, where the policy lets no metric out and so names no number

HeldBy = Literal[
    "log-mode",
    "log-rate",
    "log-budget",
    "log-ceiling",
    "new-after-rows",
    "line-length",
    "line-characters",
    "encoded-line",
    "rows-in-line",
    "data-in-line",
    "bar-on-its-way",
    "traceback",
]

_LONG_RUN = re.compile(r"[A-Za-z0-9+_=~-]{20}")  # without one nothing is an encoded run, and most lines have none
_CODED = re.compile(r"[A-Za-z0-9+/_=~-]{12,}")
_MIXED = re.compile(r"[0-9+/=]|[a-z][A-Z]")  # what words have not
_MOST_FRAMES = 1000
_SPACED = re.compile(r"(?<!\S)\S(?: +\S){5,}(?!\S)")
_SPACED_WITHIN = re.compile(r" \S(?: +\S){3,} ")  # is in all of them, and sooner found
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGIT_WORD = re.compile("|".join(_DIGITS))
_DIGIT_WORDS = re.compile(rf"\b(?:(?:{'|'.join(_DIGITS)})\b[ ,_-]*){{4,}}", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<![\w.,])[0-9]{1,3}(?:,[0-9]{3})+(?![\w,])")
_INSTALLED_AT = re.compile(rf"(?<![\w/.])/[\w./+-]{{1,200}}?/{SOURCE_FOLDER}")  # the machine's, and in no text
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_NUMBER = re.compile(r"(?<![\w.])([-+]?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]{1,3})?|[0-9]{11,})(?![\w]|\.[0-9])")


class LineOutcome(NamedTuple):
    """What leaves for one line (none, itself, or the summary of a traceback), and why the line did not."""

    released: tuple[str, ...] = ()
    held_by: HeldBy | None = None


class LogGate:
    """The rules for one stream of one job. Ask for each line, in order; then `end`.

    Args:
        budget: of all the job's streams.
        telling: what its lines have told, of all streams too.
        stream: which one this is.
        script_root: folder of the script's own files as the job sees it.
        code: what the signed code says of itself.
    """

    def __init__(
        self,
        rules: ReleaseRules,
        evidence: LiveEvidence,
        budget: LogBudget,
        *,
        stream: str = "stdout",
        telling: LineCode | None = None,
        script_root: str = "/job/code",
        code: Callable[[], CodeWords] = CodeWords,
    ) -> None:
        self._stream = stream
        self._told = telling or LineCode(rules.logs.ceiling_bytes, code=code)
        self._mode = rules.logs.mode
        self._errors = rules.errors
        self._budget = budget
        self._evidence = evidence
        self._digits = rules.metrics.digits if rules.metrics.max_count else _FEWEST_DIGITS
        self._disguise = Disguise(code)
        self._backwards = evidence.apart()
        self._coded: set[str] = set()
        """What stood around the runs of lines that were held for them."""
        self._tracebacks = TracebackFilter(script_root, code)

    def lines(self, texts: Sequence[str], at: datetime) -> list[LineOutcome]:
        """May these lines leave? They are the next ones, in order."""
        outcomes = [self._before_evidence(text, at) for text in texts]
        asked = [index for index, outcome in enumerate(outcomes) if outcome.held_by is None]
        if self._mode == "scanned":
            for index, told in zip(asked, self._telling([outcomes[index].released[0] for index in asked]), strict=True):
                if told:
                    outcomes[index] = LineOutcome((), "rows-in-line" if told == "rows" else "data-in-line")
        for index in asked:
            if outcomes[index].held_by is None:
                outcomes[index] = self._within_bounds(outcomes[index].released[0], at)
            else:
                self._told.be_wary()  # whoever has printed a row once is believed in nothing new
        return outcomes

    def _within_bounds(self, text: str, at: datetime) -> LineOutcome:
        """The line as it may leave by what it tells and by its size."""
        shown: str | None = text
        if self._mode == "scanned":
            told = self._told.may_leave(self._stream, text)
            # No mark is ASCII, and most lines are.
            shown = told if told is None or text.isascii() else say_bar(say_times(told, at))
        if shown is None:
            if self._told.looks_encoded:
                self._note_coded(text)
                return LineOutcome((), "encoded-line")
            return LineOutcome((), "new-after-rows" if self._told.is_wary else "log-ceiling")
        return LineOutcome((shown,)) if self._budget.spend(_size(shown)) else LineOutcome((), "log-budget")

    def end(self) -> tuple[str, ...]:
        """The stream has ended: what may leave of a traceback that was cut off."""
        return self._of_errors(self._tracebacks.end())

    def _telling(self, texts: list[str]) -> list[Telling]:
        """What each of `texts` tells, as it is and with what it would be decoded to, and backwards."""
        said = [self._evidence.read(_decoded(text)) for text in texts]
        forwards = self._evidence.of_said(said)
        backwards = self._backwards.of_said([read_backwards(*pair) for pair in zip(texts, said, strict=True)])
        return [one or other for one, other in zip(forwards, backwards, strict=True)]

    def _before_evidence(self, text: str, at: datetime) -> LineOutcome:
        passed = self._tracebacks.take(text)
        if passed.inside:
            return LineOutcome(self._of_errors(passed.summary), "traceback")
        if self._mode == "held":
            return LineOutcome((), "log-mode")
        if not self._budget.rate.take(at):
            return LineOutcome((), "log-rate")
        if self._mode == "open":
            return LineOutcome((text,))
        held_by = self._objection_to(text)
        if held_by:
            return LineOutcome((), held_by)
        if SOURCE_FOLDER in text:
            text = _INSTALLED_AT.sub(SOURCE_FOLDER, text)
        marked = mark_bar(mark_times(text, at))
        if marked is None:
            return LineOutcome((), "bar-on-its-way")
        return LineOutcome((rounded_line(marked, self._digits),))

    def _objection_to(self, text: str) -> HeldBy | None:
        if len(text) > LINE_BYTES:
            return "line-length"
        if not text.isprintable() and not text.replace("\t", " ").isprintable():
            return "line-characters"
        return "encoded-line" if self._is_encoded(text) else None

    def _is_encoded(self, text: str) -> bool:
        """Also if only others of its kind look so: of a message in pieces some look like words or a path."""
        if (_LONG_RUN.search(text) and encoded_run(text)) or self._disguise.is_worn_by(text):
            self._note_coded(text)
            return True
        if not self._coded or not any(_MIXED.search(run) for run in _CODED.findall(text)):
            return False
        return _CODED.sub("", text) in self._coded

    def _note_coded(self, text: str) -> None:
        frame = _CODED.sub("", text)
        if frame != text and len(self._coded) < _MOST_FRAMES:
            self._coded.add(frame)

    def _of_errors(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        if self._errors == "none":
            return ()
        return tuple(line for line in lines if self._budget.spend_error(_size(line)))


class LogBudget:
    """Bytes of log text that a job may send, and lines a second, over all of its streams."""

    def __init__(self, max_bytes: int, per_second: int = 200) -> None:
        self._left = max_bytes
        self._errors_left = ERROR_BYTES
        self.rate = Rate(per_second)

    def spend(self, size_bytes: int) -> bool:
        if size_bytes > self._left:
            return False
        self._left -= size_bytes
        return True

    def spend_error(self, size_bytes: int) -> bool:
        if size_bytes > self._errors_left:
            return False
        self._errors_left -= size_bytes
        return True


def _decoded(text: str) -> str:
    """With escapes as of addresses (RFC 3986) behind it undone, and letters that stand apart put together."""
    if "%" in text and _ESCAPE.search(text):  # Ada%20Lovelace
        text = f"{text} ; {unquote(text)}"
    if _SPACED_WITHIN.search(text) and _SPACED.search(text):  # A d a , 4 7
        text = f"{text} ; {_SPACED.sub(lambda found: found[0].replace(' ', ''), text)}"
    if _DIGIT_WORD.search(text.lower()) and _DIGIT_WORDS.search(text):  # four seven one nine
        text = f"{text} ; {_DIGIT_WORDS.sub(_as_digits, text)}"
    if "," in text and _THOUSANDS.search(text):  # 4,771,023
        text = f"{text} ; {_THOUSANDS.sub(lambda found: found[0].replace(',', ''), text)}"
    return text


def _as_digits(found: re.Match[str]) -> str:
    return "".join(str(_DIGITS.index(word.lower())) for word in re.findall("[A-Za-z]+", found[0]))


def rounded_line(text: str, digits: int) -> str:
    """`text`, its fractions and very long whole numbers with so many significant digits."""
    return _NUMBER.sub(lambda found: _rounded(found[0], digits), text)


def _rounded(token: str, digits: int) -> str:
    if len(token) <= digits:
        return token
    mantissa = token.lower().partition("e")[0]
    significant = mantissa.lstrip("+-0.").replace(".", "")
    if len(significant) <= digits:
        return token
    if token[0] == "0" and token[1].isdigit():  # of a time: 12:30:05.123456
        return token[: token.index(".") + digits] if "." in token else token[:digits]
    # Zeros at the end stay: what comes and goes with them is a choice that somebody would have to be charged for.
    return f"{float(token):#.{digits}g}".removesuffix(".")


def _size(text: str) -> int:
    return (len(text) if text.isascii() else len(text.encode(errors="replace"))) + 1
