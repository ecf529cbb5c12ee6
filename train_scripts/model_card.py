"""The card of a model folder, from what is in it: configuration, records of its runs, curve, evaluation."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from dataset_builders.card import cell
from train_scripts.provenance import TRAINING

TEMPLATE = Path(__file__).with_name("model_card.md")
CURVE, REPORT = "curve.json", "report.json"
MEASURES = ("recall@1", "recall@5", "mrr", "ndcg@10")
COLUMNS = ("recall@1", "recall@5", "mrr", "answer_em")


def model_card(folder: Path, name: str) -> str:
    """Write the card of the model in `folder`, to be loaded as `name`; what the folder doesn't record is left out.

    Raises `ValueError` if the record is of a run that has not ended: the weights are not its.
    """
    config, processor = _read(folder / "config.json"), _read(folder / "processor_config.json")
    runs = _runs(_read(folder / TRAINING))
    if runs and "steps" not in runs[-1]:
        raise ValueError(f"The run in {folder} has not ended: {TRAINING} doesn't say what came of it. Train on first.")
    start = runs[0]["start"] if runs else {}
    header = ModelCardData(
        library_name="transformers",
        pipeline_tag="feature-extraction",
        # A start without a hash was a repository's name.
        base_model=start["name"] if start and start["sha256"] is None else None,
        tags=["retrieval", "multimodal", "interleaved", "matryoshka", config["model_type"]],
    )
    size, pixels = config["text_config"]["hidden_size"], processor["image_processor"]["size"]
    card = ModelCard.from_template(
        header,
        template_path=str(TEMPLATE),
        name=name,
        dimensions=size,
        matryoshka=[dim for dim in config.get("matryoshka_dimensions") or () if dim < size],
        instruction=cell(processor["query_instruction"]) if processor.get("query_instruction") else "none",
        pixels=(pixels["shortest_edge"], pixels["longest_edge"]),
        architecture=config["architectures"][0],
        dtype=config["dtype"],
        runs=runs,
        curve=_evaluations(_read(folder / CURVE)),
        measures=MEASURES,
        report=_read(folder / REPORT),
        columns=COLUMNS,
    )
    return str(card).rstrip() + "\n"


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _runs(run: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the run and those that its start came from, first one first."""
    if run is None:
        return []
    arguments = {name: cell(value) for name, value in run["arguments"].items()}
    return [*_runs(run["start"].get("training")), run | {"arguments": arguments}]


def _evaluations(curve: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Return the measures at each evaluation, with the training loss that was logged last before it."""
    rows, loss = [], None
    for entry in curve or ():
        loss = entry.get("loss", loss)
        if "eval_recall@1" in entry:
            rows.append({"step": entry["step"], "loss": loss} | {name: entry[f"eval_{name}"] for name in MEASURES})
    return rows
