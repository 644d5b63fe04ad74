"""What the agent asks of the judge, and what the judge answers: values, and their JSON.

The judge is a process of its own (`judge.py`); these lines are all that passes
between the two. A reply holds rules, counts and names that the job declared,
never a value of the data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from insitu.domain.digests import Digest
from insitu.domain.outputs import Decision, Finding, OutputContract, OutputType, ReleaseContract, Verdict


@dataclass(frozen=True)
class JudgeLimits:
    """Bounds of one judgement, over all candidates."""

    time_s: float = 60.0
    expansion_bytes: int = 512_000_000
    members: int = 10_000


@dataclass(frozen=True)
class Candidate:
    """A declared output as the job left it: a frozen file or folder."""

    output: str
    type: OutputType
    path: Path


@dataclass(frozen=True)
class JudgeRequest:
    policy: str  # the text of the site's policy.yaml
    contract: ReleaseContract
    candidates: tuple[Candidate, ...]
    index_dirs: tuple[Path, ...]  # one for each dataset that the job read
    lock_packages: tuple[tuple[str, str], ...]
    out_dir: Path  # exists, writable: canonical copies go to out_dir/<output>/
    limits: JudgeLimits = field(default_factory=JudgeLimits)
    in_envelope: bool = False  # a run envelope, signed by a steward, covers the job


@dataclass(frozen=True)
class JudgeReply:
    decisions: tuple[Decision, ...]
    kept: Mapping[str, int] = field(default_factory=dict[str, int])
    """Parts of outputs that were left behind, by class: "example input", "code", …"""


def judge_request_json(request: JudgeRequest) -> str:
    """One line of JSON for the judge's standard input."""
    return json.dumps(asdict(request), default=str)


def parse_judge_request(text: str) -> JudgeRequest:
    """What the judge reads.

    Raises:
        ValueError, KeyError, TypeError: it is not a request; the judge then ends without a reply.
    """
    document = json.loads(text)
    contract = document["contract"]
    outputs = tuple(
        OutputContract(item["name"], OutputType(item["type"]), item["register"], item["max_bytes"])
        for item in contract["outputs"]
    )
    return JudgeRequest(
        policy=document["policy"],
        contract=ReleaseContract(tuple(contract["metrics"]), outputs),
        candidates=tuple(
            Candidate(item["output"], OutputType(item["type"]), Path(item["path"])) for item in document["candidates"]
        ),
        index_dirs=tuple(Path(path) for path in document["index_dirs"]),
        lock_packages=tuple((name, version) for name, version in document["lock_packages"]),
        out_dir=Path(document["out_dir"]),
        limits=JudgeLimits(**document["limits"]),
        in_envelope=document["in_envelope"],
    )


def judge_reply_json(reply: JudgeReply) -> str:
    return json.dumps({"decisions": [asdict(decision) for decision in reply.decisions], "kept": dict(reply.kept)})


def parse_judge_reply(text: str) -> tuple[Decision, ...]:
    """The decisions in a judge's reply.

    Raises:
        ValueError: it is not one. Then nothing was let out.
    """
    return read_judge_reply(text).decisions


def read_judge_reply(text: str) -> JudgeReply:
    """A judge's reply as a whole.

    Raises:
        ValueError: it is not one. Then nothing was let out.
    """
    try:
        document = json.loads(text)
        decisions = tuple(_decision(cast("dict[str, Any]", item)) for item in document["decisions"])
        kept = {str(name): int(count) for name, count in document["kept"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a reply of the judge") from error
    return JudgeReply(decisions, kept)


def _decision(item: dict[str, Any]) -> Decision:
    return Decision(
        name=item["name"],
        verdict=Verdict(item["verdict"]),
        rule=item["rule"],
        measure=item["measure"],
        limit=item["limit"],
        hint=item["hint"],
        findings=tuple(Finding(**finding) for finding in item["findings"]),
        checks=tuple(item["checks"]),
        not_checked=tuple(item["not_checked"]),
        passed_over=tuple(item["passed_over"]),
        size_bytes=item["size_bytes"],
        ceiling_bytes=item["ceiling_bytes"],
        digest=None if item["digest"] is None else Digest(item["digest"]),
        files=tuple(item["files"]),
    )
