import json
from dataclasses import replace
from pathlib import Path

import pytest

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import InvalidInputError, NotFoundError
from insitu.images.base import import_base, this_platform
from insitu.images.build import build_image
from insitu.images.environment import Environment
from insitu.images.layers import Entry, write_layer
from insitu.images.layout import CONFIG, MANIFEST, OciLayout, canonical_json
from insitu.images.recipe import Recipe

LOCK = digest_of(b"lock")
KEY = "e" * 64


def put_base(layout, *, architecture="amd64") -> Digest:
    layer = write_layer(layout, [Entry("usr/"), Entry("usr/python3.11", b"\x7fELF")], compress=True)
    config = {
        "os": "linux",
        "architecture": architecture,
        "config": {"Env": ["PATH=/usr/bin", "GPG_KEY=kept"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    described = layout.put_blob(canonical_json(config), CONFIG).as_oci()
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [layer.descriptor.as_oci()]}
    return layout.put_manifest(manifest, tag="base:1").digest


class Parts:
    def __init__(self, folder: Path) -> None:
        self.layout = OciLayout(folder / "layout")
        tree, self.model, self.serving = folder / "tree", folder / "model", folder / "serving"
        for made in (tree / "bin", self.model, self.serving / "__pycache__"):
            made.mkdir(parents=True)
        (tree / "bin/python").symlink_to("/usr/bin/python3")
        (self.model / "MLmodel").write_text("{}")
        (self.serving / "__main__.py").write_text("")
        (self.serving / "__pycache__" / "x.pyc").write_bytes(b"of this machine")
        self.environment = Environment(tree, KEY, LOCK, "", "x86_64-linux", "3.11", (), "host", reused=False)
        self.recipe = Recipe(
            base=put_base(self.layout),
            lock=LOCK,
            environment_key=KEY,
            model_name="wdbc",
            model_version="3",
            model_digest=digest_of(b"model"),
            job_id="j-1",
            trusted_types=("b.B", "a.A"),
        )

    def build(self, **changes):
        recipe = replace(self.recipe, **changes)
        return build_image(recipe, self.layout, environment=self.environment, model=self.model, serving=self.serving)


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path)


def config_of(layout, image):
    return json.loads(layout.read(layout.manifest(image.digest)["config"]["digest"]))


def test_the_same_parts_give_the_same_digest_elsewhere(parts, tmp_path):
    assert Parts(tmp_path / "elsewhere").build().digest == parts.build().digest


@pytest.mark.parametrize(
    "change", [{"model_version": "4"}, {"job_id": "j-2"}, {"trusted_types": ()}, {"model_digest": digest_of(b"other")}]
)
def test_every_part_of_the_recipe_shows_in_the_digest(parts, change):
    assert parts.build(**change).digest != parts.build().digest


def test_it_starts_the_serving_process_as_nobody(parts):
    config = config_of(parts.layout, parts.build())["config"]
    assert config["Entrypoint"][:5] == ["/opt/env/bin/python", "-m", "insitu.serving", "--model", "/opt/model"]
    assert config["Entrypoint"][-4:] == ["--trusted-type", "a.A", "--trusted-type", "b.B"]
    assert config["User"] == "65532:65532"
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert {"GPG_KEY=kept", "PATH=/opt/env/bin:/usr/bin", "PYTHONPATH=/opt/insitu"} <= set(config["Env"])


def test_labels_and_annotations_say_where_it_comes_from(parts):
    image = parts.build()
    labels = config_of(parts.layout, image)["config"]["Labels"]
    assert labels == parts.layout.manifest(image.digest)["annotations"]
    assert labels["org.opencontainers.image.base.digest"] == parts.recipe.base
    assert labels["org.insitu.lock.digest"] == LOCK
    assert labels["org.insitu.model.digest"] == parts.recipe.model_digest
    assert labels["org.insitu.job"] == "j-1"


def test_there_is_a_diff_id_and_a_history_for_each_layer(parts):
    image = parts.build()
    config = config_of(parts.layout, image)
    assert len(config["rootfs"]["diff_ids"]) == len(image.layers) == 4


def test_an_image_without_a_base_is_refused(parts):
    with pytest.raises(NotFoundError) as refused:
        parts.build(base=digest_of(b"no such base"))
    assert refused.value.code == "no-base"


def test_a_base_that_lost_a_layer_is_no_base(parts):
    parts.layout.blob_path(parts.layout.manifest(parts.recipe.base)["layers"][0]["digest"]).unlink()
    with pytest.raises(NotFoundError) as refused:
        parts.build()
    assert refused.value.code == "no-base"


def test_another_environment_than_the_recipe_names_is_refused(parts):
    with pytest.raises(InvalidInputError, match="environment"):
        parts.build(lock=digest_of(b"another lock"))


def test_a_folder_without_a_model_is_refused(parts):
    (parts.model / "MLmodel").unlink()
    with pytest.raises(NotFoundError, match="no model"):
        parts.build()


def test_a_base_comes_from_another_layout_with_its_digest(parts, tmp_path):
    parts.layout.put_manifest({"schemaVersion": 2, "mediaType": MANIFEST}, tag="other:1")
    target = OciLayout(tmp_path / "target")
    for source in (f"{parts.layout.path}:base:1", f"{parts.layout.path}@{parts.recipe.base}"):
        assert import_base(target, f"oci:{source}").digest == parts.recipe.base
    with pytest.raises(InvalidInputError, match="2 images"):
        import_base(target, f"oci:{parts.layout.path}")


def test_of_several_platforms_ours_is_taken(parts, tmp_path):
    other = put_base(parts.layout, architecture="arm64")
    entries = [
        {"mediaType": MANIFEST, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": name}}
        for digest, name in ((other, "arm64"), (parts.recipe.base, "amd64"))
    ]
    kind = "application/vnd.oci.image.index.v1+json"
    parts.layout.put_manifest({"schemaVersion": 2, "mediaType": kind, "manifests": entries}, tag="many:1")
    for platform, wanted in (("aarch64-linux", other), ("x86_64-linux", parts.recipe.base)):
        target = OciLayout(tmp_path / platform)
        assert import_base(target, f"oci:{parts.layout.path}:many:1", platform=platform).digest == wanted


def test_this_machine_has_a_platform_that_bases_exist_for():
    assert this_platform().endswith("-linux")
