"""Examples as contrastive batches, and contrastive batches as micro-batches under a token budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import torch
from torch import Tensor

from dataset_builders.schema import Example, Preference
from modeling_nyx import NyxProcessor
from modeling_nyx.content_nyx import Content
from modeling_nyx.processing_nyx import Role
from modeling_nyx.rows_nyx import Row, group_by_tokens
from nyx.records import content_id

Picture = tuple[Any, tuple[int, int]]  # its source, and its grid


@dataclass(frozen=True)
class ContrastiveBatch:
    """What one loss is computed over: queries, and documents, of which the first n are the queries' positives.

    `queries` and `documents` are different contents each, numbered one after the other. `places` says which of them
    every example's query is, and then every document: what occurs several times is embedded once. `owners` says which
    query brought a document; `keys` identify documents, and `asked`, for each example, its query; `answering` holds,
    for each example, the keys of all documents that it knows to answer. `targets`: for queries that learn from
    utilities, the share of every document of theirs, as (query, document, share).
    """

    queries: list[Content]
    documents: list[Content]
    places: list[int]
    owners: list[int]
    keys: list[str]
    asked: list[str]
    answering: list[list[str]]
    targets: list[tuple[int, int, float]]


@dataclass(frozen=True)
class MicroBatch:
    """Some contents of a batch, by number and tokenized: as much as one forward pass takes."""

    indices: list[int]
    rows: list[Row]

    @property
    def pictures(self) -> dict[str, Picture]:
        """Its different pictures by key."""
        found = (zip(row.keys, row.images, row.grids, strict=True) for row in self.rows)
        return {key: (image, grid) for each in found for key, image, grid in each}


def contrastive_batch(
    examples: Sequence[Example], hard_negatives: int, utility_temperature: float = 0.0
) -> ContrastiveBatch:
    """Line up examples: first every example's first positive, then up to `hard_negatives` negatives of each.

    With a `utility_temperature`, further positives of examples that have utilities count as negatives do, and the
    softmax of the utilities says how much of each document is wanted.
    """
    documents = [example.positives[0] for example in examples]
    owners, targets = list(range(len(examples))), []
    answering = [[content_id(positive) for positive in example.positives] for example in examples]
    for owner, example in enumerate(examples):
        utilities = example.utilities if utility_temperature and isinstance(example, Preference) else []
        others = [*example.positives[1:], *example.negatives] if utilities else example.negatives
        others = others[:hard_negatives]
        if utilities:
            places = [owner, *range(len(documents), len(documents) + len(others))]
            shares = softmax(utilities[: len(places)], utility_temperature)
            targets += [(owner, place, share) for place, share in zip(places, shares, strict=True)]
        documents += others
        owners += [owner] * len(others)
    asked = [content_id(example.query) for example in examples]
    keys = [content_id(document) for document in documents]
    queries = {key: example.query for key, example in zip(asked, examples, strict=True)}
    different = dict(zip(keys, documents, strict=True))
    number = {("query", key): place for place, key in enumerate(queries)}
    number |= {("document", key): len(queries) + place for place, key in enumerate(different)}
    places = [number["query", key] for key in asked] + [number["document", key] for key in keys]
    contents = list(queries.values()), list(different.values())
    return ContrastiveBatch(*contents, places, owners, keys, asked, answering, targets)


def softmax(values: Sequence[float], temperature: float) -> list[float]:
    weights = [exp((value - max(values)) / temperature) for value in values]
    return [weight / sum(weights) for weight in weights]


def micro_batches(batch: ContrastiveBatch, processor: NyxProcessor, batch_tokens: int) -> list[MicroBatch]:
    """Split a batch by true token counts, pictures included; nothing is decoded."""
    rows = processor.rows(batch.queries, "query") + processor.rows(batch.documents, "document")
    groups = group_by_tokens([len(row.ids) for row in rows], batch_tokens)
    return [MicroBatch(indices, [rows[index] for index in indices]) for indices in groups]


def name_bad_example(examples: Sequence[Example], processor: NyxProcessor) -> None:
    """Raise the error of the first content that cannot be embedded, with its example's id, if there is one."""
    for example in examples:
        roles: dict[Role, list[Content]] = {
            "query": [example.query],
            "document": [*example.positives, *example.negatives],
        }
        for role, contents in roles.items():
            try:
                processor.pack_rows(processor.rows(contents, role))
            except ValueError as error:
                raise type(error)(f"Example {example.id}, {role}: {error}") from error


def excluded_pairs(
    keys: Sequence[str],
    asked: Sequence[str],
    answering: Sequence[Sequence[str]],
    targets: Sequence[tuple[int, int, float]],
) -> Tensor | None:
    """List (query, document) pairs in which the document is no negative. Shape (n, 2).

    It is known to answer the query, be it from another example with the same query, or it has a share in `targets`.
    """
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    known: dict[str, set[str]] = {}
    for query, answers in zip(asked, answering, strict=True):
        known.setdefault(query, set()).update(answers)
    found = [set(known[query]) for query in asked]
    for owner, place, _ in targets:
        found[owner].add(keys[place])  # a copy that another example brought along would count twice
    pairs = [(row, place) for row, each in enumerate(found) for key in each for place in places.get(key, ())]
    return torch.tensor(pairs) if pairs else None
