"""Divide and conquer, the baseline that mixed embedding is held against: text and pictures are embedded apart.

The same network is trained on the same examples for the same steps, but it sees one part of a content at a time: all
its text, or one picture. A content's embedding is the mean of its parts' (averaging); instead of it, scores can be
fused: every part of the query counts with its best part of the document.

    python train_scripts/apart.py --output_dir runs/apart

takes stage 1's recipe and arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.apart import apart_scores, parts_of
from modeling_nyx.rows_nyx import group_by_tokens
from nyx.errors import plain_errors
from train_scripts import stage1
from train_scripts.batching import ContrastiveBatch, MicroBatch
from train_scripts.gradient_cache import Embedder
from train_scripts.trainer import DEPTH, NyxTrainer, Validation


@dataclass(frozen=True)
class ApartMicroBatch(MicroBatch):
    """Whole contents, whose rows are all their parts; `counts` says how many each has."""

    counts: list[int]


class ApartEmbedder(Embedder):
    """Embeds contents as means of their parts."""

    def __call__(self, micro: MicroBatch) -> Tensor:
        assert isinstance(micro, ApartMicroBatch)
        each = super().__call__(micro).split(micro.counts)
        return F.normalize(torch.stack([parts.mean(0) for parts in each]), dim=-1)


class ApartTrainer(NyxTrainer):
    """Trains on means of parts' embeddings."""

    embedder_class = ApartEmbedder

    def split(self, batch: ContrastiveBatch) -> list[MicroBatch]:
        processor = self.encoder.processor
        rows = [processor.rows(parts_of(content), "query") for content in batch.queries]
        rows += [processor.rows(parts_of(content), "document") for content in batch.documents]
        lengths = [sum(len(row.ids) for row in parts) for parts in rows]
        micros: list[MicroBatch] = []
        for indices in group_by_tokens(lengths, self.args.micro_batch_tokens):
            flat = [row for index in indices for row in rows[index]]
            micros.append(ApartMicroBatch(indices, flat, [len(rows[index]) for index in indices]))
        return micros

    def rankings(self, validation: Validation) -> list[list[str]]:
        documents = [chunk.content for chunk in validation.chunks]
        averaged, _ = apart_scores(self.encoder, [each.question for each in validation.questions], documents)
        order = np.argsort(-averaged, axis=1, kind="stable")[:, :DEPTH]
        return [[validation.chunks[position].id for position in row] for row in order]


def main(argv: Sequence[str] | None = None) -> None:
    stage1.prepare()
    stage1.train(*stage1.parse(argv, "stage1"), trainer_class=ApartTrainer)


if __name__ == "__main__":
    with plain_errors():
        main()
