"""Pictures are read as they look, or refused with a reason."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from modeling_nyx import BadImage, load_image
from modeling_nyx.images_nyx import image_key, image_size
from tests.conftest import colored


def encoded(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def test_bytes_path_and_image_are_the_same_picture(tmp_path):
    image = colored(40, 30, 1)
    path = tmp_path / "a.png"
    path.write_bytes(encoded(image))
    for source in (image, path, str(path), path.read_bytes()):
        assert np.array_equal(load_image(source), image) and image_size(source) == (40, 30)
    assert image_key(path) == image_key(path.read_bytes()) != image_key(encoded(colored(40, 30, 2)))


def test_transparency_is_flattened_on_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0] * 256)
    for image in (clear, Image.open(io.BytesIO(encoded(palette, transparency=0)))):
        assert load_image(image).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "I;16", "LA", "P"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new("L", (4, 4), 255).convert(mode) if mode != "I;16" else Image.new("I;16", (4, 4), 65535)
    loaded = load_image(image)
    assert loaded.mode == "RGB" and min(loaded.getpixel((1, 1))) >= 250


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does_and_known_from_the_header(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(colored(40, 20, 1), format=kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(load_image(data), upright.convert("RGB"))
    assert load_image(data).size == image_size(data) == upright.size


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_sizes_are_known_without_decoding(kind, monkeypatch):
    data = encoded(colored(40, 20, 1), format=kind)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert image_size(data) == (40, 20)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_modes_without_a_white_are_refused(mode):
    with pytest.raises(BadImage, match=f"has mode {mode}.*Convert it to RGB"):
        load_image(Image.new(mode, (4, 4), 500))


def test_one_pixel_is_a_picture():
    assert load_image(encoded(Image.new("RGB", (1, 1)))).size == (1, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cannot be read"),
        (b"x", "cannot be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read"),
        (encoded(colored(50, 50, 1))[:200], "cannot be decoded"),
        (encoded(Image.new("RGB", (201, 1))), "201×1, beyond 200:1"),
        (encoded(Image.new("1", (9000, 9000))), "expected 1 to 64000000 pixels"),
        (encoded(colored(8, 8, 1), format="TIFF"), "Known formats: JPEG"),
    ],
)
def test_bad_pictures_are_named(data, reason):
    with pytest.raises(BadImage, match=reason):
        load_image(data)


def test_missing_and_foreign_sources_are_named(tmp_path):
    with pytest.raises(BadImage, match="No such picture file"):
        load_image(tmp_path)
    for odd in ("x" * 5000, "a\0b"):
        with pytest.raises(BadImage, match="No such picture file"):
            load_image(odd)
    with pytest.raises(BadImage, match="not int"):
        load_image(3)


def test_colours_of_a_palette_and_transparency_count_in_the_key():
    def one_colour(colour, **info):
        image = Image.new("P", (4, 4), 0)
        image.putpalette(colour)
        image.info |= info
        return image

    red, blue = one_colour([255, 0, 0]), one_colour([0, 0, 255])
    assert red.tobytes() == blue.tobytes()
    assert len({image_key(each) for each in (red, blue, one_colour([255, 0, 0], transparency=0))}) == 3
    assert image_key(red) == image_key(one_colour([255, 0, 0]))


def test_the_first_frame_counts():
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:])
    assert load_image(buffer.getvalue()).getpixel((0, 0)) == (255, 0, 0)
