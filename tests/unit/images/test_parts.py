"""What a sandbox is given of an image: its own layers, compared with their digests."""

import pytest

from insitu.domain.digests import digest_of
from insitu.domain.errors import IntegrityError, NotFoundError
from insitu.images.parts import unpack_parts
from tests.unit.images.test_build import Parts


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path)


def test_serving_process_and_model_lie_as_they_do_in_the_image(parts, tmp_path):
    found = unpack_parts(parts.layout, parts.build().digest, tmp_path / "unpacked")
    assert (found.model / "MLmodel").read_text() == "{}"
    assert (found.serving / "insitu" / "serving" / "__main__.py").exists()
    assert not list(found.serving.rglob("__pycache__"))


def test_the_environment_is_not_unpacked_a_second_time(parts, tmp_path):
    found = unpack_parts(parts.layout, parts.build().digest, tmp_path / "unpacked")
    assert sorted(path.name for path in found.model.parent.iterdir()) == ["insitu", "model"]


def test_it_is_unpacked_once(parts, tmp_path):
    image = parts.build().digest
    first = unpack_parts(parts.layout, image, tmp_path / "unpacked")
    inode = (first.model / "MLmodel").stat().st_ino
    assert (unpack_parts(parts.layout, image, tmp_path / "unpacked").model / "MLmodel").stat().st_ino == inode


def test_an_image_that_is_not_in_the_layout_is_not_started(parts, tmp_path):
    with pytest.raises(NotFoundError):
        unpack_parts(parts.layout, digest_of(b"another"), tmp_path / "unpacked")


def test_a_changed_layer_is_refused_and_leaves_nothing_behind(parts, tmp_path):
    image = parts.build()
    blob = parts.layout.blob_path(image.layers[-1].digest)
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError):
        unpack_parts(parts.layout, image.digest, tmp_path / "unpacked")
    assert not list((tmp_path / "unpacked").iterdir())
