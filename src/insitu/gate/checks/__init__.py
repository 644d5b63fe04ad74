"""One rule in each file: `check(subject, terms) -> Finding | None`.

`CHECKS` is in the order in which they decide: when several rules object to one
output, the first one here is named as the one that decided, and all of them are
listed. What an output *holds* comes before how it is packed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from insitu.domain.outputs import Finding
from insitu.gate.checks import (
    declared_only,
    encoded_text,
    kind,
    names,
    pickles,
    readable,
    rows_in_model,
    rows_in_text,
    size,
    types,
)
from insitu.gate.subject import Subject, Terms

Check = Callable[[Subject, Terms], Finding | None]

CHECKS: Mapping[str, Check] = {
    "declared-only": declared_only.check,
    "rows-in-model": rows_in_model.check,
    "rows-in-text": rows_in_text.check,
    "size": size.check,
    "pickles": pickles.check,
    "types": types.check,
    "encoded-text": encoded_text.check,
    "names": names.check,
    "kind": kind.check,
    "readable": readable.check,
}
