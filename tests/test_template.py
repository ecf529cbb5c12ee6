"""A saved folder's chat template gives the tokens that `NyxProcessor` gives, so that vLLM embeds what we embed."""

import jinja2
import pytest
import torch
from jinja2 import nodes
from transformers import AutoTokenizer

from modeling_nyx import NyxModel, NyxProcessor, to_content
from modeling_nyx.template_nyx import chat_template
from tests.conftest import picture, text

A = picture(56, 84, 1)
SHAPES = {
    "string": "The moth Vela mirabilis.",
    "text": [text("a moth ")],
    "neighbouring texts": [text("a mo"), text("th"), text(" by night\n")],
    "picture": [A],
    "pictures": [A, picture(200, 90, 2), A],
    "interleaved": [text("first "), A, text(" then\n\n"), picture(60, 61, 5), text("last")],
    "null keys": [{"type": "text", "text": "a", "image": None}, {"type": "image", "text": None, "image": A["image"]}],
    "empty text": [text(""), A, text("")],
    "spaces": [text("  x  "), A, text("  \n")],
    "special tokens": [text("<|im_end|> and <|image_pad|>"), A, text("<|vision_end|>")],
    "special tokens in pieces": [
        text("<|im_"),
        text("end|><|image"),
        text("_pad|>"),
        A,
        text("<|vision_"),
        text("end|>"),
    ],
    "other scripts": [text("Nachtfalter — 蛾 🌙 \u200b")],
    "quotes and braces": [text("{{ messages }} '{%' \"x\" \\n <|")],
}


def rendered_ids(folder, messages) -> list[int]:
    """Do what an engine without our code does: render, put in each picture's tokens, tokenize as one string."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    string = tokenizer.apply_chat_template(messages, tokenize=False)
    grids = NyxProcessor.from_pretrained(folder)
    for item in (item for message in messages if isinstance(message["content"], list) for item in message["content"]):
        if item["type"] == "image":
            height, width = grids._grid(item["image"])
            string = string.replace("<|image_pad|>", "<|pad|>" * (height * width // 4), 1)
    return tokenizer(string.replace("<|pad|>", "<|image_pad|>"))["input_ids"]


@pytest.fixture(scope="module", params=[True, False], ids=["end token", "no end token"])
def folder(request, model, tmp_path_factory):
    """Folders with and without an end token."""
    path = tmp_path_factory.mktemp("template")
    own = model.processor
    model.processor = NyxProcessor(own.image_processor, own.tokenizer, request.param, own.query_instruction)
    model.save_pretrained(path)
    model.processor = own
    return path


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("role", ["query", "document"])
def test_rendered_tokens_are_the_processors(folder, shape, role):
    processor, content = NyxProcessor.from_pretrained(folder), SHAPES[shape]
    messages = [{"role": "user", "content": content}]
    if role == "query":
        messages.insert(0, {"role": "system", "content": [text(processor.query_instruction)]})
    expected = processor.pack([to_content(content)], role)["input_ids"][0].tolist()
    assert rendered_ids(folder, messages) == expected
    ours = processor.apply_chat_template([messages], tokenize=True, return_dict=True)
    assert ours["input_ids"][0].tolist() == expected


def test_any_spelling_of_content_in_a_message(model):
    contents = ["a", ["a", A["image"]], {"text": "a", "image": A["image"]}, [A, text("b")]]
    for content in contents:
        ours = model.processor.pack([to_content(content)])["input_ids"]
        model.processor.chat_template = chat_template(model.processor.special_tokens, model.processor.append_eos)
        one = model.processor.apply_chat_template([{"role": "user", "content": content}], tokenize=True)
        assert torch.equal(one, ours)


@pytest.mark.parametrize(
    "item", [{"type": "video", "video": "x.mp4"}, {"type": "message", "message": []}, {"type": "text", "text": None}]
)
def test_what_cannot_be_embedded_is_refused_when_rendered(folder, item):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with pytest.raises(Exception, match=f"but one of type '{item['type']}' came"):
        tokenizer.apply_chat_template([{"role": "user", "content": [item]}], tokenize=False)


def test_the_template_is_the_encoders_whatever_the_model_started_from(model_folder, model, tmp_path):
    model.save_pretrained(tmp_path)
    template = (tmp_path / "chat_template.jinja").read_text()
    assert AutoTokenizer.from_pretrained(model_folder).chat_template != template
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == template
    assert NyxModel.from_pretrained(tmp_path).processor.chat_template == template


def test_vllm_sees_that_content_is_a_list_of_parts(folder):
    """It looks for a loop over a message's content; without one it would put every picture before the text."""
    tree = jinja2.Environment().parse((folder / "chat_template.jinja").read_text())
    (messages,) = (loop for loop in tree.find_all(nodes.For) if getattr(loop.iter, "name", None) == "messages")
    (items,) = messages.find_all(nodes.For)
    assert (items.iter.node.name, items.iter.attr) == (messages.target.name, "content")
