"""What `GET /metrics` says, in Prometheus' text format 0.0.4.

Labels are route templates and status codes, both from closed sets: a caller can't
make series by inventing paths. Nothing is derived from the content of requests.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1024.0)


class Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> Iterable[str]:
        prefix = f"{labels}," if labels else ""
        total = 0
        for bound, count in zip((*map(repr, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{prefix}le="{bound}"}} {total}'
        suffix = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{suffix} {self._sum!r}"
        yield f"{name}_count{suffix} {total}"


class Metrics:
    """Requests are counted by the loop alone; the model's calls by the scoring thread, under a lock."""

    def __init__(self, *, model: str, version: str) -> None:
        self._info = f'model="{_escaped(model)}",version="{_escaped(version)}"'
        self._requests: Counter[tuple[str, int]] = Counter()
        self._durations: dict[str, Histogram] = {}
        self._predict = Histogram(_SECONDS)
        self._rows = Histogram(_ROWS)
        self._lock = threading.Lock()

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests[route, status] += 1
        histogram = self._durations.get(route)
        if histogram is None:
            histogram = self._durations[route] = Histogram(_SECONDS)
        histogram.observe(seconds)

    def prediction(self, seconds: float, rows: int) -> None:
        with self._lock:
            self._predict.observe(seconds)
            self._rows.observe(rows)

    def text(self, *, ready: bool, waiting: int) -> str:
        lines = [
            *_head("insitu_serving_model_info", "gauge", "The model that this process serves."),
            f"insitu_serving_model_info{{{self._info}}} 1",
            *_head("insitu_serving_ready", "gauge", "1 when the model is loaded and requests are taken."),
            f"insitu_serving_ready {int(ready)}",
            *_head("insitu_serving_waiting_requests", "gauge", "Predictions asked for and not answered yet."),
            f"insitu_serving_waiting_requests {waiting}",
            *_head("http_requests_total", "counter", "Answered requests by route and status."),
        ]
        for (route, status), count in sorted(self._requests.items()):
            lines.append(f'http_requests_total{{route="{route}",code="{status}"}} {count}')
        lines += _head("http_request_duration_seconds", "histogram", "From the last byte in to the answer ready.")
        for route, histogram in sorted(self._durations.items()):
            lines += histogram.lines("http_request_duration_seconds", f'route="{route}"')
        with self._lock:
            lines += _head("request_predict_seconds", "histogram", "One call of the model.")
            lines += self._predict.lines("request_predict_seconds", "")
            lines += _head("insitu_serving_rows_per_call", "histogram", "Rows in one call of the model.")
            lines += self._rows.lines("insitu_serving_rows_per_call", "")
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
