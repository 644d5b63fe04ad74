"""One thread that answers calls, many in one go where rows may be mixed.

Whatever waits when the model becomes free is predicted in one call: nobody waits for
a batch to fill, and under load one call's fixed cost (validation in scikit-learn, most
of it) is shared by all. Merged are only arrays of one shape and dtype, for the same
methods, of a model whose rows are independent; when a merged call fails, each request
is tried alone, so that one caller's bad row spoils nobody else's answer. Sums in a
matrix product may be taken in another order than for a row alone, so a float may differ
in its last digits; `batch_rows=1` turns merging off. (The idea: Clipper, NSDI 2017.)

A call that takes too long can't be stopped; it is answered by the caller's side, and
its result dropped. What is still waiting then is never started.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from insitu.serving.calls import Call
from insitu.serving.errors import RequestError
from insitu.serving.http_server import Reply
from insitu.serving.sklearn_model import LoadedModel
from insitu.serving.tables import Table

_FAILED = "Encountered an unexpected error while evaluating the model."


@dataclass(slots=True, eq=False)
class Work:
    call: Call
    respond: Callable[[Reply], None]
    dropped: bool = False
    """Set by the loop's side when it has answered already."""
    table: Table | None = None
    methods: tuple[str, ...] = ()


@dataclass(slots=True)
class Scorer:
    """Give it work with `submit`; `deliver` gets the replies, in the scoring thread.

    `observe` is told how long each call of the model took and how many rows it had.
    """

    model: LoadedModel
    deliver: Callable[[Sequence[tuple[Work, Reply]]], None]
    observe: Callable[[float, int], None]
    batch_rows: int = 64
    _waiting: queue.SimpleQueue[Work | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        # A daemon: a model that never returns must not keep a stopped process alive.
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> None:
        self._waiting.put(work)

    def stop(self) -> None:
        self._waiting.put(None)

    def _run(self) -> None:
        while True:
            works = self._next()
            if works is None:
                return
            replies = list(self._answers([work for work in works if not work.dropped]))
            if replies:
                self.deliver(replies)

    def _next(self) -> list[Work] | None:
        first = self._waiting.get()
        if first is None:
            return None
        works = [first]
        while len(works) < self.batch_rows:
            try:
                more = self._waiting.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._waiting.put(None)
                break
            works.append(more)
        return works

    def _answers(self, works: Sequence[Work]) -> Iterable[tuple[Work, Reply]]:
        ready: list[Work] = []
        for work in works:
            try:
                work.table, work.methods = work.call.read(self.model)
                ready.append(work)
            except RequestError as error:
                yield work, work.call.refuse(error)
            except Exception:  # noqa: BLE001 - a fault of ours must cost one answer, not the thread
                yield work, work.call.refuse(_internal())
        for group in self._groups(ready):
            yield from self._predicted(group)

    def _groups(self, works: Sequence[Work]) -> list[list[Work]]:
        groups: list[list[Work]] = []
        open_groups: dict[tuple[object, ...], tuple[list[Work], int]] = {}
        for work in works:
            table = _table_of(work)
            if not (table.mergeable and self.model.rows_are_independent and table.rows < self.batch_rows):
                groups.append([work])
                continue
            key = (table.mergeable, work.methods)
            group, rows = open_groups.get(key, ([], 0))
            if not group or rows + table.rows > self.batch_rows:
                group, rows = [], 0
                groups.append(group)
            group.append(work)
            open_groups[key] = (group, rows + table.rows)
        return groups

    def _predicted(self, group: Sequence[Work]) -> Iterable[tuple[Work, Reply]]:
        if len(group) > 1:
            try:
                results = self._call(_stacked(group), group[0].methods)
            except Exception:  # noqa: BLE001 - whose fault it is shows when each is tried alone
                for work in group:
                    yield from self._predicted([work])
                return
            begin = 0
            for work in group:
                end = begin + _table_of(work).rows
                yield work, _answer(work, {name: block[begin:end] for name, block in results.items()})
                begin = end
            return
        work = group[0]
        try:
            yield work, _answer(work, self._call(_table_of(work), work.methods))
        except RequestError as error:
            yield work, work.call.refuse(error)
        except Exception:  # noqa: BLE001 - a model may raise anything; its text stays inside
            yield work, work.call.refuse(_internal())

    def _call(self, table: Table, methods: Sequence[str]) -> dict[str, Any]:
        began = time.perf_counter()
        results = {method: self.model.predict(table, method) for method in methods}
        self.observe(time.perf_counter() - began, table.rows)
        return results


def _answer(work: Work, results: dict[str, Any]) -> Reply:
    try:
        return work.call.answer(results)
    except Exception:  # noqa: BLE001 - e.g. a result that JSON has no form for
        return work.call.refuse(_internal())


def _stacked(group: Sequence[Work]) -> Table:

    blocks = [_table_of(work).values for work in group]
    return Table(np.concatenate(blocks), sum(len(block) for block in blocks), "")


def _table_of(work: Work) -> Table:
    assert work.table is not None
    return work.table


def _internal() -> RequestError:
    return RequestError(_FAILED, status=500, code="INTERNAL_ERROR")
