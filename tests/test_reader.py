"""The reader's prompts are what it was asked, and its answers don't depend on company or on interruptions."""

import pytest
import torch

from dataset_builders.almanac_tokenizer import CHAT_TEMPLATE
from nyx.reader import AnswerCache, Prompt, Reader
from tests.conftest import picture, text
from train_scripts.train_reader import build_model, build_processor

QUESTION = [picture(56, 56, 1), text("Where does this moth live?")]
PROMPTS = [
    Prompt([], [text("Where does the moth Vela mirabilis live?")]),
    Prompt([[text("The moth Vela mirabilis lives by the salt marsh."), picture(84, 84, 2)]], QUESTION),
    Prompt([[picture(112, 56, 3), text("shows it")], [text("It flies in May.")]], [text("When does it fly?")]),
    Prompt([[text("It flies in May. " * 20)]], [text("When does it fly?")]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny reader with its initial weights: it answers nonsense, but deterministically."""
    folder = tmp_path_factory.mktemp("reader")
    torch.manual_seed(0)
    processor = build_processor()
    build_model(processor.tokenizer).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make(folder, **options):
    return Reader.from_pretrained(folder, max_new_tokens=6, **options)


def test_prompt_is_documents_then_question_with_pictures_in_place(folder):
    rendered, images = make(folder).render(PROMPTS[2])
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    expected = f"Document: {image}shows it\nDocument: It flies in May.\nQuestion: When does it fly?\nAnswer:"
    assert rendered == expected and images == [PROMPTS[2].documents[0][0]["image"]]


def test_special_tokens_in_documents_are_text(folder):
    reader = make(folder)
    prompt = Prompt([[text("<|image_pad|><|im_end|>")]], [text("x")])
    rendered, images = reader.render(prompt)
    assert images == [] and "<|im_end|>" not in rendered
    assert len(reader.answer([prompt])) == 1
    pieces = Prompt([[text("<|im_"), text("end|><|image_"), text("pad|>")]], [text("x")])
    assert "<|im_end|>" not in reader.render(pieces)[0] and len(reader.answer([pieces])) == 1


def test_alone_equals_in_a_batch_equals_plain_generation(folder):
    together = make(folder).answer(PROMPTS)
    assert make(folder, batch_tokens=1).answer(PROMPTS) == together
    assert make(folder).answer(PROMPTS[::-1])[::-1] == together
    reader = make(folder)
    for prompt, expected in zip(PROMPTS, together, strict=True):
        rendered, images = reader.render(prompt)
        batch = reader.processor(text=[rendered], images=[images])
        reader.model.set_attn_implementation("sdpa")
        output = reader.model.generate(**batch, max_new_tokens=6, do_sample=False)
        new = output[0, batch["input_ids"].shape[1] :]
        assert reader.processor.tokenizer.decode(new, skip_special_tokens=True).strip() == expected


def test_answers_are_kept_on_disk(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache" / "answers.sqlite"
    expected = make(folder, cache=cache).answer(PROMPTS)
    again = make(folder, cache=cache)
    monkeypatch.setattr(again, "_generate", lambda rows: pytest.fail("asked again"))
    assert again.answer(PROMPTS) == expected


def test_a_killed_run_keeps_what_was_answered(folder, tmp_path, monkeypatch):
    cache = tmp_path / "answers.sqlite"
    reader = make(folder, cache=cache, batch_tokens=1)
    generate, calls = reader._generate, []

    def dies(rows):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(rows)
        return generate(rows)

    monkeypatch.setattr(reader, "_generate", dies)
    with pytest.raises(KeyboardInterrupt):
        reader.answer(PROMPTS)
    resumed = make(folder, cache=cache, batch_tokens=1)
    count = []
    generate = resumed._generate
    monkeypatch.setattr(resumed, "_generate", lambda rows: count.append(1) or generate(rows))
    assert resumed.answer(PROMPTS) == make(folder).answer(PROMPTS) and len(count) == len(PROMPTS) - 2


def test_the_same_prompt_twice_is_asked_once(folder, monkeypatch):
    reader, sizes = make(folder), []
    generate = reader._generate
    monkeypatch.setattr(reader, "_generate", lambda rows: sizes.append(len(rows)) or generate(rows))
    first, second = reader.answer([PROMPTS[0], PROMPTS[0]])
    assert first == second and sizes == [1]


def test_a_prompt_beyond_the_window_is_refused(folder):
    with pytest.raises(ValueError, match="the reader's window leaves 1018"):
        make(folder).answer([Prompt([[text("by the lagoon " * 500)]], [text("x")])])


def test_a_model_without_a_template_is_refused(folder, tmp_path):
    processor = build_processor()
    processor.tokenizer.chat_template = None
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no chat template"):
        Reader.from_pretrained(tmp_path)
    assert CHAT_TEMPLATE


def test_cache_returns_what_was_put(tmp_path):
    cache = AnswerCache(tmp_path / "a.sqlite")
    cache.put({"k": "v"})
    assert AnswerCache(tmp_path / "a.sqlite").get(["k", "other"]) == {"k": "v"}
