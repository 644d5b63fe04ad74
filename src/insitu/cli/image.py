"""`insitu image …`: OCI images of models, built by the hub without a daemon."""

from __future__ import annotations

from typing import Annotated

import typer

from insitu.cli.commands import command, group
from insitu.cli.job_text import reason
from insitu.cli.output import Cell, current, fields, heading, short, state, when
from insitu.cli.session import hub
from insitu.domain.quantities import format_bytes
from insitu.wire.people import ImageView

app = group("OCI images of models.")


@command(app, "build")
def build(
    model: Annotated[str, typer.Argument(help="name, name:3 or name@champion.", metavar="MODEL")],
    *,
    push: Annotated[bool, typer.Option(help="Push it to the hub's registry, where one is configured.")] = True,
    wait: Annotated[bool, typer.Option(help="Wait until it is built.")] = True,
) -> None:
    """Build an image of a model version: the same version gives the same digest."""
    out = current()
    with hub() as client:
        version = client.model(model)
        image = client.build_image(version.name, version.version, push=push)
        if wait:
            with out.progress(f"building an image of {version.name}:{version.version}"):
                image = client.wait_image(image.id)
    _show(image)
    if image.state == "failed":
        raise typer.Exit(1)


@command(app, "list")
def list_() -> None:
    """Images, newest first."""
    with hub() as client:
        found = client.images()
    columns = {
        "image": lambda one: one.id,
        "state": lambda one: state(one.state),
        "model": lambda one: f"{one.model}:{one.version}",
        "digest": lambda one: short(one.digest),
        "size": lambda one: format_bytes(one.size_bytes),
        "pushed": lambda one: "yes" if one.pushed else "",
        "built": lambda one: when(one.created_at),
    }
    current().table(found, columns, key=lambda one: one.id, empty="No image yet: `insitu image build MODEL`.")


@command(app, "show")
def show(image: Annotated[str, typer.Argument(help="Its id or digest.", metavar="IMAGE")]) -> None:
    """One image: reference, digest, size, and what it was made of."""
    with hub() as client:
        found = client.image(image)
    _show(found)


def _show(image: ImageView) -> None:
    facts: dict[str, Cell | None] = {
        "state": state(image.state),
        "model": f"{image.model}:{image.version}",
        "reference": image.reference,
        "digest": image.digest,
        "size": format_bytes(image.size_bytes) if image.size_bytes else None,
        "pushed": "yes" if image.pushed else "no",
        "base": short(image.base),
        "packages": short(image.lock),
        "built": when(image.created_at),
    }
    current().show(image, heading(image.id), fields(facts), *reason(image.reason), name=image.id)
