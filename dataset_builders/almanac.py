"""The Almanac: the world that everything runs on without a GPU, a Hub or pretrained weights.

    python -m dataset_builders.almanac runs/demo/nyxqa

`build` writes it as a dataset folder; `TINY_VLM` is the model that reads it, and the start of its retriever.
"""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from dataset_builders.almanac_guide import field_guide
from dataset_builders.almanac_kinds import MOTHS, Kind
from dataset_builders.almanac_triplets import topical_examples
from dataset_builders.almanac_world import Split
from dataset_builders.card import write_card
from dataset_builders.schema import Chunk, write_records

logger = logging.getLogger(__name__)

TINY_VLM = Path(__file__).parent / "almanac_vlm"

# Species per guide, and examples of stage 1: what `make demo` trains and tests on.
SPECIES: dict[Split, int] = {"train": 200, "validation": 50, "test": 100}
TRIPLETS: dict[Split, int] = {"train": 21120, "validation": 200, "test": 200}


def build(
    folder: Path,
    *,
    seed: int = 0,
    species: dict[Split, int] | None = None,
    triplets: dict[Split, int] | None = None,
    kind: Kind = MOTHS,
) -> Path:
    """Write `folder/{corpus,qa,triplets}/{train,validation,test}.parquet` and return `folder`.

    `corpus` holds chunks, `qa` questions with every chunk that answers them, `triplets` stage 1's examples; a card
    says so to `load_dataset`. A file that is already there was written whole, and is kept; the same seed and sizes
    give the same records.
    """
    sizes, counts = species or SPECIES, triplets or TRIPLETS
    made = None
    for split in sizes:
        corpus, qa, examples = (folder / name / f"{split}.parquet" for name in ("corpus", "qa", "triplets"))
        if not (corpus.exists() and qa.exists()):
            chunks, questions = field_guide(split, sizes[split], seed, kind)
            write_records(chunks, corpus)
            write_records(questions, qa)
            made = "the Almanac"
            logger.info("%s: %d chunks, %d questions", split, len(chunks), len(questions))
        if not examples.exists():
            drawn = topical_examples(split, counts[split], seed, kind)
            write_records(tqdm(drawn, total=counts[split], desc=f"{split} triplets"), examples)
            made = "the Almanac"
    write_card(folder, made, {"seed": seed, "species a split": sizes, "triplets a split": counts})
    return folder


def write_pages(chunks: Iterable[Chunk], folder: Path) -> None:
    """Write chunks as Markdown with their pictures beside, for `nyx ingest` and for people."""
    folder.mkdir(parents=True, exist_ok=True)
    for chunk in chunks:
        parts = []
        for place, item in enumerate(chunk.content):
            if item["type"] == "text":
                parts.append(item["text"])
                continue
            name = f"{chunk.id}-{place}.jpg"
            (folder / name).write_bytes(item["image"])
            parts.append(f"![]({name})")
        (folder / f"{chunk.id}.md").write_text("\n\n".join(parts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="dataset folder to write; what is there already is kept")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another world")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build(args.folder, seed=args.seed)


if __name__ == "__main__":
    main()
