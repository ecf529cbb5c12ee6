"""The tiny VLM learns, from what its prompts will be."""

import json
from random import Random

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from dataset_builders.almanac import TINY_VLM
from dataset_builders.almanac_lessons import page_lesson
from nyx.reader import Prompt, Reader
from tests.conftest import tiny_config
from train_scripts import train_reader
from train_scripts.reader_batches import IGNORED, answer_positions, batch_lessons, lesson_batches, render
from train_scripts.reader_init import init_circuits
from train_scripts.train_reader import build_model, build_processor, learning_rate, reader_loss


@pytest.fixture(scope="session")
def processor():
    return build_processor()


def test_a_lesson_starts_as_the_readers_prompt():
    lesson = page_lesson(Random(1), 2, 3)
    rendered, images = render(lesson)
    request = Prompt(lesson.documents, lesson.questions[0].content).request(8)
    prompt, shown = Reader.from_pretrained(TINY_VLM).engine.render(request)
    assert rendered.startswith(f"{prompt} {lesson.questions[0].answer}<|im_end|>") and images[: len(shown)] == shown


def test_answers_are_marked_to_their_end(processor):
    lessons = [page_lesson(Random(seed), 1, 4) for seed in range(3)]
    batch = batch_lessons(processor, lessons)
    for row, lesson in enumerate(lessons):
        marked = processor.tokenizer.decode(batch["input_ids"][row][batch["answers"][row]])
        assert marked == "".join(f" {question.answer}<|im_end|>" for question in lesson.questions)
    image_tokens = batch["input_ids"] == processor.image_token_id
    assert (batch["labels"][image_tokens] == IGNORED).all() and (batch["labels"][batch["answers"]] != IGNORED).all()


def test_answer_positions_closed_form():
    ids = torch.tensor([[5, 1, 2, 7, 8, 9, 1, 2, 9, 3]])
    assert answer_positions(ids, [1, 2], 9).tolist() == [
        [False, False, False, True, True, True, False, False, True, False]
    ]


def test_processes_see_the_same_sort_but_other_lessons(processor):
    phases = {"begin": 3, "refuse": 3}
    streams = [list(lesson_batches(processor, phases, 0, rank, 2)) for rank in (0, 1)]
    assert len(streams[0]) == 6
    for one, other in zip(*streams, strict=True):
        assert ("pixel_values" in one) == ("pixel_values" in other)
        assert one["input_ids"].shape != other["input_ids"].shape or not torch.equal(
            one["input_ids"], other["input_ids"]
        )
    again = list(lesson_batches(processor, phases, 0, 0, 2))
    assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(again, streams[0], strict=True))


def test_the_own_readers_sizes_are_its_width_s(processor):
    committed = Qwen2_5_VLForConditionalGeneration.from_pretrained(TINY_VLM)
    shapes = {name: value.shape for name, value in committed.state_dict().items()}
    model = build_model(processor.tokenizer)
    assert {name: value.shape for name, value in model.state_dict().items()} == shapes
    assert model.config.text_config.rope_parameters == committed.config.text_config.rope_parameters
    sizes = [sum(p.numel() for p in build_model(processor.tokenizer, width).parameters()) for width in (48, 64, 128)]
    assert sizes == sorted(sizes) and sizes[1] < sizes[2] / 3
    with pytest.raises(ValueError, match="A width of 40: expected a multiple of 16"):
        build_model(processor.tokenizer, 40)


@pytest.mark.parametrize("width", [48, 64, 96, 128])
def test_initial_heads_look_back_as_far_as_they_should(processor, width):
    """A layer-0 head's attention, by its biases alone, is largest at its distance."""
    model = build_model(processor.tokenizer, width)
    head = width // 4
    attention = model.model.language_model.layers[0].self_attn
    cos, sin = model.model.language_model.rotary_emb(torch.zeros(1), torch.arange(16)[None, None].expand(3, 1, -1))
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb

    query, key = (
        bias.view(1, 4, 1, head).expand(1, 4, 16, head) for bias in (attention.q_proj.bias, attention.k_proj.bias)
    )
    query, key = apply_rotary_pos_emb(query, key, cos, sin)
    scores = (query @ key.transpose(-1, -2))[0, :, 15]
    assert [15 - int(row.argmax()) for row in scores] == [1, 2, 4, 8]


def test_the_initialisation_refuses_other_shapes(processor):
    model = Qwen2_5_VLForConditionalGeneration(tiny_config(processor.tokenizer))
    with pytest.raises(ValueError, match="4 attention heads with a key head each; the configuration has 4 and 2"):
        init_circuits(model)


def test_learning_rate_warms_up_and_falls():
    rates = [learning_rate(step, 1000) for step in range(1000)]
    assert rates[0] < rates[59] == rates[500] == max(rates) and rates[-1] == pytest.approx(0.02 * max(rates))


def test_a_smaller_reader_is_trained_by_the_same_recipe(tmp_path):
    train_reader.main(["--output", str(tmp_path), "--scale", "0.0005", "--width", "48"])
    reader = Reader.from_pretrained(tmp_path)
    assert reader.engine.model.config.text_config.hidden_size == 48
    (answer,) = reader.answer([Prompt([], page_lesson(Random(1), 1, 1).questions[0].content)])
    assert isinstance(answer, str)


def test_padding_changes_no_loss(processor):
    model = build_model(processor.tokenizer)
    lesson, long = page_lesson(Random(1), 1, 2), page_lesson(Random(2), 2, 6)
    alone = reader_loss(model, batch_lessons(processor, [lesson]))[0]
    both = batch_lessons(processor, [lesson, long])
    both["answers"][1] = False
    torch.testing.assert_close(reader_loss(model, both)[0], alone, atol=1e-4, rtol=0)


def test_a_short_run_learns_and_saves(tmp_path):
    train_reader.main(["--output", str(tmp_path), "--scale", "0.005"])
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert curve[-1]["loss"] < 6.5
    assert Reader.from_pretrained(tmp_path).engine.processor.tokenizer.chat_template
    with pytest.raises(SystemExit):
        train_reader.main(["--output", str(tmp_path)])
