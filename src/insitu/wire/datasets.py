"""What a hub may know of a dataset version, and of the policy that its site publishes.

Never a path, never a row, a band instead of a count. A column is a name and a type;
a summary of it is there only where the steward chose so, and stands for at least
`minimum_rows` rows (the site sees to that: `agent/suppression.py`).
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_CATEGORIES = 50
LONGEST_CATEGORY = 60  # characters

ColumnType = Annotated[str, Field(max_length=40)]  # Arrow's name
Sensitivity = Literal["", "public", "internal", "personal", "special"]
MissingBand = Literal["few", "5-25%", "25-50%", "50-75%", "75-95%", "most"]
"""How many rows have no value; `few` and `most` are less than 5 % away from none and all, or fewer than the minimum."""


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnSummary(_Told):
    """What a steward chose to tell of a column's values. Empty: nothing."""

    range: tuple[float, float] | None = Field(default=None, description="rounded outward; a few rows lie beyond it")
    quartiles: tuple[float, float, float] | None = Field(default=None, description="rounded")
    categories: list[Annotated[str, Field(max_length=LONGEST_CATEGORY)]] = Field(
        default_factory=list[str], max_length=MAX_CATEGORIES, description="those that enough rows have"
    )
    missing: MissingBand | None = None


class ColumnView(_Told):
    name: str = Field(max_length=200)
    type: ColumnType
    nullable: bool = True  # as the steward says; one missing value would otherwise be told by it
    sensitivity: Sensitivity = ""
    summary: ColumnSummary | None = None


class DatasetOffer(_Told):
    """A dataset version as the hub may know it."""

    name: str
    version: int = Field(ge=1)
    digest: str  # keyed: names the version and tells nothing about its bytes
    rows: str = Field(max_length=40)  # band, e.g. "100-1k"
    columns: list[ColumnView] = Field(default_factory=list[ColumnView], max_length=10000)
    description: str = Field(default="", max_length=1000)
    format: str = Field(default="", max_length=20, description="csv, npy, …: what a job finds in the folder")
    owner: str = Field(default="", max_length=200)
    purpose: str = Field(default="", max_length=500)
    licence: str = Field(default="", max_length=200)
    minimum_rows: int = Field(
        default=0, ge=0, description="rows that each summary stands for at least; 0: there is none"
    )


# -- policy ------------------------------------------------------------------------------------------------------------

_Text = Annotated[str, Field(max_length=200)]
RuleValue = bool | int | float | _Text | Annotated[list[_Text], Field(max_length=200)]


class PublishedGrant(_Told):
    """For what, until when and in how many jobs a dataset may be used. For whom is the site's to know."""

    purpose: str = Field(max_length=200)
    until: dt.date
    runs: int = Field(ge=0)


class PublishedPolicy(_Told):
    """The rules of a site's policy, where the site publishes them: limits, formats, budgets, and no person."""

    version: int = Field(ge=1)
    rules: dict[Annotated[str, Field(pattern=r"^(sandbox|release|budget)(\.[a-z_]{1,60}){1,4}$")], RuleValue] = Field(
        max_length=300, description="key of the policy → value; sizes in bytes, times in seconds"
    )
    datasets: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")], PublishedGrant] = Field(
        default_factory=dict[str, PublishedGrant], max_length=1000
    )
