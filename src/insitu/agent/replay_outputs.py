"""Judged outputs under another policy: again by the real judge where the canonical copy is kept, else from the record.

A canonical copy is what would leave, so the judge finds in it what it would find
today. What the job wrote beside it is gone, and with it what only the original
showed (a pickle, a name, code): such findings are taken over from the record, since
no policy makes them go away. Where neither tells, the answer is "can't tell".
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu.agent.catalogue import find_dataset
from insitu.agent.folder import SiteFolder
from insitu.agent.frozen import check_frozen
from insitu.agent.judge_copies import judge_copies
from insitu.agent.review_queue import ItemRow
from insitu.agent.store import AttemptRow, Store
from insitu.domain.errors import InsituError
from insitu.domain.outputs import Decision, OutputType, Verdict
from insitu.gate import smoke
from insitu.gate.policy.loading import Policy
from insitu.wire.jobs import VerifiedJob

_SEEN_IN_COPY = frozenset(
    {"clean", "rows-in-model", "rows-in-text", "size", "file-count", "types", "kind", "ceiling", "no-envelope"}
)
"""Rules with a limit of the policy's, which the judge settles on a canonical copy as it did on the original."""

CANT_TELL = "can't tell"


@dataclass(frozen=True)
class OutputReplay:
    """One output: the decision then, and under the new policy."""

    output: str
    then: str
    then_rule: str
    now: str  # a decision, or "can't tell"
    now_rule: str
    measure: str
    limit: str
    how: str  # judged again | from the record | why it can't be told

    @property
    def differs(self) -> bool:
        return self.now not in (self.then, CANT_TELL)


@dataclass(frozen=True)
class OutputTest:
    """A job whose outputs are asked about, and the policy that is tried."""

    row: AttemptRow
    job: VerifiedJob
    policy: Policy
    text: str

    def otherwise(self, output: str) -> str:
        kind = self.job.job.outputs[output].type
        models = kind in (OutputType.MLFLOW_MODEL, OutputType.CUSTOM_MODEL)
        return self.policy.release.models.otherwise if models else self.policy.release.files.otherwise

    def max_bytes(self, output: str) -> int:
        kind = self.job.job.outputs[output].type
        models = kind in (OutputType.MLFLOW_MODEL, OutputType.CUSTOM_MODEL)
        return self.policy.release.models.max_bytes if models else self.policy.release.files.max_bytes


def judge_again(
    tests: Mapping[str, OutputTest], folder: SiteFolder, store: Store, cache: Path, gate_uid: int
) -> dict[str, tuple[OutputReplay, ...]]:
    """Job → its outputs under the policy of its test."""
    found: dict[str, tuple[OutputReplay, ...]] = {}
    for job_id, test in tests.items():
        items = [item for item in store.queue.items(job_id=job_id) if item.attempt == test.row.attempt]
        found[job_id] = _outputs(items, test, folder, cache, gate_uid)
    return found


def _outputs(
    items: list[ItemRow], test: OutputTest, folder: SiteFolder, cache: Path, gate_uid: int
) -> tuple[OutputReplay, ...]:
    copies = {item.output: copy for item in items if (copy := _copy_of(item)) is not None}
    missing = _missing_data(test, folder)
    judged = (
        {}
        if missing or not copies
        else judge_copies(test.row, test.job, copies, test.text, folder=folder, cache=cache, gate_uid=gate_uid)
    )
    return tuple(
        _from_copy(item, judged[item.output], test)
        if item.output in judged
        else _from_record(
            item, test, missing or ("the judge ended early" if item.output in copies else "the copy is gone")
        )
        for item in items
    )


def _copy_of(item: ItemRow) -> Path | None:
    """The frozen copy, if it is what it was."""
    path = item.details.get("folder", "")
    with suppress(InsituError, OSError):
        if path:
            check_frozen(Path(path), item.digest)
            return Path(path)
    return None


def _missing_data(test: OutputTest, folder: SiteFolder) -> str:
    for pin in test.job.document.datasets:
        try:
            find_dataset(folder, pin.name, pin.version)
        except InsituError:
            return f"dataset {pin.name}@{pin.version} is gone"
    return ""


# -- judged again ------------------------------------------------------------------------------------------------------


def _from_copy(item: ItemRow, judged: Decision, test: OutputTest) -> OutputReplay:
    left = _only_in_original(item, test.policy)
    if left and judged.verdict is Verdict.RELEASED:
        return _told(item, _denied(test, item.output), left[0], how="judged again, with what the original showed")
    now = {"rule": judged.rule, "measure": judged.measure, "limit": judged.limit}
    return _told(item, judged.verdict.value, now, how="judged again")


def _only_in_original(item: ItemRow, policy: Policy) -> list[dict[str, Any]]:
    """Findings that no canonical copy shows, and no policy takes back."""
    asked = policy.release.models.smoke is not None
    return [
        finding
        for finding in _findings(item)
        if finding["rule"] not in _SEEN_IN_COPY and (asked or finding["rule"] != smoke.RULE)
    ]


# -- from the record ---------------------------------------------------------------------------------------------------


def _from_record(item: ItemRow, test: OutputTest, why: str) -> OutputReplay:
    """What the record alone settles: what nobody declared, what the original showed, what is too large or carries too much."""
    decision = item.decision
    if decision["verdict"] == Verdict.KEPT.value:
        return _told(item, Verdict.KEPT.value, decision, how="from the record")
    left = _only_in_original(item, test.policy)
    if left or decision.get("digest") is None:  # what could not be rewritten leaves under no policy
        found = left[0] if left else decision
        return _told(item, _denied(test, item.output), found, how="from the record")
    size, limit = int(decision.get("size_bytes", 0)), test.max_bytes(item.output)
    if size > limit:
        now = {"rule": "size", "measure": f"{size} bytes", "limit": f"{limit} bytes"}
        return _told(item, Verdict.REFUSED.value, now, how="from the record")
    return _told(item, CANT_TELL, {}, how=why)


def _denied(test: OutputTest, output: str) -> str:
    """What becomes of an output with a finding that a reviewer has to look at, whatever else it is."""
    return Verdict.REFUSED.value if test.otherwise(output) == "refused" else Verdict.HELD.value


def _findings(item: ItemRow) -> list[dict[str, Any]]:
    decision = item.decision
    if decision.get("findings"):
        return [dict(finding) for finding in decision["findings"]]
    judged = decision["verdict"] != Verdict.RELEASED.value and "overruled" not in item.details  # else a budget's rule
    return [decision] if judged else []


def _told(item: ItemRow, now: str, by: Mapping[str, Any], *, how: str) -> OutputReplay:
    return OutputReplay(
        output=item.output,
        then=str(item.decision["verdict"]),
        then_rule=str(item.details.get("verdict_rule") or item.decision.get("rule", "")),
        now=now,
        now_rule=str(by.get("rule", "")),
        measure=str(by.get("measure", "")),
        limit=str(by.get("limit", "")),
        how=how,
    )
