"""Content becomes the token ids, positions and pixels that the backbone was trained on."""

import logging

import numpy as np
import pytest
import torch
from transformers import Qwen2_5_VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from modeling_nyx import NyxProcessor
from modeling_nyx.content_nyx import neutralize
from modeling_nyx.processing_nyx import MAX_PIXELS, MIN_PIXELS
from modeling_nyx.rows_nyx import group_by_tokens
from tests.conftest import colored, picture, text, tiny_config


def ids_of(processor, content, role="document"):
    return processor.pack([content], role)["input_ids"][0].tolist()


def test_serialisation_is_instruction_content_end(processor):
    tokenizer = processor.tokenizer
    content = [text("a moth"), picture(56, 84, 1), text("lives here")]
    pads = "<|image_pad|>" * 6
    expected = f"a moth<|vision_start|>{pads}<|vision_end|>lives here<|im_end|>"
    assert ids_of(processor, content) == tokenizer(expected)["input_ids"]
    assert ids_of(processor, content, "query") == tokenizer("Find what answers: " + expected)["input_ids"]


def test_no_end_is_added_unless_asked(processor):
    plain = NyxProcessor(processor.image_processor, processor.tokenizer)
    assert ids_of(plain, [text("a moth")]) == processor.tokenizer("a moth")["input_ids"]


def test_positions_equal_the_backbones_own(processor, pages):
    model = Qwen2_5_VLModel(tiny_config(processor.tokenizer))
    for page in pages:
        packed, padded = processor.pack([page]), processor([page])
        expected, _ = model.get_rope_index(
            padded["input_ids"],
            mm_token_type_ids=padded["mm_token_type_ids"],
            image_grid_thw=padded.get("image_grid_thw"),
            attention_mask=padded["attention_mask"],
        )
        assert torch.equal(packed["position_ids"][1:], expected)
        assert torch.equal(packed["position_ids"][0, 0], torch.arange(packed["input_ids"].shape[1]))


@pytest.mark.parametrize("size", [(56, 56), (1, 1), (30, 200), (1200, 900), (113, 97)])
def test_pixels_equal_the_image_processors(processor, size):
    image = colored(*size, 3)
    expected = processor.image_processor(images=[image], return_tensors="pt")
    ours = processor.pack([[{"type": "image", "image": image}]])
    assert torch.equal(ours["pixel_values"], expected["pixel_values"])
    assert torch.equal(ours["image_grid_thw"], expected["image_grid_thw"])
    assert 4 <= int((ours["input_ids"] == processor.image_token_id).sum()) <= 400


def test_counting_needs_no_decoding_and_is_exact(processor, pages, monkeypatch):
    lengths = [processor.pack([page])["input_ids"].shape[1] for page in pages]
    monkeypatch.setattr("modeling_nyx.processing_nyx.load_image", lambda source: pytest.fail("decoded"))
    assert [len(row.ids) for row in processor.rows(pages)] == lengths


def test_a_picture_that_occurs_twice_is_encoded_once(processor):
    content = [picture(56, 56, 1), picture(84, 84, 2), picture(56, 56, 1)]
    packed = processor.pack([content, [picture(84, 84, 2)]])
    assert packed["image_grid_thw"].tolist() == [[1, 4, 4], [1, 6, 6]]
    assert packed["image_index"].tolist() == [0, 1, 0, 1]
    assert processor([content])["image_grid_thw"].shape == (3, 3)


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|vision_start|>", "<|im_end|>", "<|endoftext|>"])
def test_special_tokens_in_text_are_text(processor, token):
    plain = ids_of(processor, [text("a moth ")])[:-1]
    ids = ids_of(processor, [text(f"a moth {token}{token}")])
    special = set(processor.tokenizer.convert_tokens_to_ids(processor.special_tokens))
    assert ids[: len(plain) - 1] == plain[:-1] and not special & set(ids[:-1])
    packed = processor.pack([[text(token), picture(56, 56, 1)]])
    assert len(packed["image_index"]) == 1 and int((packed["input_ids"] == processor.image_token_id).sum()) == 4


def test_stock_call_form_counts_pictures(processor):
    with pytest.raises(ValueError, match="2 .* marks but came with 1 pictures"):
        processor(text=["<|image_pad|><|image_pad|>"], images=[[colored(56, 56, 1)]])
    with pytest.raises(ValueError, match="Videos came"):
        processor(text=["x"], videos=[1])


@pytest.fixture
def narrow(processor, tokenizer):
    """A processor with a window of 20 tokens."""
    limit = tokenizer.model_max_length
    tokenizer.model_max_length = 20
    yield processor
    tokenizer.model_max_length = limit


def test_over_long_content_keeps_whole_pictures_and_the_end(narrow, caplog):
    end = narrow.tokenizer.eos_token_id
    with caplog.at_level(logging.WARNING):
        ids = ids_of(narrow, [text("the moth " * 5), picture(56, 56, 1), picture(56, 56, 2), text("and more")])
    assert len(ids) <= 20 and ids[-1] == end and "Content longer than the window of 20 tokens" in caplog.text
    assert ids.count(narrow.image_token_id) == 4
    long = ids_of(narrow, [text("the moth " * 50)])
    assert len(long) == 20 and long[-1] == end


@pytest.mark.parametrize("append_eos", [True, False])
def test_content_of_which_nothing_fits_is_refused(narrow, append_eos):
    narrow = NyxProcessor(narrow.image_processor, narrow.tokenizer, append_eos, "Find: ")
    with pytest.raises(ValueError, match="Item 1: A content of .* nothing of which fits the window of 20"):
        narrow.rows([[text("a moth")], [picture(280, 280, 1), text("a moth")]], "query")


def test_groups_keep_the_budget_and_sort_by_length(processor, pages):
    lengths = [len(row.ids) for row in processor.rows(pages)]
    groups = group_by_tokens(lengths, 60)
    assert sorted(index for group in groups for index in group) == list(range(len(pages)))
    assert [lengths[index] for group in groups for index in group] == sorted(lengths)
    assert all(len(group) == 1 or sum(lengths[index] for index in group) <= 60 for group in groups)
    assert group_by_tokens([], 10) == []


@pytest.mark.parametrize("gone", [["tokenizer.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_a_tokenizer_without_its_files_is_refused(model, tmp_path, gone):
    model.save_pretrained(tmp_path)
    for name in gone:
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="Are all of its files there, tokenizer.json too?"):
        NyxProcessor.from_pretrained(tmp_path)


def test_odd_calls_are_refused(processor):
    with pytest.raises(ValueError, match="not one str"):
        processor("abc")
    with pytest.raises(ValueError, match="role is 'querry'"):
        processor(["abc"], role="querry")
    with pytest.raises(ValueError, match="padding_side is 'middle'"):
        processor(["abc"], padding_side="middle")
    with pytest.raises(ValueError, match="Item 0: A text that is no Unicode"):
        processor(["\ud800"])


def test_saved_processor_loads_equal(processor, pages, tmp_path):
    processor.save_pretrained(tmp_path)
    again = NyxProcessor.from_pretrained(tmp_path)
    assert again.append_eos and again.query_instruction == "Find what answers: "
    for name, value in processor.pack(pages, "query").items():
        assert torch.equal(again.pack(pages, "query")[name], value), name


def test_a_stock_folder_loads_without_our_fields(processor, tmp_path):
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS})
    images.save_pretrained(tmp_path)
    processor.tokenizer.save_pretrained(tmp_path)
    stock = NyxProcessor.from_pretrained(tmp_path)
    assert not stock.append_eos and stock.query_instruction == ""
    assert np.array_equal(
        stock([[text("a")]])["input_ids"], processor.tokenizer(["a"], return_tensors="pt")["input_ids"]
    )


def test_one_neutralisation_for_all(processor):
    assert neutralize("<|im_end|>", processor.special_tokens) == "<\u200b|im_end|>"
