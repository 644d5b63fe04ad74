"""Builds the image of a released model into an OCI layout: no daemon, no root, no network.

    recipe + base + environment + serving sources + model ──► layers ──► config ──► manifest ──► tag

The same parts give the same bytes. The environment's layer is kept by the
environment's key, so a new version of a model packs the model alone.
What an image holds is checked before by whoever calls: the model is the one
that was released, the environment the one of the signed lock. Here each part
only has to be there and be what the recipe names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import insitu
from insitu.domain.digests import Digest
from insitu.domain.errors import InvalidInputError, NotFoundError
from insitu.domain.images import Descriptor, Image
from insitu.images.base import config_of, describe_base, layers_of
from insitu.images.environment import Environment
from insitu.images.layers import Entry, Layer, LayerCache, entries_of, parents_of, write_layer
from insitu.images.layout import CONFIG, OciLayout, canonical_json
from insitu.images.recipe import ENVIRONMENT_AT, MODEL_AT, SERVING_AT, Recipe, config, manifest

Progress = Callable[[str], object]

_MARKER = b'"""The serving process of an image. Nothing else of Insitu is in here."""\n'


def build_image(
    recipe: Recipe,
    layout: OciLayout,
    *,
    environment: Environment,
    model: Path,
    serving: Path | None = None,
    tag: str | None = None,
    compress: bool = True,
    progress: Progress = lambda _: None,
) -> Image:
    """Write an image; everything that the layout has already stays as it is.

    Args:
        recipe: what it is made of.
        layout: holds the base, and gets the image.
        environment: the tree of the recipe's lock.
        model: folder of the released model (its MLmodel and files).
        serving: folder of the sources of `insitu.serving`; by default those of this installation.
        tag: its name in the layout; by default `<model name>:<model version>`.
        compress: gzip for layers that will travel; without, building is ~5 times faster and 3 times larger.
        progress: told what is being done.

    Raises:
        NotFoundError: the base isn't in the layout (code "no-base"), or there is no model.
        InvalidInputError: the environment is another one than the recipe names.
    """
    base_layers, base_config = _base(layout, recipe.base)
    if (environment.key, environment.lock) != (recipe.environment_key, recipe.lock):
        raise InvalidInputError(
            "the image's environment is not the recipe's",
            why=f"the recipe names {recipe.environment_key[:12]}, given was {environment.key[:12]}",
        )
    if not (model / "MLmodel").is_file():
        raise NotFoundError(
            f"no model in {model}", why="it has no file MLmodel", hint="is it released, as an mlflow_model?"
        )
    progress("packing the environment")
    layers = [_environment_layer(layout, environment, compress=compress)]
    progress("packing the model")
    layers.append(write_layer(layout, _serving_entries(serving), compress=compress))
    layers.append(write_layer(layout, [*parents_of(MODEL_AT), *entries_of(model, MODEL_AT)], compress=compress))
    return _finish(recipe, layout, base_layers, base_config, layers, tag or recipe.tag)


def _finish(
    recipe: Recipe,
    layout: OciLayout,
    base_layers: tuple[Descriptor, ...],
    base_config: dict[str, object],
    layers: list[Layer],
    tag: str,
) -> Image:
    document = config(recipe, base_config, [layer.diff_id for layer in layers])
    stored_config = layout.put_blob(canonical_json(document), CONFIG)
    everything = (*base_layers, *(layer.descriptor for layer in layers))
    stored = layout.put_manifest(manifest(recipe, stored_config, everything), tag=tag)
    size_bytes = stored.size_bytes + stored_config.size_bytes + sum(layer.size_bytes for layer in everything)
    reused = len(base_layers) + sum(layer.reused for layer in layers)
    return Image(tag, stored.digest, size_bytes, everything, reused)


def _base(layout: OciLayout, digest: Digest) -> tuple[tuple[Descriptor, ...], dict[str, object]]:
    try:
        base = describe_base(layout, digest)
        for layer in base.layers:
            layout.size_of(layer)
    except NotFoundError as error:
        raise NotFoundError(
            "the image has no base",
            code="no-base",
            why=f"{digest} is not whole in {layout.path}",
            hint="`make base-image` builds one; or import it by digest from a registry",
        ) from error
    document = layout.manifest(digest)
    return layers_of(document), json.loads(layout.read(config_of(document).digest))


def _environment_layer(layout: OciLayout, environment: Environment, *, compress: bool) -> Layer:
    def entries() -> list[Entry]:
        return [*parents_of(ENVIRONMENT_AT), *entries_of(environment.tree, ENVIRONMENT_AT)]

    # Which Python compiled changes the bytes, and the key doesn't speak of it.
    key = f"environment {environment.key} {environment.compiled_by}"
    return LayerCache(layout).layer(key, entries, compress=compress)


def _serving_entries(serving: Path | None) -> list[Entry]:
    # By its path: images don't import serving, they carry it.
    sources = serving or Path(insitu.__file__).parent / "serving"
    inside = f"{SERVING_AT}/insitu"
    if not (sources / "__main__.py").is_file():
        raise NotFoundError(f"no serving process in {sources}", hint="is this installation whole?")
    kept = entries_of(sources, f"{inside}/serving", keep=lambda name: "__pycache__" not in name)
    return [*parents_of(f"{inside}/serving"), Entry(f"{inside}/__init__.py", _MARKER), *kept]
