"""Recipes parse into what the scripts take, mark where values come from, and refuse what they don't know."""

from pathlib import Path

import pytest
import yaml
from trl import TrlParser

from dataset_builders.almanac import TINY_VLM
from train_scripts import collect_feedback
from train_scripts.stage1 import RECIPES, parse, with_recipe

STAGES = ["stage1", "stage2"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_tiny_recipe_is_the_default(stage):
    data, arguments, adapter = parse([], stage)
    written = yaml.safe_load((RECIPES / "tiny" / f"{stage}.yaml").read_text())
    assert arguments.output_dir == f"runs/demo/{stage}" and data.dataset == "runs/demo/nyxqa"
    assert arguments.matryoshka_dimensions == [128, 64, 32, 16] and arguments.temperature == 0.05
    assert arguments.max_steps == written["max_steps"] and not adapter.use_peft


@pytest.mark.parametrize("stage", STAGES)
def test_the_papers_values(stage):
    recipe = str(RECIPES / "paper" / f"{stage}.yaml")
    # A CPU has no bf16 training by transformers' checks; nothing else changes.
    _, arguments, adapter = parse(["--config", recipe, "--bf16", "false"], stage)
    assert (arguments.temperature, arguments.learning_rate, arguments.max_grad_norm) == (0.02, 1e-5, 5.0)
    assert arguments.matryoshka_dimensions == [2048, 1024, 512, 256]
    assert 8 * arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 640
    assert (adapter.lora_r, adapter.lora_alpha, adapter.use_dora) == (8, 64, True)


@pytest.mark.parametrize("path", sorted((RECIPES / "paper").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_value_of_the_paper_recipes_says_where_it_is_from(path: Path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert lines and all(any(f"# {mark}" in line for mark in ("paper", "official code", "ours")) for line in lines)


def test_the_command_line_changes_a_recipe():
    assert parse(["--learning_rate", "1e-4"], "stage1")[1].learning_rate == 1e-4


@pytest.mark.parametrize("stage", STAGES)
def test_an_unknown_field_is_named(stage, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text((RECIPES / "tiny" / f"{stage}.yaml").read_text() + "temprature: 0.1\n")
    with pytest.raises(ValueError, match="temprature"):
        parse(["--config", str(recipe)], stage)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_steps: many", "many"),
        ("negatives: some", "'some'; expected 'all' or 'own'"),
        ("matryoshka_weights: [1.0]", "1 "),
    ],
)
def test_a_mistyped_value_is_named(line, message, tmp_path, capsys):
    recipe = tmp_path / "mine.yaml"
    key = line.split(":")[0]
    lines = (RECIPES / "tiny" / "stage1.yaml").read_text().splitlines()
    recipe.write_text("\n".join([each for each in lines if not each.startswith(f"{key}:")] + [line]))
    with pytest.raises((ValueError, SystemExit)) as caught:
        parse(["--config", str(recipe)], "stage1")
    assert message in str(caught.value) + capsys.readouterr().err


@pytest.mark.parametrize("scale", ["tiny", "paper"])
def test_feedback_recipes_make_rules(scale):
    recipe = str(RECIPES / scale / "feedback.yaml")
    (arguments,) = TrlParser((collect_feedback.FeedbackArguments,)).parse_args_and_config(["--config", recipe])
    assert arguments.rule().candidates == {"tiny": 8, "paper": 30}[scale]
    assert with_recipe([], "feedback")[1].endswith("tiny/feedback.yaml")


def test_the_tiny_reader_is_there():
    assert (TINY_VLM / "model.safetensors").stat().st_size <= 8_000_000
