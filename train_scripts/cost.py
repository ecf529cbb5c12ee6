"""How many GPU hours and how much memory the paper-scale studies take, computed from what they do.

    python -m train_scripts.cost     # writes the table beside train_scripts/recipes/studies/paper.yaml

A step's floating-point operations are `passes` × parameters × tokens: the language model's parameters without the
embedding for every token, the vision tower's for every patch, four patches a visual token. A forward pass is 2.
Training an adapter is 6: everything is embedded once (2), its checkpointed layers are computed again (2), and the
backward pass goes through activations alone (2), since the weights are frozen. What a batch has beyond `graph_tokens`
is embedded twice (2 more).
Attention itself is left out: below a tenth at these lengths. Hours are operations over what the GPUs do in bfloat16
times a utilisation, which is assumed, not measured.

Memory, a GPU: training keeps the weights in float32, the input of every layer of `graph_tokens` tokens in float32 and
of their patches in bfloat16, one layer's activations, and a rest: the last two as `benchmarks.gpu` measured them in a
step of Qwen2.5-VL-3B. Encoding and reading keep the weights in bfloat16 (over as many GPUs as it takes), and a fifth
more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import yaml

from modeling_nyx import NyxConfig, NyxModel
from train_scripts.arguments import RECIPES

STUDIES = RECIPES / "studies" / "paper.yaml"
TABLE = STUDIES.with_name("README.md")

# An A800 or A100 of 80 GB, dense bfloat16, operations a second; the share of it that is used is assumed.
PEAK = 312e12
UTILISATION = {"train": 0.35, "encode": 0.4, "read": 0.2}
PASSES = {"train": 6, "encode": 2, "read": 2}
PATCHES = 4
GRAPH_TOKENS = 32768
BATCH = 20  # examples on a device, in every training
REST = 2.4  # GiB
GIB = 2**30

VISION: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "window_size": 112,
}
TEXT: dict[str, dict[str, Any]] = {
    "Qwen2.5-VL-3B": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
    "Qwen2.5-VL-7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
}


@dataclass(frozen=True)
class Work:
    """What a step does `items` times: `kind` of work, with `text` and `visual` tokens each, and `answer` tokens."""

    kind: str
    model: str
    items: int
    text: int
    visual: int = 0
    answer: int = 0
    gpus: int = 1


@dataclass(frozen=True)
class Size:
    """Parameters of a model: in all, used by a token, and used by a patch."""

    all: float
    token: float
    patch: float


def empty_model(name: str) -> NyxModel:
    """Build a model of `TEXT` without memory for its weights."""
    text = TEXT[name] | {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }
    config = NyxConfig(text_config=text, vision_config=VISION | {"out_hidden_size": text["hidden_size"]})
    with torch.device("meta"):
        return NyxModel._from_config(config, dtype=torch.bfloat16)


@cache
def size_of(model: str) -> Size:
    """Count a model's parameters; of another one than `TEXT`'s the name ends in its billions, as in `InternVL3-8B`.

    That one's pictures cost nothing but their visual tokens. Raises `ValueError` if the name doesn't say.
    """
    if model in TEXT:
        return measured(empty_model(model))
    try:
        billions = float(model.rpartition("-")[2].removesuffix("B"))
    except ValueError as error:
        raise ValueError(
            f"{model} is none of {', '.join(TEXT)}, and its name doesn't end in -8B or the like."
        ) from error
    return Size(billions * 1e9, billions * 1e9, 0)


def measured(model: Any) -> Size:
    """Count a model's parameters; the embedding is looked up, and the merger sees four patches as one."""

    def count(part: Any) -> int:
        return sum(parameter.numel() for parameter in part.parameters())

    text = count(model.language_model) - count(model.language_model.embed_tokens)
    return Size(count(model), text, count(model.visual) - count(model.visual.merger) * (1 - 1 / PATCHES))


def operations(work: Work, size: Size | None = None) -> float:
    """Return the floating-point operations of a step."""
    size = size or size_of(work.model)
    tokens = work.text + work.visual + work.answer
    beyond = max(0.0, 1 - GRAPH_TOKENS / (BATCH * tokens)) if work.kind == "train" else 0.0
    return (PASSES[work.kind] + 2 * beyond) * work.items * (tokens * size.token + PATCHES * work.visual * size.patch)


def gpu_hours(work: Work) -> float:
    return operations(work) / (PEAK * UTILISATION[work.kind]) / 3600


def activations(model: str, tokens: float, visual: float, at_once: float) -> float:
    """Return the bytes that a checkpointed graph over so many tokens takes, some visual, so many in a micro-batch."""
    hidden, inner, layers = (TEXT[model][key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    tower = 2 * VISION["depth"] * VISION["hidden_size"] * PATCHES * visual
    return tokens * 4 * layers * hidden + tower + at_once * (50 * hidden + 23 * inner)


def memory(work: Work) -> float:
    """Return GiB on each of a step's GPUs."""
    if work.kind == "train":
        # A backbone whose shape is not here takes no more than that of the 7B.
        shape = work.model if work.model in TEXT else "Qwen2.5-VL-7B"
        visual = GRAPH_TOKENS * work.visual / (work.text + work.visual)
        return (4 * size_of(work.model).all + activations(shape, GRAPH_TOKENS, visual, GRAPH_TOKENS)) / GIB + REST
    return 2 * size_of(work.model).all * 1.2 / work.gpus / GIB


def steps(study: dict[str, Any]) -> Iterator[tuple[list[str], Work | None]]:
    """Yield a study's steps: the commands, and what they do together.

    There is a command for each name in `for`, which stands where `{}` does; where names have options, these stand
    where `{options}` does.
    """
    for step in study["steps"]:
        names = step.get("for", [""])
        options = names if isinstance(names, dict) else dict.fromkeys(names, "")
        work = Work(**step["work"]) if "work" in step else None
        filled = [
            step["run"].replace("{}", str(name)).replace("{options}", option) for name, option in options.items()
        ]
        yield filled, work


def read_studies() -> dict[str, Any]:
    return yaml.safe_load(STUDIES.read_text())


def table() -> str:
    """Write the studies, their steps, and what those take, as Markdown."""
    lines = [
        "# The studies at the paper's scale",
        "",
        "Exact commands with their data; `{}` stands for each of the values listed. Hours are those of GPUs of 80 GB "
        f"({PEAK / 1e12:.0f} TFLOP/s), computed by `python -m train_scripts.cost` at an assumed utilisation of "
        + ", ".join(f"{share:.0%} ({kind})" for kind, share in UTILISATION.items())
        + "; its docstring has the formula. What an earlier study leaves is used, not made again.",
    ]
    for name, study in read_studies().items():
        total = sum(gpu_hours(work) for _, work in steps(study) if work)
        lines += ["", f"## {name}: {study['asks']}", "", f"{total:,.1f} GPU hours.", ""]
        lines += ["| command | GPU hours | GPUs | GiB on each |", "| --- | --- | --- | --- |"]
        for step, (_, work) in zip(study["steps"], steps(study), strict=True):
            values = f"<br>for {named(step['for'])}" if "for" in step else ""
            took = f"{gpu_hours(work):,.1f} | {work.gpus} | {memory(work):.0f}" if work else "– | – | –"
            lines.append(f"| `{step['run'].replace('|', chr(92) + '|')}`{values} | {took} |")
    return "\n".join(lines) + "\n"


def named(values: Any) -> str:
    pairs = values.items() if isinstance(values, dict) else ((value, "") for value in values)
    return ", ".join(f"{name} (`{option}`)" if option else str(name) for name, option in pairs)


def main() -> None:
    TABLE.write_text(table())


if __name__ == "__main__":
    main()
