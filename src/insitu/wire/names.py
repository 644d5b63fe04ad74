"""Turns pydantic's complaints into ours: which key, why, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from insitu.domain.errors import InvalidInputError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the known names when nothing is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known keys: " + ", ".join(names)


def explain(exc: ValidationError, root: type[BaseModel], *, what: str, code: str) -> InvalidInputError:
    """The first complaint of `exc` about a document of type `root`, as an error for people."""
    first = exc.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "(top)"
    if first["type"] == "extra_forbidden":
        parent = _model_at(root, first["loc"][:-1])
        known = [field.alias or name for name, field in parent.model_fields.items()] if parent else []
        return InvalidInputError(
            f"{what}: unknown key {place!r}",
            code=f"{code}-unknown-key",
            why="a key that nothing reads would promise what nobody keeps",
            hint=did_you_mean(str(first["loc"][-1]), known) if known else "see the schema",
        )
    return InvalidInputError(
        f"{what}: {place} is not right",
        code=code,
        why=first["msg"],
        hint=f"{len(exc.errors()) - 1} more complaints follow once this is mended" if len(exc.errors()) > 1 else "",
    )


def _model_at(root: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model that stands at `path` below `root`, as far as annotations tell."""
    model: type[BaseModel] | None = root
    for part in path:
        if model is None:
            return None
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        if field is None:
            continue  # a key of a mapping or a tag of a union: stay where we are
        model = next(iter(_models_in(field.annotation)), None)
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    parts = cast("tuple[object, ...]", getattr(annotation, "__args__", ()))  # pyright: ignore[reportUnknownArgumentType]
    return [model for part in parts for model in _models_in(part)]  # a union, a list, an Annotated
