"""The one door: whatever may leave is asked of the rules here, and becomes an event here.

    thing ──rules──► leaves ──room?──► events.jsonl     (the agent: ledger, then the hub)
                └──► stays ──────────► kept.jsonl, counted

Nothing is an error for the script: what stays is kept, and the job goes on. So no
answer to a call hangs on what is decided of its metrics, parameters and tags, nor of
lines: they wait for `flush`, which comes after the answer, and the script computes
meanwhile. All is decided in the order in which it was said (`streams.py` has how that
is known), and what is asked in between is asked after all that waits: an answer that
hung on how fast we are would be another one on a busy machine.

Times are ours and not the script's: a time that it could set is sixty-four bits
that it could fill.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from insitu.gate.channels.hints import describe_kept
from insitu.intake.events import EventLog
from insitu.intake.kept import Kept, at_least
from insitu.intake.rules import LinesLeave, Rules, Stays, Stream
from insitu.intake.runs import Run
from insitu.wire.events import KeptEvent, LogEvent, ParamEvent, RunEvent, TagEvent

MAX_ANNOUNCED_RUNS = 100  # runs of the script that the hub hears of
MAX_SITE_LINES = 20
SYSTEM_PREFIX = "mlflow."  # names of user, file and host: the hub sets its own
_LONGEST_RUN_NAME = 100
_LONGEST_TAG = 5000

Answer = TypeVar("Answer")


class Decided:
    """Asks, appends, counts. One object for each job."""

    def __init__(self, rules: Rules, events: EventLog, kept: Kept, *, clock: Callable[[], datetime]) -> None:
        self.rules = rules
        self._events = events
        self._kept = kept
        self._clock = clock
        self._announced = 0
        self._site_lines = 0
        self._waiting: deque[Callable[[], None]] = deque()
        """What is still to be decided, in the order in which the script said it."""

    def metric(self, run: Run, key: str, value: float, step: int) -> None:
        self._waiting.append(lambda: self._metric(run, key, value, step))

    def param(self, run: Run, key: str, value: str) -> None:
        self._waiting.append(lambda: self._param(run, key, value))

    def tag(self, run: Run, key: str, value: str) -> None:
        self._waiting.append(lambda: self._tag(run, key, value))

    def _metric(self, run: Run, key: str, value: float, step: int) -> None:
        answer = self._ask(run, lambda: self.rules.metric(key, value, step, self._clock(), run=run.local))
        if isinstance(answer, Stays):
            self._kept.keep("metric", run=run.local, key=key, value=repr(value), step=step, rule=answer.rule)
            return
        self._events.append_metric(run=run.local, key=key, value=answer.value, step=answer.step)

    def _param(self, run: Run, key: str, value: str) -> None:
        answer = self._ask(run, lambda: self.rules.param(key, value, self._clock()))
        if isinstance(answer, Stays):
            self._kept.keep("param", run=run.local, key=key, value=value, rule=answer.rule)
            return
        self._events.append(lambda seq, at: ParamEvent(seq=seq, at=at, run=run.local, key=key, value=answer))

    def _tag(self, run: Run, key: str, value: str) -> None:
        if key.startswith(SYSTEM_PREFIX):
            self._kept.keep("mlflow tag", run=run.local, key=key, value=value, rule="system-tag")
            return
        answer = self._ask(run, lambda: self.rules.tag(key, value, self._clock()))
        if not isinstance(answer, Stays) and len(answer) > _LONGEST_TAG:
            answer = Stays("value-length")
        if isinstance(answer, Stays):
            self._kept.keep("tag", run=run.local, key=key, value=value, rule=answer.rule)
            return
        text = answer
        self._events.append(lambda seq, at: TagEvent(seq=seq, at=at, run=run.local, key=key, value=text))

    def run_started(self, run: Run, parent: Run) -> None:
        """Tell the hub of a run that the script started, without its name if that may not leave."""
        self._catch_up()
        if self._announced >= MAX_ANNOUNCED_RUNS or not self._may_leave(parent):
            run.announced = False
            self._kept.keep("run", run=run.local, name=run.name, rule="room")
            return
        self._announced += 1
        answer = self._ask(run, lambda: self.rules.name(run.name, self._clock()))
        if isinstance(answer, Stays):
            self._kept.keep("run name", run=run.local, name=run.name, rule=answer.rule)
            answer = ""
        name = answer[:_LONGEST_RUN_NAME]
        self._events.append(lambda seq, at: RunEvent(seq=seq, at=at, run=run.local, parent=parent.local, name=name))

    def may_name(self, run: Run, text: str) -> bool:
        """Whether a name that the script chose may stand in a line of ours."""
        self._catch_up()
        return not isinstance(self._ask(run, lambda: self.rules.name(text, self._clock())), Stays)

    def lines(self, stream: Stream, texts: Sequence[str], tell: Callable[[int], None]) -> None:
        """The next lines of a stream. `tell` hears how many left because of them, once it is decided."""
        self._waiting.append(
            lambda: tell(self._lines(stream, len(texts), lambda: self.rules.lines(stream, texts, self._clock())))
        )

    def stream_ended(self, stream: Stream, tell: Callable[[int], None]) -> None:
        self._waiting.append(lambda: tell(self._lines(stream, 0, lambda: self.rules.end(stream, self._clock()))))

    def site_line(self, text: str) -> None:
        """A sentence of ours for the data scientist, in the job's log. Few of them: a script can provoke them."""
        self._catch_up()
        if self._site_lines >= MAX_SITE_LINES or not self._events.has_room:
            self._kept.keep("site line", text=text, rule="room")
            return
        self._site_lines += 1
        self._events.append(lambda seq, at: LogEvent(seq=seq, at=at, stream="site", text=text))

    def kept_elsewhere(self, kind: str, number: int = 1) -> None:
        self._kept.count(kind, number)

    def tell_what_was_kept(self) -> None:
        """The last events of an attempt: what stayed, with rule, limit and hint for people, and by class. They are few."""
        self._catch_up()
        by_number = sorted(self._kept.rules.items(), key=lambda found: (-found[1], found[0]))
        for kept, count in by_number:
            kind, _, rule = kept.rpartition(": ")
            if self._events.has_room:
                self.site_line(describe_kept(kind, rule, at_least(count)))
        for what, count in sorted(self._kept.counts.items()):
            self._events.append(
                lambda seq, at, what=what, count=count: KeptEvent(seq=seq, at=at, what=what, count=at_least(count))
            )

    def flush(self) -> None:
        """Decide what waits, and make all that was decided visible.

        Raises:
            UnavailableError: it can't be written; nothing may be decided any more.
        """
        self._catch_up()
        self._events.flush()
        self._kept.flush()

    def _catch_up(self) -> None:
        while self._waiting:
            self._waiting.popleft()()

    def _may_leave(self, run: Run) -> bool:
        return run.announced and self._events.has_room

    def _ask(self, run: Run, question: Callable[[], Answer]) -> Answer | Stays:
        """The rules' answer. No room, or a rule that fails: it stays."""
        if not self._may_leave(run):
            return Stays("room")
        try:
            return question()
        except Exception:  # noqa: BLE001 - a check that crashes denies, and the script is not to blame
            return Stays("rule-failed")

    def _lines(self, stream: Stream, count: int, question: Callable[[], LinesLeave]) -> int:
        try:
            outcome = question()
        except Exception:  # noqa: BLE001 - as above
            outcome = LinesLeave((), {"rule-failed": count})
        left = 0
        for text in outcome.texts:
            if not self._events.has_room:
                self._kept.count("log line", rule="room")
                continue
            left += 1
            self._events.append(lambda seq, at, text=text: LogEvent(seq=seq, at=at, stream=stream, text=text))
        for rule, number in outcome.kept.items():
            self._kept.count("log line", number, rule=rule)
        return left
