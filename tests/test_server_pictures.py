"""A server sees what the local engine sees: the file itself where that is the same, otherwise those pixels."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import SizeDict

from modeling_nyx.images_nyx import BadImage, load_image
from nyx.server_pictures import data_uri
from tests.conftest import colored

CAP = 100 * 28 * 28


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def shown(uri):
    """Decode a data URI as a plain server does."""
    head, data = uri.split(",")
    data = base64.b64decode(data, validate=True)
    image = Image.open(io.BytesIO(data))
    assert head == f"data:image/{image.format.lower()};base64"
    return data, image.convert("RGB")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_files_stay_as_they_are(kind, mode, tmp_path):
    data = encoded(colored(120, 80, 1).convert(mode), kind)
    (tmp_path / "a").write_bytes(data)
    if (kind, mode) != ("WEBP", "L"):
        assert shown(data_uri(data, CAP))[0] == shown(data_uri(tmp_path / "a", CAP))[0] == data


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


@pytest.mark.parametrize(
    "data",
    [
        encoded(colored(120, 80, 1), "JPEG", exif=exif(6)),
        encoded(colored(120, 80, 1), "PNG", exif=exif(3)),
        encoded(colored(120, 80, 1).convert("RGBA"), "PNG"),
        encoded(colored(120, 80, 1).convert("P"), "PNG", transparency=3),
        encoded(colored(120, 80, 1).convert("CMYK"), "JPEG"),
        encoded(colored(120, 80, 1), "GIF"),
        encoded(colored(120, 80, 1), "BMP"),
        encoded(colored(120, 80, 1), "WEBP", save_all=True, append_images=[colored(120, 80, 2)]),
    ],
)
def test_others_become_the_pixels_that_the_model_here_sees(data):
    sent, image = shown(data_uri(data, CAP))
    assert sent != data and np.array_equal(np.asarray(image), np.asarray(load_image(data)))


@pytest.mark.parametrize("size", [(1000, 600), (600, 1000), (281, 280), (5000, 30), (30, 5000)])
def test_large_ones_are_resized_once_as_the_model_would(size, processor):
    data = encoded(colored(*size, 1), "JPEG")
    _, image = shown(data_uri(data, CAP))
    assert image.width * image.height <= CAP
    small = type(processor)(type(processor.image_processor)(), processor.tokenizer)
    small.image_processor.size = SizeDict(shortest_edge=28 * 28, longest_edge=CAP)
    if max(size) < 5000:
        ours, theirs = (small(text=["<|image_pad|>"], images=[each])["pixel_values"] for each in (image, data))
        assert np.array_equal(ours, theirs)


def test_pil_images_are_sent_whole():
    image = colored(60, 50, 3)
    assert np.array_equal(np.asarray(shown(data_uri(image, CAP))[1]), np.asarray(image))


@pytest.mark.parametrize("data", [b"", b"GIF89a", encoded(colored(90, 90, 1), "PNG")[:40], b"<svg/>"])
def test_broken_ones_are_refused(data):
    with pytest.raises(BadImage):
        data_uri(data, CAP)
