"""The scripts run from nothing, in the order a user would start them, and leave folders that load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load_dataset
from safetensors.torch import load_file
from transformers import AutoModel

from dataset_builders.almanac import TINY_VLM, build
from dataset_builders.card import fingerprints
from dataset_builders.schema import Example, Preference, features, read_records
from modeling_nyx import NyxModel
from nyx.adapters import apply_adapter
from nyx.models import fingerprint, load_encoder
from tests.conftest import free_port
from train_scripts import apart, collect_feedback, fit, stage1, stage2
from train_scripts.fit import prepare_model
from train_scripts.trainer import NyxTrainer

ROOT = Path(__file__).parents[1]
SHORT = [
    "--max_steps",
    "2",
    "--warmup_steps",
    "0",
    "--eval_steps",
    "1",
    "--save_steps",
    "1",
    "--per_device_train_batch_size",
    "6",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A small Almanac."""
    sizes = {"train": 12, "validation": 5, "test": 5}
    return build(tmp_path_factory.mktemp("nyxqa"), species=sizes, triplets={"train": 40, "validation": 5, "test": 5})


@pytest.fixture(scope="module")
def first(dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("stage1")
    stage1.main(["--dataset", str(dataset), "--output_dir", str(output), *SHORT])
    return output


def test_stage_1_leaves_a_complete_checkpoint_and_its_curve(first):
    model = NyxModel.from_pretrained(first)
    assert model.config.matryoshka_dimensions == [128, 64, 32, 16] and model.processor.append_eos
    start = load_file(TINY_VLM / "model.safetensors")
    weight = "layers.0.self_attn.q_proj.weight"
    assert not torch.equal(model.state_dict()[f"language_model.{weight}"], start[f"model.{weight}"])
    curve = json.loads((first / "curve.json").read_text())
    assert [row["step"] for row in curve if "eval_recall@5" in row] == [0, 1, 2]
    remote = AutoModel.from_pretrained(first, trust_remote_code=True)
    assert np.array_equal(remote.encode_queries(["moth"]), model.encode_queries(["moth"]))


def test_stage_1_says_what_ran(first, dataset):
    about = json.loads((first / "training.json").read_text())
    assert (about["stage"], about["examples"], about["steps"], about["processes"]) == ("stage 1", 40, 2, 1)
    assert about["start"]["name"] == "almanac_vlm" and about["start"]["sha256"] == fingerprint(TINY_VLM)[:16]
    assert about["dataset"] == {"name": dataset.name, "sha256": about["dataset"]["sha256"]}
    # Feedback may have been collected since.
    assert about["dataset"]["sha256"].items() <= fingerprints(dataset).items()
    assert about["arguments"]["per_device_train_batch_size"] == 6 and about["arguments"]["learning_rate"] == 1.2e-3
    assert about["seconds"] > 0 and about["versions"]["torch"] == torch.__version__
    assert str(dataset.parent) not in json.dumps(about)


def test_arguments_are_told_as_they_were_given(dataset, tmp_path):
    given = ["--gradient_accumulation_steps", "3", "--use_peft", "true", "--lora_target_modules", "q_proj", "v_proj"]
    stage1.main(["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT, *given])
    told = json.loads((tmp_path / "training.json").read_text())["arguments"]
    assert (told["per_device_train_batch_size"], told["gradient_accumulation_steps"]) == (6, 3)
    assert told["lora_target_modules"] == ["q_proj", "v_proj"] and not {
        "dataset",
        "output_dir",
        "contrastive_batches",
    } & set(told)


@pytest.fixture(scope="module")
def feedback(first, dataset):
    collect_feedback.main(["--dataset", str(dataset), "--retriever", str(first)])
    return dataset / "feedback"


def test_stage_2_learns_utilities_where_feedback_has_them(first, dataset, feedback, tmp_path):
    made = list(read_records(Preference, feedback / "train.parquet"))
    assert all(len(each.utilities) == len(each.positives) + len(each.negatives) for each in made)
    assert all(each.utilities[0] == 1.0 and each.utilities[-1] == 0.0 for each in made)
    arguments = ["--model_name_or_path", str(first), "--dataset", str(dataset), *SHORT, "--utility_temperature", "0.5"]
    stage2.main([*arguments, "--output_dir", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "training.json").read_text())["arguments"]["utility_temperature"] == 0.5
    with pytest.raises(ValueError, match="no utilities. Collect feedback again"):
        stage1.main(["--dataset", str(dataset), "--utility_temperature", "0.5", "--output_dir", str(tmp_path / "no")])


def test_stage_2_trains_on_feedback_and_keeps_the_dimensions(first, dataset, feedback, tmp_path):
    arguments = ["--model_name_or_path", str(first), "--dataset", str(dataset), "--output_dir", str(tmp_path)]
    stage2.main([*arguments, *SHORT])
    about = json.loads((tmp_path / "training.json").read_text())
    assert about["stage"] == "stage 2" and about["start"]["training"]["stage"] == "stage 1"
    assert load_dataset(str(dataset), "feedback", split="train", streaming=True).features == features(Preference)
    assert NyxModel.from_pretrained(tmp_path).config.matryoshka_dimensions == [128, 64, 32, 16]
    examples = list(read_records(Example, feedback / "train.parquet"))
    dropped = [json.loads(line) for line in (feedback / "train.dropped.jsonl").read_text().splitlines()]
    asked = len(examples) + len(dropped)
    assert examples and all(example.positives and example.negatives for example in examples)
    assert {row["reason"] for row in dropped} <= {"no window passed", "no document failed"} and asked > 40


def test_adapters_are_merged_into_what_is_saved(dataset, tmp_path):
    lora = ["--use_peft", "true", "--use_dora", "true", "--lora_r", "4", "--lora_target_modules", "q_proj", "v_proj"]
    stage1.main(["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT, *lora])
    model = NyxModel.from_pretrained(tmp_path)
    start = NyxModel.from_pretrained(TINY_VLM)
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, start.state_dict()[n])}
    assert changed and all("q_proj.weight" in name or "v_proj.weight" in name for name in changed)
    assert not (tmp_path / "adapter").exists()


def test_an_adapter_is_kept_alone_on_request(dataset, tmp_path):
    lora = ["--use_peft", "true", "--lora_r", "4", "--lora_target_modules", "q_proj", "v_proj"]
    lora += ["--save_adapter", "true"]
    options = ["--learning_rate", "1e-2", "--query_instruction", "Find: "]
    stage1.main(["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT, *lora, *options])
    merged = NyxModel.from_pretrained(tmp_path)
    again = apply_adapter(NyxModel.from_pretrained(TINY_VLM), tmp_path / "adapter")
    assert np.abs(again.encode_queries(["a moth"]) - merged.encode_queries(["a moth"])).max() < 1e-5
    with pytest.raises(ValueError, match="save_adapter came without an adapter"):
        stage1.main(["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT, "--save_adapter", "true"])


def test_a_frozen_vision_tower_stays(dataset, tmp_path):
    stage1.main(["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT, "--freeze_vision", "true"])
    start, model = NyxModel.from_pretrained(TINY_VLM).state_dict(), NyxModel.from_pretrained(tmp_path).state_dict()
    changed = {name.split(".")[0] for name in start if not torch.equal(start[name], model[name])}
    assert changed == {"language_model"}


def test_apart_takes_stage_1s_recipe(dataset, tmp_path):
    apart.main(["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT])
    assert NyxModel.from_pretrained(tmp_path).encode_documents(["moth"]).shape == (1, 128)


BIN = Path(sys.executable).parent
LAUNCHES = {
    "one": ["accelerate", "launch", "--cpu"],
    "ddp": "torchrun --nproc_per_node 2 --master_port {port}".split(),
    "zero2": "accelerate launch --use_deepspeed --num_processes 2 --zero_stage 2 --main_process_port {port}".split(),
}


def launch(way, stage, output, *options):
    """Start a stage as README says it; returns its curve's losses, its weights, and what it printed."""
    port = free_port()
    program, *flags = [part.format(port=port) for part in LAUNCHES[way]]
    command = [BIN / program, *flags, ROOT / "train_scripts" / f"{stage}.py", "--output_dir", output, *options]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    run = subprocess.run([str(part) for part in command], env=settings, capture_output=True, text=True, timeout=540)
    assert run.returncode == 0, run.stderr[-3000:]
    losses = [row["loss"] for row in json.loads((output / "curve.json").read_text()) if "loss" in row]
    return losses, load_file(output / "model.safetensors"), run.stderr


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_stages_train_the_same_with_one_process_and_two(stage, dataset, first, feedback, tmp_path):
    """The tiny recipes, made short: contrastive batches of 4, two an update, micro-batches of a few contents."""
    sizes = "--max_steps 20 --eval_steps 20 --save_steps 20 --logging_steps 1 --gradient_accumulation_steps 2".split()
    # Keys' biases have hardly a gradient but rounding, which Adam would otherwise blow up to the learning rate. And
    # at the recipe's rate 20 steps make of rounding just about what is allowed here, on CPUs without AVX-512.
    gentle = "--adam_epsilon 1e-3 --learning_rate 1e-4".split()
    options = ["--dataset", dataset, *sizes, "--micro_batch_tokens", "150", *gentle]
    options += ["--model_name_or_path", first] if stage == "stage2" else []
    batch = "--per_device_train_batch_size"
    losses, weights, said = launch("one", stage, tmp_path / "one", *options, batch, 4)
    assert len(losses) == 20 and "1 process(es), contrastive batches of 4, 2 an update" in said
    assert ("examples, in the file's order" if stage == "stage1" else "examples, shuffled") in said
    for way in ("ddp", "zero2"):
        ours, trained, said = launch(way, stage, tmp_path / way, *options, batch, 2)
        assert "2 process(es), contrastive batches of 4, 2 an update" in said
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(losses), atol=1e-5, rtol=0)
        for name, weight in weights.items():
            torch.testing.assert_close(trained[name], weight, atol=1e-4, rtol=0, msg=name)


def test_dimensions_beyond_the_model_are_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match="matryoshka_dimensions reach 256, but .* embeds in 128"):
        stage1.main(
            [
                "--dataset",
                str(dataset),
                "--output_dir",
                str(tmp_path),
                "--matryoshka_dimensions",
                "256",
                "64",
                "32",
                "16",
            ]
        )


def test_what_would_train_on_something_else_is_refused(dataset, first, tmp_path):
    options = ["--output_dir", str(tmp_path / "out"), *SHORT]
    with pytest.raises(ValueError, match="No examples at .*nowhere.* Make them first"):
        stage1.main(["--dataset", str(tmp_path / "nowhere"), *options])
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ValueError, match="No feedback at .*Collect it first: .*collect_feedback.py --dataset"):
        stage2.main(["--dataset", str(tmp_path / "nowhere"), "--model_name_or_path", str(first), *options])
    with pytest.raises(ValueError, match="40 examples came, but one update takes 48"):
        stage1.main(["--dataset", str(dataset), *options, "--per_device_train_batch_size", "48"])
    with pytest.raises(ValueError, match="query_instruction is 'Find:', but .* was trained with ''"):
        stage1.main(
            ["--dataset", str(dataset), *options, "--model_name_or_path", str(first), "--query_instruction", "Find:"]
        )
    with pytest.raises(ValueError, match="replay is 0.5, but stage 1"):
        stage1.main(["--dataset", str(dataset), *options, "--replay", "0.5"])


def test_only_the_same_run_goes_on(dataset, tmp_path):
    options = ["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT]
    stage1.main(options)
    with pytest.raises(ValueError, match="holds checkpoints of another run: .*learning_rate was 0.0012, is 0.5"):
        stage1.main([*options, "--learning_rate", "0.5"])
    best = json.loads((tmp_path / "training.json").read_text())["best_step"]  # the checkpoint that is kept
    stage1.main([*options, "--max_steps", "3"])
    about = json.loads((tmp_path / "training.json").read_text())
    assert (about["steps"], about["went_on_from"]) == (3, best)
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert [row["step"] for row in curve if "eval_recall@5" in row] == [0, 1, 2, 3]


def test_what_began_anew_never_goes_on_from_older_checkpoints(dataset, tmp_path, monkeypatch, caplog):
    options = ["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT]
    stage1.main(options)

    def dies(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(NyxTrainer, "training_step", dies)
        stage1.main([*options, "--learning_rate", "0.5", "--resume", "false"])
    assert not list(tmp_path.glob("checkpoint-*")) and "Starting anew: removing" in caplog.text


def test_options_of_an_adapter_without_one_are_told(tmp_path, caplog):
    prepare_model(str(TINY_VLM), *stage1.parse(["--output_dir", str(tmp_path)], "stage1"))
    assert "All weights are trained" not in caplog.text
    options = ["--output_dir", str(tmp_path), "--lora_r", "4", "--use_dora", "true"]
    prepare_model(str(TINY_VLM), *stage1.parse(options, "stage1"))
    assert "All weights are trained: lora_r, use_dora without use_peft: true." in caplog.text


def test_the_same_seed_draws_the_same_adapter(tmp_path):
    options = ["--use_peft", "true", "--seed", "7", "--output_dir", str(tmp_path)]
    drawn = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        data, arguments, adapter = stage1.parse(options, "stage1")
        drawn.append(prepare_model(str(TINY_VLM), data, arguments, adapter).state_dict())
    assert any("lora_A" in name for name in drawn[0])
    assert all(torch.equal(weight, drawn[1][name]) for name, weight in drawn[0].items())


def test_a_large_model_is_not_trained_by_a_recipe_for_the_cpu(tmp_path, monkeypatch):
    data, arguments, adapter = stage1.parse(["--output_dir", str(tmp_path)], "stage1")
    with pytest.raises(ValueError, match=r"Qwen/large has 3.8 billion parameters.* --config .*paper/stage1.yaml"):
        fit.refuse_large_on_cpu("Qwen/large", 3_800_000_000, arguments)
    arguments.use_cpu = False
    fit.refuse_large_on_cpu("Qwen/large", 3_800_000_000, arguments)
    arguments.use_cpu = True
    monkeypatch.setattr(fit, "LARGE", 1_000_000)
    with pytest.raises(ValueError, match="almanac_vlm has 0.0 billion parameters"):
        prepare_model(str(TINY_VLM), data, arguments, adapter)


def test_the_start_has_the_revision_that_is_named(tmp_path, monkeypatch):
    asked = []

    def load(name, revision=None, **options):
        asked.append((name, revision))
        return load_encoder(TINY_VLM, **options)

    monkeypatch.setattr(fit, "load_encoder", load)
    prepare_model("org/nyx", *stage1.parse(["--model_revision", "v1", "--output_dir", str(tmp_path)], "stage1"))
    assert asked == [("org/nyx", "v1")]


@pytest.mark.parametrize(
    "option",
    [
        ["--dtype", "bfloat16"],
        ["--attn_implementation", "sdpa"],
        ["--load_in_8bit", "true"],
        ["--load_in_4bit", "true"],
    ],
)
def test_options_that_would_change_nothing_are_refused(option, dataset, tmp_path):
    with pytest.raises(ValueError, match=f"{option[0][2:]} is .*but training takes float32 weights"):
        stage1.main(["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT, *option])


def test_patience_needs_evaluations(dataset, tmp_path):
    options = "--patience 2 --eval_strategy no --load_best_model_at_end false".split()
    with pytest.raises(ValueError, match="patience is 2, but there is no evaluation to wait for"):
        stage1.main(["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT, *options])


def test_an_adapter_needs_no_targets_and_leaves_frozen_vision_alone(dataset, tmp_path):
    lora = ["--use_peft", "true", "--lora_r", "4", "--freeze_vision", "true"]
    stage1.main(["--dataset", str(dataset), "--output_dir", str(tmp_path), *SHORT, *lora])
    start, model = NyxModel.from_pretrained(TINY_VLM).state_dict(), NyxModel.from_pretrained(tmp_path).state_dict()
    changed = {name for name in start if not torch.equal(start[name], model[name])}
    assert any("down_proj" in name for name in changed) and all(name.startswith("language_model") for name in changed)
