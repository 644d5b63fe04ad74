"""What a gate let out of one job: all that a decoder gets to see.

The real gate fills it from the hub, as the job's owner would; the open gate from
what the script wrote. Neither adds anything that stayed at the site.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metric:
    key: str
    value: float
    step: int = 0
    timestamp_ms: int = 0


@dataclass(frozen=True)
class Decided:
    """What became of a declared output, as the hub was told."""

    verdict: str
    rule: str
    measure: str = ""
    limit: str = ""
    size_bytes: int = 0
    ceiling_bytes: int = 0


@dataclass
class LetOut:
    """One job's."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    """Output → path → content."""
    metrics: list[Metric] = field(default_factory=list[Metric])
    """In the order of arrival."""
    params: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    lines: list[str] = field(default_factory=list[str])
    """Log lines, those of tracebacks among them."""
    words: list[str] = field(default_factory=list[str])
    """Why it failed, run names, findings: every other text that reached the hub."""
    exit_code: int | None = None
    seconds: float = 0.0
    """How long the script ran, as the hub can tell."""
    decided: dict[str, Decided] = field(default_factory=dict[str, Decided])
    kept: dict[str, int] = field(default_factory=dict[str, int])
    state: str = ""

    @property
    def size_bytes(self) -> int:
        """Of everything in it."""
        files = sum(len(data) for paths in self.files.values() for data in paths.values())
        metrics = sum(len(metric.key) + 16 for metric in self.metrics)
        texts = [*self.lines, *self.words, *self.params, *self.params.values(), *self.tags, *self.tags.values()]
        return files + metrics + sum(len(text.encode(errors="replace")) for text in texts)

    def only_file(self, output: str) -> bytes:
        """The content of the one file of an output; empty if it did not leave."""
        return next(iter(self.files.get(output, {}).values()), b"")

    def values_of(self, prefix: str) -> list[Metric]:
        return [metric for metric in self.metrics if metric.key.startswith(prefix)]
