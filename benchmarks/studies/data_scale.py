"""How do retrieval and answers grow with the number of stage 1's examples? (the paper's figure 4)

    python -m benchmarks.studies.data_scale

As the paper's, the points are checkpoints of one run, whose learning rate has fallen only at the last of them: stage
1's recipe once more, stopped at its last snapshot, and stage 1 itself at the end. No example is seen twice.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import LAST, World
from nyx.ranking import top
from train_scripts import stage1
from train_scripts.scoring import DEPTH
from train_scripts.trainer import NyxTrainer

SNAPSHOTS = (5, 10, 25, 50, 100)
METRICS = ("recall@1", "recall@5", "answer EM")


class Snapshots(NyxTrainer):
    """Saves the model after `SNAPSHOTS` updates, and stops after the last."""

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        if self.state.global_step in SNAPSHOTS:
            self.encoder.save_pretrained(Path(str(self.args.output_dir)) / str(self.state.global_step))
        self.control.should_training_stop = self.state.global_step + 1 >= min(SNAPSHOTS[-1], self.args.max_steps)
        return super().training_step(model, inputs, num_items_in_batch)


def train(world: World) -> None:
    """Train stage 1 up to the last snapshot, unless it is there."""
    output = world.folder / "studies" / "data_scale"
    if not (output / "model.safetensors").exists():
        stage1.train(*stage1.parse(world.arguments(output, *LAST), "stage1"), trainer_class=Snapshots)


def measure(world: World) -> Measured:
    train(world)
    recipe = stage1.parse(world.steps, "stage1")[1]
    run = "studies/data_scale"
    places = {step: f"{run}/{step}" for step in SNAPSHOTS[:-1]} | {SNAPSHOTS[-1]: run}
    if world.dry:
        places = {0: run}
    places[recipe.max_steps] = "stage 1"
    sizes = {max(1, step * recipe.train_batch_size): place for step, place in places.items()}
    arms = {f"stage 1 @ {size}": world.retrieved(top(*world.embed(place), DEPTH)) for size, place in sizes.items()}
    return {"arms": arms}


def log_linear(seeds: list[Measured]) -> dict[str, Any]:
    """Fit score = slope · log10(examples) + intercept, with the slope's 95 % interval over questions."""
    arms, fits = seeds[0]["arms"], {}
    x = np.log10([int(arm.partition(" @ ")[2]) for arm in arms])
    for metric in METRICS:
        scores = np.array([[v for seed in seeds for v in seed["arms"][arm][metric].values()] for arm in arms])
        drawn = np.random.default_rng(0).integers(scores.shape[1], size=(2000, scores.shape[1]))
        slopes = np.polyfit(x, scores[:, drawn].mean(axis=2), 1)[0]
        means = scores.mean(axis=1)
        slope, intercept = np.polyfit(x, means, 1)
        left = float(((means - slope * x - intercept) ** 2).sum() / max(((means - means.mean()) ** 2).sum(), 1e-12))
        fits[metric] = {
            "slope": round(float(slope), 4),
            "interval": [round(float(value), 4) for value in np.quantile(slopes, [0.025, 0.975])],
            "intercept": round(float(intercept), 4),
            "R²": round(1 - left, 4),
        }
    return {"log-linear fit": fits}


STUDY = Study("data_scale", __doc__, measure, metrics=METRICS, axis="examples", scale="log", further=log_linear)

if __name__ == "__main__":
    STUDY.run()
