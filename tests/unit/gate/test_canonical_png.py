"""PNG rewritten: what somebody sees stays, and nothing else."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from insitu.gate.canonical.png import rewrite_png
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort

RNG = np.random.default_rng(0)
SECRET = b"17.99,10.38,122.8"


def png(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def picture(mode: str, size=(40, 30)) -> Image.Image:
    pixels = RNG.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def rewrite(data: bytes):
    return rewrite_png(data, Effort())


def seen(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_what_is_seen_stays_nearly_the_same(mode):
    data = png(picture(mode))
    assert np.abs(seen(rewrite(data).data) - seen(data)).max() <= 7
    assert rewrite(rewrite(data).data).data == rewrite(data).data


def test_sixteen_bits_become_eight():
    deep = Image.fromarray(RNG.integers(0, 65536, (30, 40)).astype(np.uint16))
    copy = Image.open(io.BytesIO(rewrite(png(deep)).data))
    assert (copy.mode, copy.size) == ("L", (40, 30))


def test_text_palettes_filters_and_bytes_behind_the_end_do_not_survive():
    image = picture("P")
    notes = PngImagePlugin.PngInfo()
    notes.add_text("row", SECRET.decode(), zip=True)
    noisy = png(image, pnginfo=notes, compress_level=1) + SECRET
    assert rewrite(noisy).data == rewrite(png(image.convert("RGB"), optimize=True)).data


def test_low_bits_do_not_survive():
    pixels = np.asarray(picture("RGB")) & 0xF8
    marked = pixels | RNG.integers(0, 8, pixels.shape).astype(np.uint8)
    assert rewrite(png(Image.fromarray(marked))).data == rewrite(png(Image.fromarray(pixels))).data


def test_colours_that_nobody_sees_do_not_survive():
    hidden = np.zeros((30, 40, 4), dtype=np.uint8)
    hidden[..., :3] = RNG.integers(0, 256, (30, 40, 3))
    copy = seen(rewrite(png(Image.fromarray(hidden))).data)
    assert (copy == 255).all()


def test_what_pixels_still_carry_is_counted():
    pixels = RNG.integers(0, 32, (100, 100, 3)).astype(np.uint8) << 3
    assert rewrite(png(Image.fromarray(pixels))).carries_bits >= 5 * pixels.size
    assert rewrite(png(Image.new("RGB", (500, 500)))).carries_bits < 8 * 2000


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", png(picture("L"))[:60], png(picture("L")).replace(b"IDAT", b"IDAX")]
)
def test_what_is_not_whole_is_not_rewritten(data):
    with pytest.raises(NotReadableError):
        rewrite(data)
