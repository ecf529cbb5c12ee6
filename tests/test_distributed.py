"""Two processes train as one does: DDP and DeepSpeed ZeRO-2, with unequal micro-batches and a text-only rank."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import free_port

ROOT = Path(__file__).parents[1]
SCRIPT = str(ROOT / "tests" / "training_run.py")
BIN = Path(sys.executable).parent


def run(command: list, output: Path, **environment: str) -> dict:
    """Run a training and return its world size, losses and final weights."""
    compiled = output / "compiled"
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    settings["TORCH_EXTENSIONS_DIR"] = str(compiled)
    done = subprocess.run([str(part) for part in command], env=settings, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not compiled.exists()  # as DeepSpeed would, for more than a minute
    return json.loads((output / "result.json").read_text()) | {"weights": load_file(output / "end.safetensors")}


@pytest.fixture(scope="module")
def one_process(model_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("one")
    return run([sys.executable, SCRIPT, model_folder, output, 8], output)


def assert_same_evaluation(ours: dict, expected: dict) -> None:
    assert ours["scores"] == expected["scores"] and len({*ours["scores"].values()}) > 1
    assert (ours["embedded"], expected["embedded"]) == ([11], [21])


def assert_same_training(ours: dict, expected: dict) -> None:
    assert len(ours["losses"]) == len(expected["losses"]) == 20
    torch.testing.assert_close(torch.tensor(ours["losses"]), torch.tensor(expected["losses"]), atol=1e-5, rtol=0)
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(ours["weights"][name], weight, atol=1e-4, rtol=0, msg=name)


def test_training_changes_every_part(one_process, model):
    before = model.state_dict()
    for part in ("language_model.layers.0.self_attn.q_proj.weight", "visual.blocks.0.attn.qkv.weight"):
        assert not torch.allclose(one_process["weights"][part], before[part], atol=1e-3)
    assert one_process["world"] == 1


def test_ddp_equals_one_process(one_process, model_folder, tmp_path):
    command = [
        BIN / "torchrun",
        "--nproc_per_node",
        2,
        "--master_port",
        free_port(),
        SCRIPT,
        model_folder,
        tmp_path,
        4,
    ]
    ours = run(command, tmp_path)
    assert ours["world"] == 2 and ours["kind"] == "DistributedType.MULTI_CPU"
    assert_same_evaluation(ours, one_process)
    assert_same_training(ours, one_process)


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs the train extra")
@pytest.mark.parametrize("way", ["accelerate", "configuration"])
def test_zero2_equals_one_process(one_process, model_folder, tmp_path, way):
    if way == "accelerate":
        launch = [BIN / "accelerate", "launch", "--use_deepspeed", "--num_processes", 2, "--zero_stage", 2]
        command = [*launch, "--main_process_port", free_port(), SCRIPT, model_folder, tmp_path, 4]
    else:
        launch = [BIN / "torchrun", "--nproc_per_node", 2, "--master_port", free_port()]
        configuration = ROOT / "train_scripts" / "zero2.json"
        command = [*launch, SCRIPT, model_folder, tmp_path, 4, "--deepspeed", configuration]
    ours = run(command, tmp_path, DS_ACCELERATOR="cpu")
    assert ours["world"] == 2 and ours["kind"] == "DistributedType.DEEPSPEED"
    assert_same_evaluation(ours, one_process)
    assert_same_training(ours, one_process)


def test_resumed_equals_uninterrupted(one_process, model_folder, tmp_path):
    first = [sys.executable, SCRIPT, model_folder, tmp_path, 8]
    stopped = run([*first, "--stop", 7], tmp_path)
    assert len(stopped["losses"]) == 7
    assert_same_training(run([*first, "--resume"], tmp_path), one_process)
