"""Which code a reviewer compares with: what was let out last, or else what a run envelope approved.

Approving code in advance and letting out what it wrote are both approvals. The second
is nearer to the item, so it counts first; where nothing like it was let out, or that
code lies here no more, the newest run envelope for the same model or output does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from insitu.agent.review_queue import ItemRow
from insitu.agent.run_envelopes import Standing


@dataclass(frozen=True)
class ApprovedCode:
    digest: str
    by: str
    """What approved it, for people."""


def approved_code(
    item: ItemRow, last: ItemRow | None, run_envelopes: Iterable[Standing], is_here: Callable[[str], bool]
) -> ApprovedCode | None:
    """The code to compare with; of several the nearest one that is still here.

    Args:
        last: what was let out last under the same name.
        run_envelopes: the site's, newest first.
        is_here: whether a snapshot is in the site's cache.
    """
    found = list(_candidates(item, last, run_envelopes))
    return next((one for one in found if is_here(one.digest)), found[0] if found else None)


def _candidates(item: ItemRow, last: ItemRow | None, run_envelopes: Iterable[Standing]) -> Iterator[ApprovedCode]:
    if last is not None and last.details.get("code"):
        yield ApprovedCode(last.details["code"], f"release {last.id}")
    for one in run_envelopes:
        document = one.approval.document
        output = document.outputs.get(item.output)
        in_force = one.revoked_at is None and bool(one.approval.signed_by)
        if in_force and output is not None and (output.register_as or "") == item.details.get("register", ""):
            short = one.approval.digest.removeprefix("sha256:")[:8]
            yield ApprovedCode(document.code, f"run envelope {short}, {document.title!r}")
