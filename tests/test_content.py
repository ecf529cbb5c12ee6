"""Every spelling of content becomes one form, or a clear error."""

from pathlib import Path

import pytest

from modeling_nyx import to_content
from modeling_nyx.content_nyx import neutralize, text_of
from tests.conftest import colored

IMAGE, OTHER = colored(56, 56, 1), colored(56, 56, 2)
A, B = {"type": "text", "text": "a"}, {"type": "text", "text": "b"}
X, Y = {"type": "image", "image": IMAGE}, {"type": "image", "image": OTHER}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", [A]),
        (IMAGE, [X]),
        (b"file", [{"type": "image", "image": b"file"}]),
        ({"type": "image", "url": "data:image/png;base64,ZmlsZQ=="}, [{"type": "image", "image": b"file"}]),
        (Path("moth.png"), [{"type": "image", "image": Path("moth.png")}]),
        ([A, X, B], [A, X, B]),
        (["a", IMAGE, "b"], [A, X, B]),
        ({"text": "a", "image": IMAGE}, [A, X]),
        ({"image": IMAGE, "text": "a"}, [X, A]),
        ({"text": ["a", "b"], "image": [IMAGE, OTHER]}, [{"type": "text", "text": "ab"}, X, Y]),
        ({"image": [IMAGE, OTHER]}, [X, Y]),
        ([{"type": "message", "message": [{"role": "user", "content": [X, A]}]}], [X, A]),
        ({"text": "a", "image": None}, [A]),
        ({"role": "user", "content": [X, A]}, [X, A]),
        ({"role": "user", "content": "a"}, [A]),
        ([{"role": "system", "content": "a"}, {"role": "user", "content": [X]}], [A, X]),
        ({"text": "a<|image|>b<|image|>", "images": [IMAGE, OTHER]}, [A, X, B, Y]),
        ({"texts": ["a", None, "b"], "images": [None, IMAGE, None]}, [A, X, B]),
        ([{"type": "text", "text": "a", "image": None}, {"type": "image", "text": None, "image": IMAGE}], [A, X]),
        ([{"type": "image", "image": {"bytes": b"file", "path": None}}], [{"type": "image", "image": b"file"}]),
    ],
)
def test_every_spelling(given, expected):
    assert to_content(given) == expected


def test_neighbouring_texts_are_one_and_hide_no_special_token():
    given = [{"type": "text", "text": "<|im_"}, {"type": "text", "text": ""}, {"type": "text", "text": "end|>"}, X]
    assert to_content(given) == [{"type": "text", "text": "<|im_end|>"}, X]


def test_a_string_is_never_a_path(tmp_path):
    (tmp_path / "moth.png").write_bytes(b"x")
    assert to_content(str(tmp_path / "moth.png"))[0]["type"] == "text"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "Unknown content: int 3. Accepted: a string"),
        ({"type": "video", "video": "x"}, "Unknown content: {'type': 'video'"),
        ({"type": "text", "text": 3}, "Unknown content"),
        ({"type": "image", "image": 3}, "Unknown picture: int"),
        ({"type": "image", "url": "https://host/moth.png"}, "Unknown picture: 'https://host/moth.png'. Expected its"),
        ({"type": "image", "url": "data:image/png;base64,%%"}, "is no base64"),
        ({"text": "a<|image|>", "images": []}, r"The text has 1 <\|image\|> marks but came with 0 pictures"),
        ({"text": "a", "images": [IMAGE]}, "has 0 .* came with 1 pictures"),
        ({"text": "a<|image|>", "images": None}, r"The text has 1 <\|image\|> marks but came with 0 pictures"),
        ({"text": "a", "images": 3}, "Expected a list of images, not int"),
        ({"texts": ["a"], "images": []}, "1 texts and 0 images"),
        ({"texts": 5}, "Expected lists of texts and images, not int"),
        ({"texts": [1]}, "Unknown text: int 1"),
        (None, "Unknown content: NoneType None"),
        ("", "Empty content"),
        ("  \n", "Empty content"),
        ([], "Empty content"),
        ({"text": "", "image": None}, "Unknown content|Empty content"),
    ],
)
def test_anything_else_names_what_came(given, message):
    with pytest.raises(ValueError, match=message):
        to_content(given)


def test_texts_are_joined_in_order():
    assert text_of([A, X, B]) == "a b"


def test_neutralized_text_keeps_its_characters_and_holds_no_token():
    text = neutralize("x <|image_pad|><|im_end|> y", ["<|image_pad|>", "<|im_end|>"])
    assert "<|image_pad|>" not in text and text.replace("\u200b", "") == "x <|image_pad|><|im_end|> y"
