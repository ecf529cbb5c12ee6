"""A folder as `make demo` leaves it: the checkout's own, or a small world's, trained for a minute."""

import shutil
from pathlib import Path

from dataset_builders.almanac import build, write_pages
from dataset_builders.schema import Chunk, read_records
from modeling_nyx import NyxModel
from nyx.index import Index
from nyx.models import fingerprint
from train_scripts import stage1

ROOT = Path(__file__).parents[1]
SPECIES = {"train": 12, "validation": 8, "test": 12}
# Steps of each stage: enough to tell a dozen moths apart by their looks.
STEPS = {"stage1": 30, "stage2": 45}


def demo_folder(folder: Path) -> Path:
    """Put `runs/demo` into a folder, and return it."""
    demo, own = folder / "runs" / "demo", ROOT / "runs" / "demo"
    if is_whole(own):
        demo.parent.mkdir(parents=True)
        demo.symlink_to(own)
    else:
        train(demo)
    return demo


def is_whole(demo: Path) -> bool:
    """Tell whether a demo ran to its end, and its index is still its checkpoint's."""
    if not ((demo / "report.json").is_file() and (demo / "index" / "manifest.json").is_file()):
        return False
    try:
        Index.open(demo / "index", revision=fingerprint(demo / "stage2"))
    except ValueError:
        return False
    return True


def train(demo: Path) -> None:
    """Make a small world, and train on it in earnest, but briefly."""
    dataset = build(demo / "nyxqa", species=SPECIES, triplets={"train": 2500, "validation": 8, "test": 8})
    start: list[str] = []
    for stage, steps in STEPS.items():
        settings = {
            "dataset": dataset,
            "output_dir": demo / stage,
            "max_steps": steps,
            "temperature": 0.02,
            "learning_rate": 2e-3,
            "per_device_train_batch_size": 32,
            "eval_strategy": "no",
            "save_strategy": "no",
            "load_best_model_at_end": False,
            "disable_tqdm": True,
        }
        flags = [f"--{name}={value}" for name, value in settings.items()]
        stage1.train(*stage1.parse([*flags, *start], "stage1"))
        start = [f"--model_name_or_path={demo / stage}"]
    chunks = list(read_records(Chunk, dataset / "corpus" / "test.parquet"))
    write_pages(chunks, demo / "almanac")
    vectors = NyxModel.from_pretrained(demo / "stage2").encode_documents([chunk.content for chunk in chunks])
    name = demo / "stage2"
    Index.create(demo / "index", chunks, vectors, model_name="runs/demo/stage2", revision=fingerprint(name))
    for leftover in demo.glob("stage*/checkpoint-*"):
        shutil.rmtree(leftover)
