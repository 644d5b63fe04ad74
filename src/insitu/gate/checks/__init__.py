"""One rule in each file: `check(subject, terms) -> Finding | None`.

`CHECKS` is in the order in which they decide: when several rules object to one
output, the first one here is named as the one that decided, and all of them are
listed. What an output *holds* comes before how it is packed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from insitu.domain.outputs import Finding
from insitu.gate.checks import (
    ceiling,
    declared_only,
    encoded_text,
    extremes,
    file_count,
    kind,
    known_content,
    names,
    pickles,
    readable,
    rows_in_model,
    rows_in_text,
    size,
    small_groups,
    small_leaves,
    stored_rows,
    types,
    vocabulary,
)
from insitu.gate.subject import Subject, Terms

Check = Callable[[Subject, Terms], Finding | None]

CHECKS: Mapping[str, Check] = {
    "declared-only": declared_only.check,
    "rows-in-model": rows_in_model.check,
    "rows-in-text": rows_in_text.check,
    "known-content": known_content.check,
    "stored-rows": stored_rows.check,
    "small-leaves": small_leaves.check,
    "small-groups": small_groups.check,
    "extremes": extremes.check,
    "vocabulary": vocabulary.check,
    "size": size.check,
    "pickles": pickles.check,
    "types": types.check,
    "encoded-text": encoded_text.check,
    "names": names.check,
    "kind": kind.check,
    "readable": readable.check,
    "file-count": file_count.check,
    "ceiling": ceiling.check,
}
