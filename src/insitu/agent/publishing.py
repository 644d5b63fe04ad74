"""What the hub is told of a dataset version: by default names and types; more where the steward says so, column by column.

    publish.yaml     what the steward chose: a file beside the version, to read and review
    published.json   what comes of it: exactly what the hub is told, made when it is asked for and not before

Without the second the hub gets the default. The chosen summaries are made here, at the
site, once; `agent/sync.py` writes each new state into the ledger before it sends it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from insitu.agent.catalogue import DatasetVersion, find_dataset, list_datasets
from insitu.agent.column_names import Withheld, objection_to, told_names
from insitu.agent.column_summaries import summarise
from insitu.agent.folder import SiteFolder, write_atomic
from insitu.agent.suppression import DEFAULT_MINIMUM_ROWS, LEAST_MINIMUM_ROWS
from insitu.domain.digests import digest_of
from insitu.domain.errors import InvalidInputError, NotFoundError
from insitu.wire.datasets import ColumnView, DatasetOffer, Sensitivity
from insitu.wire.names import did_you_mean, explain

_CODE = "publish"
_MOST_BYTES = 64_000  # of one version's summaries: they are part of each message to the hub

Word = Literal["range", "quartiles", "categories", "missing"]
WORDS: tuple[Word, ...] = ("range", "quartiles", "categories", "missing")
ARROW_TYPES: Mapping[str, str] = {"integer": "int64", "number": "double", "text": "string"}


class _Chosen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ColumnChoice(_Chosen):
    """What the hub is told of one column."""

    publish: tuple[Word, ...] = Field(default=(), description="summaries of its values")
    hidden: bool = Field(default=False, description="not even its name and type")
    told_as: str | None = Field(default=None, alias="as", max_length=100, description="another name for it")
    nullable: bool = True
    sensitivity: Sensitivity = ""


class Publication(_Chosen):
    """The file `publish.yaml`. Unknown keys are errors."""

    owner: str = Field(default="", max_length=200)
    purpose: str = Field(default="", max_length=500)
    licence: str = Field(default="", max_length=200)
    minimum_rows: int = Field(default=DEFAULT_MINIMUM_ROWS, ge=LEAST_MINIMUM_ROWS, le=1_000_000)
    columns: dict[str, ColumnChoice] = Field(default_factory=dict[str, ColumnChoice])


@dataclass(frozen=True)
class Told:
    """What the hub is told, or would be, and what of a steward's choice it isn't."""

    offer: DatasetOffer
    withheld: tuple[Withheld, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """For the steward alone: which summaries too few rows stand behind."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "told": self.offer.model_dump(mode="json"),
            "withheld": [vars(one) for one in self.withheld],
            "notes": list(self.notes),
        }


# -- what the hub is told ----------------------------------------------------------------------------------------------


def offers(folder: SiteFolder) -> list[DatasetOffer]:
    """All that the hub is told of this site's datasets."""
    return [offer_of(version) for version in list_datasets(folder)]


def offer_of(version: DatasetVersion) -> DatasetOffer:
    """What the hub is told of a version now. Where that can't be read, nothing of its columns."""
    try:
        published = json.loads((version.folder / "published.json").read_text())
        return DatasetOffer.model_validate(published["offer"])
    except FileNotFoundError:
        return make_offer(version, Publication()).offer
    except (OSError, ValueError, KeyError, TypeError):
        return _without_columns(version)


def is_pending(version: DatasetVersion) -> bool:
    """Whether `publish.yaml` says something else than what was published by it."""
    try:
        text = (version.folder / "publish.yaml").read_bytes()
    except OSError:
        return False
    try:
        published = json.loads((version.folder / "published.json").read_text())
    except (OSError, ValueError):
        return text != default_text(version).encode()
    return bool(published.get("made_from") != digest_of(text))


def make_offer(version: DatasetVersion, chosen: Publication) -> Told:
    """What the hub would be told by this choice. Reads the data only for summaries.

    Raises:
        InvalidInputError: it names a column that there is not, or one name twice, or tells too much to send.
    """
    names = [name for name, _ in version.columns]
    _check_names(names, chosen)
    told, withheld = told_names(names)
    summaries, notes = summarise(version, {name: one.publish for name, one in chosen.columns.items()}, chosen)
    columns: list[ColumnView] = []
    for name, instead, (_, kind) in zip(names, told, version.columns, strict=True):
        choice = chosen.columns.get(name, ColumnChoice())
        if choice.hidden:
            continue
        columns.append(
            ColumnView(
                name=choice.told_as or instead,
                type=ARROW_TYPES.get(kind, kind),
                nullable=choice.nullable,
                sensitivity=choice.sensitivity,
                summary=summaries.get(name),
            )
        )
    _check_once([column.name for column in columns])
    offer = _without_columns(version).model_copy(
        update={
            "columns": columns,
            "owner": chosen.owner,
            "purpose": chosen.purpose,
            "licence": chosen.licence,
            "minimum_rows": chosen.minimum_rows if summaries else 0,
        }
    )
    _check_size(offer, sum(len(one.model_dump_json()) for one in summaries.values()))
    named = {name for name, choice in chosen.columns.items() if choice.told_as or choice.hidden}
    return Told(offer, tuple(one for one in withheld if one.name not in named), tuple(notes))


def _without_columns(version: DatasetVersion) -> DatasetOffer:
    return DatasetOffer(
        name=version.name,
        version=version.version,
        digest=version.digest,
        rows=version.row_band,
        description=version.description[:1000],
        format=version.format,
    )


def _check_names(names: Sequence[str], chosen: Publication) -> None:
    for name, choice in chosen.columns.items():
        if name not in names:
            raise InvalidInputError(
                f"the dataset has no column {name!r}", code="publish-column", hint=did_you_mean(name, names[:1000])
            )
        if choice.told_as is not None and (why := objection_to(choice.told_as) or ("" if choice.told_as else "empty")):
            raise InvalidInputError(
                f"column {name!r} can't be told as {choice.told_as!r}",
                code="publish-name",
                why=why,
                hint="a short name of words",
            )


def _check_once(told: Sequence[str]) -> None:
    twice = {name for name in told if told.count(name) > 1} if len(set(told)) < len(told) else set[str]()
    if twice:
        raise InvalidInputError(
            f"two columns would be told as {min(twice)!r}", code="publish-name", hint="change one of them under `as`"
        )


def _check_size(offer: DatasetOffer, size: int) -> None:
    if size > _MOST_BYTES:
        raise InvalidInputError(
            f"too much would be told of {offer.name}@{offer.version}",
            code="publish-size",
            measure=f"{size} bytes",
            limit=f"{_MOST_BYTES} bytes",
            hint="publish summaries of fewer columns, or fewer categories",
        )


# -- what the steward chose --------------------------------------------------------------------------------------------


def read_publication(version: DatasetVersion) -> Publication:
    """`publish.yaml` of a version; the default where there is none.

    Raises:
        InvalidInputError: it is not right; it names the key.
    """
    path = version.folder / "publish.yaml"
    if not path.exists():
        return Publication()
    return parse_publication(path.read_text(), what=str(path))


def parse_publication(text: str, *, what: str = "publish.yaml") -> Publication:
    """As `read_publication`, of a text."""
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as exc:
        raise InvalidInputError(f"{what} is not YAML", code=_CODE, why=str(exc).splitlines()[0]) from exc
    try:
        return Publication.model_validate(document)
    except ValidationError as exc:
        raise explain(exc, Publication, what=what, code=_CODE) from exc


def change(chosen: Publication, changes: Mapping[str, Any]) -> Publication:
    """`chosen` with other values: `columns` are merged column by column, by their names in the file.

    Raises:
        InvalidInputError: an unknown key or a wrong value.
    """
    document = chosen.model_dump(by_alias=True)
    columns: dict[str, Any] = document["columns"]
    for name, more in changes.get("columns", {}).items():
        columns[name] = {**columns.get(name, {}), **more}
    document |= {key: value for key, value in changes.items() if key != "columns"}
    try:
        return Publication.model_validate(document)
    except ValidationError as exc:
        raise explain(exc, Publication, what="what to publish", code=_CODE) from exc


def publish(version: DatasetVersion, chosen: Publication, *, write: bool = True) -> Told:
    """Make what the hub is told, and from then on tell it. `write=False`: only show it."""
    told = make_offer(version, chosen)
    if write:
        text = publication_text(version, chosen).encode()
        write_atomic(version.folder / "publish.yaml", text, mode=0o600)
        document = {"offer": told.offer.model_dump(mode="json"), "made_from": digest_of(text)}
        write_atomic(version.folder / "published.json", json.dumps(document).encode())
    return told


# -- the file ----------------------------------------------------------------------------------------------------------


def write_default(folder: SiteFolder, version: DatasetVersion) -> None:
    """A commented file for a new version; owner, purpose and licence as they were for the one before it."""
    write_atomic(version.folder / "publish.yaml", default_text(version, _before(folder, version)).encode())


def _before(folder: SiteFolder, version: DatasetVersion) -> Publication:
    try:
        return read_publication(find_dataset(folder, version.name, version.version - 1))
    except (InvalidInputError, NotFoundError):
        return Publication()


def default_text(version: DatasetVersion, before: Publication | None = None) -> str:
    """The file as `data add` writes it: nothing beyond names and types."""
    known = before or Publication()
    kept = Publication(owner=known.owner, purpose=known.purpose, licence=known.licence)
    return publication_text(version, kept)


_HEAD = """\
# What the hub is told about {label}, beside its name, version and a band of its rows ({band}).
# As it stands: each column's name and type. Summaries are rounded, and none stands for fewer than `minimum_rows` rows.
#   insitu data publish {label} --dir DIR     shows what comes of this file, asks, and tells it from then on
#   insitu data show {label} --dir DIR        says what the hub is told now
#
# For each column:
#   publish      any of range, quartiles, categories, missing; the hub hears nothing of its values otherwise
#   hidden       true: not even its name and type
#   as           another name for it beyond this site
#   nullable     false: each row has a value. Say it only if that is a rule; true is told otherwise
#   sensitivity  public, internal, personal or special: a word for people, which nothing enforces
# e.g.  age: {{publish: [range, missing], sensitivity: personal}}

"""


def publication_text(version: DatasetVersion, chosen: Publication) -> str:
    """A publication as a file for people."""
    document = chosen.model_dump(mode="json", by_alias=True, exclude={"columns"})
    document["columns"] = {
        name: one.model_dump(mode="json", by_alias=True, exclude_defaults=True) for name, one in chosen.columns.items()
    }
    body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    return _HEAD.format(label=version.label, band=version.row_band) + body
