"""One type for each thing that could be mixed up with another."""

from __future__ import annotations

import re
from typing import NewType

from insitu.domain.errors import InvalidInputError

JobId = NewType("JobId", str)  # j-<12 hex>
SiteName = NewType("SiteName", str)  # leeds
DatasetName = NewType("DatasetName", str)  # wdbc
RunId = NewType("RunId", str)  # MLflow's: 32 hex digits
Fence = NewType("Fence", int)  # grows with every lease of a job; an older one is refused

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")


def check_name(text: str, *, what: str) -> str:
    """`text` if it can name a site, dataset, model or deployment.

    Names become folders, labels and parts of URLs, so they are few in kind:
    1 to 63 of a-z, 0-9, dot, dash and underscore, a letter or digit at both ends.

    Raises:
        InvalidInputError: it can't.
    """
    if not _NAME.fullmatch(text) or ".." in text:
        raise InvalidInputError(
            f"{text[:80]!r} can't name a {what}",
            code="bad-name",
            hint="use 1 to 63 of a-z, 0-9, '.', '-' and '_', with a letter or digit at both ends",
        )
    return text
