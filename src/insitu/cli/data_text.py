"""What is told of a dataset, as text for people; and what a steward's options say of its columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from insitu.cli.output import Cell, fields, heading, printable, short, table
from insitu.domain.errors import InvalidInputError
from insitu.wire.datasets import ColumnView, DatasetOffer
from insitu.wire.names import did_you_mean
from insitu.wire.people import DatasetView

_SUMMARIES = ("range", "quartiles", "categories", "missing")
_WORDS = (*_SUMMARIES, "hidden", "names")


def column_changes(columns: Sequence[str], sensitivities: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`age:range,missing` and `age:personal`, as keys of `publish.yaml`.

    Raises:
        InvalidInputError: one is not NAME:WORD, or the word is none.
    """
    changes: dict[str, dict[str, Any]] = {}
    for text in columns:
        name, words = _split(text, "--column", "age:range,missing")
        wrong = next((word for word in words if word not in _WORDS), None)
        if wrong is not None:
            raise InvalidInputError(
                f"{wrong!r} can't be told of a column", code="publish-word", hint=did_you_mean(wrong, _WORDS)
            )
        change = changes.setdefault(name, {"publish": [], "hidden": False})
        change["publish"] += [word for word in words if word in _SUMMARIES]
        change["hidden"] = change["hidden"] or "hidden" in words
    for text in sensitivities:
        name, words = _split(text, "--sensitivity", "age:personal")
        changes.setdefault(name, {})["sensitivity"] = ",".join(words)
    return changes


def _split(text: str, option: str, example: str) -> tuple[str, list[str]]:
    name, mark, words = text.rpartition(":")  # a column's name may have colons in it, a word has none
    if not mark or not name or not words:
        raise InvalidInputError(f"{option} {text!r} is not NAME:WORD", code="publish-word", hint=f"e.g. {example}")
    return name, [word.strip() for word in words.split(",")]


# -- at the site -------------------------------------------------------------------------------------------------------


def at_site(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A version as its steward sees it: what the hub is told, and what it isn't."""
    yield ""
    yield heading("The hub is told:")
    yield from _told(DatasetOffer.model_validate(found["told"]))
    yield from withheld(found)
    if found["publish_pending"]:
        file, label = found["publish_file"], f"{found['name']}@{found['version']}"
        yield Text(f"{file} says something else than what is told: `insitu data publish {label}`", "yellow")


def would_be_told(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What a publication would tell, and why some of what was chosen would not be."""
    yield heading("The hub would be told:")
    yield from _told(DatasetOffer.model_validate(found["told"]))
    yield from withheld(found)
    for note in found["notes"]:
        yield Text(printable(note), style="yellow")


def withheld(found: Mapping[str, Any]) -> Iterator[Text]:
    """Names that stay at the site, at most a few of them."""
    names = found["withheld"]
    for one in names[:5]:
        words = f"column {one['name'][:60]!r} is told as {one['told']}: {one['why']}"
        yield Text(f"{printable(words)}; `as: NAME` in publish.yaml gives it a name", style="yellow")
    if len(names) > 5:
        yield Text(f"… and {len(names) - 5} more columns", style="yellow")


def _told(offer: DatasetOffer) -> Iterator[RenderableType]:
    yield fields(
        {
            "name": f"{offer.name}@{offer.version}, {short(offer.digest)}",
            "rows": offer.rows,
            "format": offer.format,
            **_words_about(offer),
        }
    )
    yield _columns(offer.columns)


# -- at the hub --------------------------------------------------------------------------------------------------------


def at_hub(view: DatasetView) -> Iterator[RenderableType]:
    """A version as everybody at the hub sees it."""
    yield fields(
        {
            "site": view.site,
            "rows": view.rows,
            "format": view.format,
            "digest": short(view.digest),
            **_words_about(view),
            "": "No rows are shown or stored here.",
        }
    )
    yield ""
    yield _columns(view.columns)


def _words_about(one: DatasetOffer | DatasetView) -> dict[str, Cell | None]:
    return {
        "description": one.description,
        "owner": one.owner,
        "purpose": one.purpose,
        "licence": one.licence,
        "summaries": f"rounded; each stands for {one.minimum_rows} rows or more" if one.minimum_rows else "",
    }


def _columns(columns: Sequence[ColumnView]) -> RenderableType:
    if not columns:
        return Text("no columns", style="dim")
    shown: dict[str, Any] = {
        "column": lambda one: one.name,
        "type": lambda one: one.type if one.nullable else f"{one.type}, in each row",
    }
    if any(column.sensitivity for column in columns):
        shown["sensitivity"] = lambda one: one.sensitivity
    if any(column.summary for column in columns):
        shown["values"] = _values
    return table(columns, shown)


def _values(column: ColumnView) -> str:
    told = column.summary
    if told is None:
        return ""
    parts = [
        f"{told.range[0]:.12g} to {told.range[1]:.12g}" if told.range else "",
        f"quartiles {', '.join(f'{one:.12g}' for one in told.quartiles)}" if told.quartiles else "",
        f"{', '.join(told.categories)}" if told.categories else "",
        f"missing: {told.missing}" if told.missing else "",
    ]
    return "; ".join(part for part in parts if part)
