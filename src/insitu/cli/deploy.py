"""`insitu deploy`: a signed wish that a site serve a model, followed until it answers."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from insitu.cli.commands import single
from insitu.cli.deployment import show_deployment
from insitu.cli.output import Output, command, current
from insitu.cli.session import hub
from insitu.domain.errors import UnavailableError
from insitu.sdk.client import Client
from insitu.wire.people import ImageView, ModelVersionView


def deploy(
    model: Annotated[str, typer.Argument(help="name, name:3 or name@champion.", metavar="MODEL")],
    *,
    site: Annotated[str, typer.Option("--site", help="Where to serve it.")],
    name: Annotated[str, typer.Option("--name", help="The deployment's name; by default the model's.")] = "",
    port: Annotated[
        int | None, typer.Option("--port", help="By default the site picks one.", min=1, max=65535, show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is healthy.")] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait.", min=1)] = 180.0,
) -> None:
    """Serve a model version at a site. Builds its image if there is none; signs the deployment with your key.

    The image of a resident model is built at its site and stays there; other sites refuse the model.
    """
    out = current()
    with hub() as client:
        version = client.model(model)
        image = None if version.resident else image_of(client, version, out)
        made = client.deploy(name or version.name, model=version, image=image, site=site, port=port)
        if wait:
            with out.progress(f"{made.name}: revision {made.revision} at {site}") as say:
                made = client.wait_deployment(
                    made.name, timeout_s=timeout_s, progress=lambda one: say(f"{one.name}: {one.state}")
                )
    show_deployment(made)
    if made.state == "failed":
        raise typer.Exit(1)
    if made.state == "healthy":
        out.note(command(f"insitu predict {made.name} --data rows.json"))
    else:
        out.note(Text(f"`insitu deployment show {made.name}` tells how it stands.", style="dim"))


def image_of(client: Client, model: ModelVersionView, out: Output) -> ImageView:
    """The image of a model version, built now if there is none.

    Raises:
        UnavailableError: it could not be built.
    """
    image = client.build_image(model.name, model.version)
    if image.state == "building":
        with out.progress(f"building an image of {model.name}:{model.version}"):
            image = client.wait_image(image.id)
    if image.state == "failed":
        raise UnavailableError(
            f"the image of {model.name}:{model.version} could not be built",
            code=image.reason.code or "image-failed",
            why=image.reason.what,
            hint=image.reason.hint or f"see `insitu image show {image.id}`",
        )
    return image


app = single(deploy)
