"""What a site tells of its policy, where the policy itself says `publish_policy: true`: rules and no person.

An allow-list of sections: what one job may have, what may leave, budgets, and for
each dataset that is offered its purpose, last day and number of runs. Never signers,
reviewers, their keys, whom a dataset was granted to, deployments or bases.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from insitu.gate.policy.loading import Policy
from insitu.wire.datasets import PublishedGrant, PublishedPolicy, RuleValue

SECTIONS = ("sandbox", "release", "budget")


def published(policy: Policy | None, offered: Collection[str]) -> PublishedPolicy | None:
    """What the hub may know of a policy; None unless the policy says so.

    Args:
        offered: names of the datasets that this site offers: a grant for another one is not told.
    """
    if policy is None or not policy.publish_policy:
        return None
    document = policy.model_dump(mode="json", by_alias=True, exclude_none=True, include={*SECTIONS})
    grants = {
        name: PublishedGrant(purpose=rules.purpose, until=rules.until, runs=rules.runs)
        for name, rules in policy.datasets.items()
        if name in offered
    }
    try:
        return PublishedPolicy(version=policy.version, rules=dict(_flat(document, ())), datasets=grants)
    except ValidationError:
        return None  # more than the hub takes: then it hears nothing of it, and of all else what it heard before


def _flat(document: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, RuleValue]]:
    for key, value in document.items():
        here = (*path, key)
        if isinstance(value, Mapping):
            yield from _flat(value, here)
        else:
            yield ".".join(here), value


def as_document(told: PublishedPolicy) -> dict[str, Any]:
    """The rules again as sections of a policy file. Whoever uses them adds people and bases of their own."""
    document: dict[str, Any] = {"version": told.version}
    for key, value in told.rules.items():
        *above, last = key.split(".")
        section = document
        for name in above:
            section = section.setdefault(name, {})
        section[last] = value
    document["datasets"] = {name: grant.model_dump() for name, grant in told.datasets.items()}
    return document
