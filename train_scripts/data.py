"""Where a run's data lies, and how examples are read while training."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError
from torch.utils.data import Dataset

from dataset_builders.schema import Example, Preference, QAPair, features, read_records
from nyx.records import from_row
from nyx.stored_chunks import stored_chunks
from train_scripts.trainer import Validation


@dataclass
class DataArguments:
    """What a stage reads."""

    dataset: str = field(
        default="runs/demo/nyxqa", metadata={"help": "dataset folder; the Almanac is written there if it is absent"}
    )
    query_instruction: str = field(default="", metadata={"help": "put before queries; part of the checkpoint"})
    freeze_vision: bool = field(default=False, metadata={"help": "train the language model alone"})
    replay: float = field(default=0.0, metadata={"help": "stage 2: share of stage 1's examples in training"})
    resume: bool = field(default=True, metadata={"help": "go on from the last checkpoint in output_dir, if any"})

    def __post_init__(self) -> None:
        if not 0 <= self.replay < 1:
            raise ValueError(f"replay is {self.replay}; expected at least 0 and less than 1.")


class Examples(Dataset):
    """Examples of Parquet files; pictures stay bytes until a micro-batch needs them.

    `datasets` keeps a copy of a file in its cache (`HF_DATASETS_CACHE`), which all processes map into memory.
    """

    def __init__(self, *paths: Path) -> None:
        for path in paths:
            if not path.is_file():
                raise ValueError(f"No examples at {path}. Make them first, or name another folder.")
        self.tables = [_mapped(path) for path in paths]
        for path, table in zip(paths, self.tables, strict=True):
            if missing := features(Example).keys() - table.column_names:
                raise ValueError(f"{path} has columns {table.column_names}, but examples need {sorted(missing)} too.")
        self.kinds = [Preference if "utilities" in each.column_names else Example for each in self.tables]
        self.places = [(table, row) for table, each in enumerate(self.tables) for row in range(each.num_rows)]

    def mixed(self, other: "Examples", share: float, seed: int) -> "Examples":
        """Add as many rows of `other`, drawn with `seed`, as make up `share` of the whole."""
        wanted = round(len(self) * share / (1 - share))
        rng, pool = Random(seed), list(range(len(other)))
        drawn = rng.sample(pool, wanted) if wanted <= len(pool) else rng.choices(pool, k=wanted)
        both = Examples()
        both.tables, both.kinds = self.tables + other.tables, self.kinds + other.kinds
        shifted = [(other.places[index][0] + len(self.tables), other.places[index][1]) for index in drawn]
        both.places = self.places + shifted
        return both

    def expect_utilities(self, temperature: float) -> None:
        """Raise `ValueError` if utilities are to be learnt from and there are none."""
        if temperature and Preference not in self.kinds:
            raise ValueError(
                f"utility_temperature is {temperature}, but these examples have no utilities. Collect feedback again, "
                "which notes them, or leave it out."
            )

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        table, row = self.places[index]
        kind, values = self.kinds[table], self.tables[table][row].to_pylist()[0]
        example = from_row(kind, {name: values[name] for name in features(kind)})
        if not example.positives:
            raise ValueError(f"Example {example.id} has no positive. Leave it out.")
        return example


def _mapped(path: Path) -> datasets.Dataset:
    """Map a file's rows into memory, as Arrow has them."""
    try:
        return datasets.Dataset.from_parquet(str(path)).with_format("arrow")
    except (pa.ArrowException, DatasetGenerationError) as error:
        cache = datasets.config.HF_DATASETS_CACHE
        raise ValueError(f"{path} cannot be read into the cache at {cache}: {error.__cause__ or error}") from error


def read_validation(folder: Path, questions: int | None = None) -> Validation | None:
    """Read a dataset folder's validation corpus and questions, if it has them."""
    corpus, qa = folder / "corpus" / "validation.parquet", folder / "qa" / "validation.parquet"
    if not (corpus.is_file() and qa.is_file()):
        return None
    asked: Sequence[QAPair] = list(read_records(QAPair, qa))[:questions]
    return Validation(stored_chunks(corpus), asked)
