"""A policy that changed while a job runs: stricter applies at once, to what the job says from then on.

The gate's process of a job goes by the policy that it was started with. What it
lets out is looked at once more here, by the policy as it is now: the counts, sizes,
digits and modes, which need no data. (Rates and names stay as they were.) With the same policy that changes nothing. A
looser one changes nothing either, since what the first look kept is not here.

While there is no readable policy nothing is taken from the gate's process at all; it
waits in the gate's own file, and goes on from there when the policy has been mended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from insitu.gate.channels.logs import ERROR_BYTES, rounded_line
from insitu.gate.channels.metrics import round_significant
from insitu.gate.policy.keys import KEYS, Ranked
from insitu.gate.policy.loading import Policy
from insitu.gate.policy.values import ReleaseRules

Event = dict[str, Any]


def channels(policy: Policy) -> dict[str, Any]:
    """What has to be remembered of the policy that a gate process is started with."""
    release = policy.release
    return {"logs": release.logs.mode, "errors": release.errors, "digits": release.metrics.digits}


class SecondLook:
    """One attempt's events, by the policy as it is when they come."""

    def __init__(self, started_with: Mapping[str, Any], so_far: Mapping[str, int]) -> None:
        self._started = started_with
        self._counts = Counter(so_far)  # of events, by kind
        self._bytes: Counter[str] = Counter()  # of text, by channel

    def may_leave(self, events: Iterable[Event], policy: Policy) -> list[Event]:
        """Those that this policy lets out too, and how many it doesn't."""
        leaves: list[Event] = []
        stays: Counter[str] = Counter()
        for event in events:
            rule = _RULES.get(event["kind"])
            passed = rule(self, event, policy.release) if rule else event
            if passed is None:
                stays[_CLASS[event["kind"]]] += 1
            else:
                leaves.append(passed)
        kept = [{"kind": "kept", "what": f"{what}, by a newer policy", "count": count} for what, count in stays.items()]
        return [*leaves, *kept]

    def _metric(self, event: Event, release: ReleaseRules) -> Event | None:
        if self._counts["metric"] >= release.metrics.max_count:
            return None
        self._counts["metric"] += 1
        return {**event, "value": round_significant(float(event["value"]), release.metrics.digits)}

    def _pair(self, event: Event, release: ReleaseRules) -> Event | None:
        size = len(event["key"].encode()) + len(event["value"].encode(errors="replace"))
        return self._within("params", size, release.params.max_bytes, event)

    def _line(self, event: Event, release: ReleaseRules) -> Event | None:
        if _is_stricter("release.logs.mode", self._started.get("logs", "open"), release.logs.mode):
            return None  # also what is left of a traceback: which lines those are is not to be seen here
        errors = _is_stricter("release.errors", self._started.get("errors", "type-and-frames"), release.errors)
        if errors and event["stream"] == "stderr":
            return None
        if release.logs.mode == "scanned" and release.metrics.digits < self._started.get("digits", 8):
            event = {**event, "text": rounded_line(event["text"], release.metrics.digits)}
        size = len(event["text"].encode(errors="replace"))
        return self._within("logs", size, release.logs.max_bytes + ERROR_BYTES, event)

    def _within(self, channel: str, size: int, limit: int, event: Event) -> Event | None:
        if self._bytes[channel] + size > limit:
            return None
        self._bytes[channel] += size
        return event


def _is_stricter(key: str, before: str, after: str) -> bool:
    order = KEYS[key].order
    return isinstance(order, Ranked) and order.words.index(after) < order.words.index(before)


_RULES: Mapping[str, Callable[[SecondLook, Event, ReleaseRules], Event | None]] = {
    "metric": SecondLook._metric,
    "param": SecondLook._pair,
    "tag": SecondLook._pair,
    "log": SecondLook._line,
}
_CLASS = {"metric": "metric", "param": "parameter", "tag": "tag", "log": "log line"}
