"""The paper-scale studies: every command parses, what it trains is built without weights, and its cost is computed."""

import re
import shlex
from dataclasses import replace

import pytest
import torch
from peft import get_peft_model_state_dict

from benchmarks.encode_case import TEXT, VISION, write_checkpoint
from modeling_nyx import NyxModel
from nyx_cli.main import load
from train_scripts import collect_feedback, cost, stage1
from train_scripts.cost import (
    BATCH,
    GRAPH_TOKENS,
    Work,
    activations,
    empty_model,
    gpu_hours,
    measured,
    memory,
    operations,
    size_of,
)
from train_scripts.fit import adapted

COMMANDS = [
    (name, run) for name, study in cost.read_studies().items() for runs, _ in cost.steps(study) for run in runs
]


def check(run: str) -> None:
    """Read a command as the program does that it names; what fails is a mistake in the recipe."""
    match shlex.split(run):
        case ["nyx", name, *given]:
            load(name).make_context(f"nyx {name}", given)
        case ["accelerate", "launch", "--num_processes", "8", script, *given]:
            stage = re.fullmatch(r"train_scripts/(stage[12])\.py", script)
            assert stage
            _, arguments, adapter = stage1.parse([*given, "--bf16", "false"], stage[1])  # no bf16 training on a CPU
            assert 8 * arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 640
            assert adapter.use_peft and adapter.model_name_or_path
        case ["python", "train_scripts/collect_feedback.py", *given]:
            assert collect_feedback.parse(given).rule().candidates
        case ["python", "-c", code]:
            compile(code, "recipe", "exec")
        case ["python", "-m", "dataset_builders.official", _, _] | ["cp", "-r", _, _]:
            pass
        case other:
            pytest.fail(f"no program is known that runs {other}")


def test_every_experiment_has_its_recipe():
    assert list(cost.read_studies()) == "E1 E2 E3 Q1 Q2 Q3 C1 C2 C3 S1 S2 S3".split()


@pytest.mark.parametrize(
    ("name", "run"), COMMANDS, ids=[f"{name}-{place}" for place, (name, _) in enumerate(COMMANDS)]
)
def test_every_command_parses(name, run):
    assert "{" not in run or "python -c" in run
    check(run)


@pytest.mark.parametrize("run", ["nyx evaluate a --model b --temprature 1", "rm -r runs", "nyx benchmark"])
def test_a_mistaken_command_is_noticed(run):
    with pytest.raises(BaseException):  # noqa: B017  (usage errors and pytest's own failures have no nearer base)
        check(run)


@pytest.fixture(scope="module")
def encoder() -> NyxModel:
    return empty_model("Qwen2.5-VL-3B")


def test_the_backbone_has_its_published_size(encoder):
    size = measured(encoder)
    assert all(parameter.is_meta for parameter in encoder.parameters())
    # A token's weights, by hand: attention with 2 key-value heads of 128 (three biases), the gated layer, norms.
    hidden, inner, side = (
        cost.TEXT["Qwen2.5-VL-3B"][key] for key in ("hidden_size", "intermediate_size", "hidden_size")
    )
    layer = 2 * hidden * side + 2 * hidden * 256 + side + 512 + 3 * hidden * inner + 2 * hidden
    assert size.token == 36 * layer + hidden
    tower = sum(parameter.numel() for parameter in encoder.visual.parameters())
    assert size.all == size.token + tower + 151936 * hidden == 3_754_622_976 and size.patch < tower


def test_the_adapter_is_built_without_weights(encoder):
    recipe = ["--config", str(cost.RECIPES / "paper" / "stage1.yaml"), "--bf16", "false"]
    _, _, adapter = stage1.parse(recipe, "stage1")
    with torch.device("meta"):
        model = adapted(encoder, adapter)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    # Rank 8 on what the official list of names matches, and a magnitude for each of its outputs: 8.93 million.
    assert trained == pytest.approx(8.93e6, rel=0.005)
    assert get_peft_model_state_dict(model)


def test_operations_are_those_of_what_was_measured(tmp_path):
    # 25,602 tokens and 70,336 patches through a model of this shape were counted as 1,350 G in linear layers alone;
    # biases and norms, and what their count rounds off, are a thirtieth more.
    size = measured(NyxModel.from_pretrained(write_checkpoint(tmp_path, shape=(TEXT, VISION))))
    counted = 2 * (25_602 * size.token + 70_336 * size.patch)
    work = Work("encode", "-", items=1, text=25_602 - 70_336 // 4, visual=70_336 // 4)
    assert operations(work, size) == counted == pytest.approx(1350e9, rel=0.04)


def test_a_step_of_the_backbone():
    # About 1e16 operations forward and backward over 3,000 documents of 300 tokens.
    work = Work("train", "Qwen2.5-VL-3B", items=3000, text=300)
    assert operations(work) == pytest.approx(1e16, rel=0.7) and operations(work) > 1e16
    twice = Work("train", "Qwen2.5-VL-3B", items=6000, text=300, gpus=8)
    assert gpu_hours(twice) == pytest.approx(2 * gpu_hours(work))
    beyond = Work("train", "Qwen2.5-VL-3B", items=3000, text=4 * GRAPH_TOKENS // BATCH)  # three quarters of a batch
    assert operations(beyond) == pytest.approx(7.5 / 2 * operations(replace(beyond, kind="encode")), rel=1e-4)
    assert gpu_hours(work) == pytest.approx(6 * 3000 * 300 * size_of("Qwen2.5-VL-3B").token / (312e12 * 0.35) / 3600)


def test_memory():
    # What `benchmarks.gpu` measured on an H200, with a smaller vocabulary: 39.6 GiB for 31,745 tokens in one pass,
    # 31.8 in micro-batches of at most 7,943.
    weights = 4 * (size_of("Qwen2.5-VL-3B").all - 151_936 * 2048)
    for at_once, peak in ((31_745, 39.62), (7_943, 31.83)):
        taken = weights + activations("Qwen2.5-VL-3B", 31_745, 64_744 / 4, at_once)
        assert taken / 2**30 + cost.REST == pytest.approx(peak, rel=0.03)
    assert memory(Work("train", "Qwen2.5-VL-3B", 1, 1)) < 80 and memory(Work("read", "InternVL3-78B", 1, 1)) > 80
    assert memory(Work("read", "InternVL3-78B", 1, 1, gpus=4)) == pytest.approx(78e9 * 2 * 1.2 / 4 / 2**30)
    with pytest.raises(ValueError, match="its name doesn't end in -8B"):
        size_of("something")


def test_every_step_fits_its_gpus_and_the_table_is_what_is_computed():
    works = [work for study in cost.read_studies().values() for _, work in cost.steps(study) if work]
    assert works and all(0 < memory(work) < 74 and gpu_hours(work) > 0 for work in works)
    assert cost.TABLE.read_text() == cost.table()
