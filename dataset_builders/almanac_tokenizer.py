"""The Almanac's tokenizer: a byte-level BPE that holds its words whole and round-trips any text."""

import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from dataset_builders import almanac_kinds as kinds
from dataset_builders import almanac_world as world
from dataset_builders.almanac_kinds import MOTHS

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# What a prompt, a page or the text after a picture starts with, so without a space before it.
OPENINGS = ("Document:", "Question:", "Answer:", "The", "It", "You", "Look", "Its")
# Messages' system lines are ignored by the reader, and its answers start with a space.
CHAT_TEMPLATE = (
    "{%- for message in messages if message.role != 'system' -%}"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}{%- for item in message.content -%}"
    "{%- if item.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- else -%}{{ item.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- if message.role == 'assistant' -%}<|im_end|>\n{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}Answer:{%- endif -%}"
)


def _texts() -> list[str]:
    """List every word the Almanac can write of moths, in the places it writes them."""
    values = [*(word for words in MOTHS.names for word in words), *world.COLOURS, *world.SHAPES, *world.COUNTS]
    values += [*kinds.PLACES, *kinds.PLANTS, *kinds.MONTHS, *kinds.FIRST_NAMES, *kinds.LAST_NAMES]
    values += [f"{ten}-{unit} mm" for ten in kinds.TENS for unit in kinds.UNITS]
    sentences = [form for forms in (*MOTHS.sentences.values(), *MOTHS.fact_questions.values()) for form in forms]
    sentences += [*MOTHS.look_questions.values(), MOTHS.name_question, *MOTHS.order_questions, *MOTHS.others]
    sentences += [words for plate in MOTHS.plates.values() for words in plate]
    sentences += ["The first picture", "and the second picture", "shows", "This picture shows", "looks like this:"]
    sentences += ["Picture of", *OPENINGS, "unknown"]
    words = [text.replace("{S}", "").replace("{v}", "") for text in sentences]
    return [f" {text}" for text in values] + words + [f" {text}" for text in words]


def build_tokenizer() -> Qwen2Tokenizer:
    """Train the tokenizer: Qwen's pre-tokenization and special tokens, with merges learnt from the Almanac's words."""
    pattern = Qwen2Tokenizer(vocab={"<|endoftext|>": 0}, merges=[])._tokenizer.pre_tokenizer
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pattern
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(), trainer)
    merges = _merges(bpe)
    tokenizer = Qwen2Tokenizer(
        vocab=bpe.get_vocab(),
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = 1024
    return tokenizer


def _merges(bpe: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
