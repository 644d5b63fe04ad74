"""A judged output's life at its site, as data: the only place that says what may follow what.

The gate's decision says where an output begins; a held one goes on when its reviewers
have given their verdicts. The diagram in docs/states.md is generated from `TRANSITIONS`.
The model is the release review of secure research environments, OpenSAFELY's Airlock
above all: content frozen by digest, two reviewers who work independently, reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from insitu.domain.outputs import Verdict


class ItemState(StrEnum):
    """Where a judged output is. The comment says what is physically true."""

    HELD = "held"  # frozen by digest; waits for a reviewer
    UNDER_REVIEW = "under_review"  # one verdict of two was given, and nobody is told which
    RELEASING = "releasing"  # on its way: ledger, then its bytes, then admission at the hub
    RELEASED = "released"  # the hub has admitted it
    ANNOUNCING = "announcing"  # it stays; a card that describes it is on its way: ledger, then the hub
    RESIDENT = "resident"  # it may be used at this site only; the hub has the card and never the bytes
    REJECTED = "rejected"  # it stays, for good
    CHANGES_REQUESTED = "changes_requested"  # it stays; its author was told what to change, and runs another job
    REFUSED = "refused"  # the policy forbids it
    KEPT = "kept"  # nobody declared it


class ReviewVerdict(StrEnum):
    """What a reviewer may say of a held output, from the mildest to the strictest."""

    APPROVE = "approve"  # it may leave
    RESIDENT = "resident"  # it may be used here, and not leave
    REQUEST_CHANGES = "request-changes"  # not like this; the reason says what to change
    REJECT = "reject"  # no; the reason says why


FIRST_STATE: Mapping[Verdict, ItemState] = {
    Verdict.RELEASED: ItemState.RELEASING,
    Verdict.HELD: ItemState.HELD,
    Verdict.RESIDENT: ItemState.ANNOUNCING,
    Verdict.REFUSED: ItemState.REFUSED,
    Verdict.KEPT: ItemState.KEPT,
}
"""Where the gate's decision puts an output."""

OUTCOME: Mapping[ReviewVerdict, ItemState] = {
    ReviewVerdict.APPROVE: ItemState.RELEASING,
    ReviewVerdict.RESIDENT: ItemState.ANNOUNCING,
    ReviewVerdict.REQUEST_CHANGES: ItemState.CHANGES_REQUESTED,
    ReviewVerdict.REJECT: ItemState.REJECTED,
}
"""Where a review ends."""

_REVIEWED = frozenset(OUTCOME.values())

TRANSITIONS: Mapping[ItemState, frozenset[ItemState]] = {
    ItemState.HELD: _REVIEWED | {ItemState.UNDER_REVIEW},
    ItemState.UNDER_REVIEW: _REVIEWED,
    # back to held, here and below: a budget or a newer policy said no after the gate or a reviewer had said yes
    ItemState.RELEASING: frozenset({ItemState.RELEASED, ItemState.HELD}),
    ItemState.ANNOUNCING: frozenset({ItemState.RESIDENT, ItemState.HELD}),
    ItemState.RELEASED: frozenset(),
    ItemState.RESIDENT: frozenset(),
    ItemState.REJECTED: frozenset(),
    ItemState.CHANGES_REQUESTED: frozenset(),
    ItemState.REFUSED: frozenset(),
    ItemState.KEPT: frozenset(),
}

WAITING: frozenset[ItemState] = frozenset({ItemState.HELD, ItemState.UNDER_REVIEW})
"""States that wait for a reviewer."""

UNDER_WAY: frozenset[ItemState] = frozenset({ItemState.RELEASING, ItemState.ANNOUNCING})
"""States in which something is being sent."""

DENIED: frozenset[ItemState] = frozenset({ItemState.REJECTED, ItemState.CHANGES_REQUESTED, ItemState.REFUSED})

NEEDS_REASON: frozenset[ReviewVerdict] = frozenset({ReviewVerdict.REJECT, ReviewVerdict.REQUEST_CHANGES})
"""Verdicts whose reason the data scientist has to see."""


def can_follow(before: ItemState, after: ItemState) -> bool:
    """Whether `after` may come directly after `before`."""
    return after in TRANSITIONS[before]


def state_after(verdicts: Sequence[ReviewVerdict], *, needed: int) -> ItemState:
    """Where an item is when these verdicts have been given, of `needed`.

    All verdicts are waited for, also when the first is a rejection: an item that left the
    queue at once would tell the second reviewer what the first one said. Then the strictest
    holds, so leaving takes an approval of everybody who was asked.
    """
    if len(verdicts) < needed:
        return ItemState.UNDER_REVIEW if verdicts else ItemState.HELD
    strictness = list(ReviewVerdict)
    return OUTCOME[max(verdicts, key=strictness.index)]


def diagram() -> str:
    """The transitions as a Mermaid state diagram, for docs/states.md."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in ItemState if state in FIRST_STATE.values()]
    for before in ItemState:
        lines += [f"    {before} --> {after}" for after in ItemState if can_follow(before, after)]
    lines += [f"    {state} --> [*]" for state in ItemState if not TRANSITIONS[state]]
    return "\n".join(lines) + "\n"
