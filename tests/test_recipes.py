"""Recipes parse into what the scripts take, mark where values come from, and refuse what they don't know."""

import re
from pathlib import Path

import pytest
import yaml

from dataset_builders.almanac import TINY_VLM
from train_scripts import collect_feedback
from train_scripts.arguments import RECIPES
from train_scripts.stage1 import parse

STAGES = ["stage1", "stage2"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_tiny_recipe_is_the_default(stage):
    data, arguments, adapter = parse([], stage)
    written = yaml.safe_load((RECIPES / "tiny" / f"{stage}.yaml").read_text())
    assert arguments.output_dir == f"runs/demo/{stage}" and data.dataset == "runs/demo/nyxqa"
    assert arguments.matryoshka_dimensions == [128, 64, 32, 16] and arguments.temperature == 0.02
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


@pytest.mark.parametrize("form", [["--config", "{}"], ["--config={}"]])
def test_a_recipe_is_named_in_either_form(form, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("output_dir: out\nlearning_rate: 3e-4\nmatryoshka_dimensions: 16\nreplay: null\nuse_cpu: true\n")
    data, arguments, _ = parse([part.format(recipe) for part in form], "stage2")
    assert (arguments.learning_rate, arguments.matryoshka_dimensions, data.replay) == (3e-4, [16], 0.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("temprature: 0.1", "unknown --temprature=0.1; did you mean temperature?"),
        ("max_steps: many", "max_steps/--max-steps: invalid int value: 'many'"),
        ("per_device_train_batch_size: 4.5", "invalid int value: '4.5'"),
        ("matryoshka_dimensions: [a]", "matryoshka_dimensions/--matryoshka-dimensions: invalid int value: 'a'"),
        ("use_cpu: perhaps", "argument --use_cpu"),
        ("- a list", "expected `name: value` lines, not list"),
        ("a: [", "cannot be read"),
    ],
)
def test_unknown_names_and_mistyped_values_end_with_a_line_that_says_which(line, message, tmp_path, capsys):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"output_dir: out\n{line}\n" if ":" in line and "[" not in line[:4] else line)
    with pytest.raises(SystemExit) as end:
        parse(["--config", str(recipe)], "stage1")
    printed = capsys.readouterr().err
    assert end.value.code == 2 and message in printed and len(printed.splitlines()) < 8


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("negatives: some", "'some'; expected 'all' or 'own'"),
        ("matryoshka_weights: [1.0]", "for 4 matryoshka_dimensions; expected one a dimension"),
        ("matryoshka_weights: [0, 0, 0, 0]", "not all 0"),
        ("matryoshka_dimensions: [64, 64]", "expected different positive numbers"),
        ("matryoshka_dimensions: [64, 0]", "expected different positive numbers"),
        ("temperature: 0", "temperature is 0.0; expected more than 0"),
        ("hard_negatives: -1", "hard_negatives is -1; expected at least 0"),
        ("micro_batch_tokens: 0", "expected at least 1"),
        ("replay: 2", "replay is 2.0; expected at least 0 and less than 1"),
    ],
)
def test_values_that_make_no_sense_are_named(line, message, tmp_path):
    recipe = tmp_path / "mine.yaml"
    key = line.split(":")[0]
    lines = (RECIPES / "tiny" / "stage1.yaml").read_text().splitlines()
    kept = [each for each in lines if not each.startswith((f"{key}:", "matryoshka_weights:"))]
    recipe.write_text("\n".join([*kept, line]))
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(["--config", str(recipe)], "stage1")


@pytest.mark.parametrize("scale", ["tiny", "paper"])
def test_feedback_recipes_make_rules(scale):
    recipe = str(RECIPES / scale / "feedback.yaml")
    assert collect_feedback.parse(["--config", recipe]).rule().candidates == {"tiny": 8, "paper": 30}[scale]
    assert collect_feedback.parse([]).retriever == "runs/demo/stage1"


def test_the_tiny_reader_is_there():
    assert (TINY_VLM / "model.safetensors").stat().st_size <= 8_000_000
