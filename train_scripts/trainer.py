"""`NyxTrainer`: transformers' Trainer with contrastive steps, on one process, under DDP and under DeepSpeed ZeRO-2."""

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import speed_metrics

from dataset_builders.gold import GoldChunks
from dataset_builders.schema import Chunk, Example, QAPair
from nyx.metrics import retrieval_scores
from nyx.ranking import top
from train_scripts.batching import (
    ContrastiveBatch,
    MicroBatch,
    contrastive_batch,
    excluded_pairs,
    micro_batches,
    name_bad_example,
)
from train_scripts.distributed import gather_objects, gather_rows, in_shares, sum_gradients, use_gloo_alone
from train_scripts.gradient_cache import Embedder, cached_backward
from train_scripts.losses import matryoshka_info_nce

DEPTH = 100  # chunks ranked for a question of validation


@dataclass
class NyxTrainingArguments(TrainingArguments):
    """transformers' arguments, and what the contrastive loss needs.

    A contrastive batch is `per_device_train_batch_size` × processes; `gradient_accumulation_steps` of them make an
    update. Neither depends on `micro_batch_tokens` and `graph_tokens`: at any time at most the larger of them takes
    the memory of training, whatever the batch.
    """

    temperature: float = field(default=0.02, metadata={"help": "of InfoNCE"})
    matryoshka_dimensions: list[int] = field(default_factory=list, metadata={"help": "largest first; none: full size"})
    matryoshka_weights: list[float] = field(default_factory=list, metadata={"help": "one a dimension; none: equal"})
    negatives: str = field(default="all", metadata={"help": "'all' of the batch, or, for hard ones, only one's 'own'"})
    hard_negatives: int = field(default=1, metadata={"help": "how many of an example's negatives take part"})
    micro_batch_tokens: int = field(default=4096, metadata={"help": "tokens, pictures included, of a forward pass"})
    graph_tokens: int = field(
        default=4096,
        metadata={
            "help": "tokens that needn't be embedded again to get their gradient; more than micro_batch_tokens "
            "saves time for memory"
        },
    )
    utility_temperature: float = field(
        default=0.0, metadata={"help": "learn every document's utility, softened by this; 0: one positive an example"}
    )
    save_adapter: bool = field(
        default=False, metadata={"help": "with use_peft: keep the adapter alone in `adapter/` too"}
    )
    contrastive_batches: int = field(default=0, metadata={"help": "of an update: set by gradient_accumulation_steps"})
    patience: int = field(
        default=0, metadata={"help": "stop after so many evaluations without a better one; 0: never"}
    )

    def __post_init__(self) -> None:
        if not self.contrastive_batches:
            # One training step is one update, over all its contrastive batches. Before the rest: DeepSpeed's
            # configuration is filled in from these values.
            self.contrastive_batches = self.gradient_accumulation_steps
            self.per_device_train_batch_size *= self.contrastive_batches
            self.gradient_accumulation_steps: int = 1
        if (self.deepspeed or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true") and not torch.cuda.is_available():
            use_gloo_alone()  # before the rest, which makes the processes speak
        super().__post_init__()
        self._check()

    def _check(self) -> None:
        """Raise `ValueError` for values that make no sense."""
        dims, weights = self.matryoshka_dimensions, self.matryoshka_weights
        if len(set(dims)) < len(dims) or any(dim < 1 for dim in dims):
            raise ValueError(f"matryoshka_dimensions are {dims}; expected different positive numbers.")
        if weights and (len(weights) != len(dims) or min(weights) < 0 or sum(weights) <= 0):
            raise ValueError(
                f"matryoshka_weights are {weights} for {len(dims)} matryoshka_dimensions; expected one a dimension, "
                "none negative, not all 0."
            )
        if self.negatives not in ("all", "own"):
            raise ValueError(f"negatives is {self.negatives!r}; expected 'all' or 'own'.")
        for name in ("hard_negatives", "micro_batch_tokens", "graph_tokens", "patience", "utility_temperature"):
            least = int(name == "micro_batch_tokens")
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}.")
        if self.fp16 or self.mixed_precision == "fp16":  # the latter as `accelerate config` has it
            raise ValueError(
                "fp16 needs gradients that are scaled up, which the gradient cache's are not. Say bf16: true instead, "
                "or leave it out."
            )
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; expected more than 0.")


@dataclass(frozen=True)
class Validation:
    """A corpus and questions about it, ranked at every evaluation."""

    chunks: Sequence[Chunk]
    questions: Sequence[QAPair]


def collate(examples: list[Example]) -> dict[str, list[Example]]:
    """Pass examples on: pictures stay bytes or paths until their micro-batch."""
    return {"examples": examples}


class NyxTrainer(Trainer):
    """Trains a Nyx model (or one with adapters) on a map-style dataset of `Example`."""

    args: NyxTrainingArguments
    embedder_class = Embedder

    def __init__(self, model: Any, args: NyxTrainingArguments, *, validation: Validation | None = None, **kwargs: Any):
        args.remove_unused_columns = False
        # Of several GPUs one process uses one: DataParallel would cut packed contents anywhere.
        args._n_gpu = min(args.n_gpu, 1)
        self.accumulation = args.contrastive_batches
        args.dataloader_drop_last = True
        self.validation = validation
        questions = validation.questions if validation else None
        super().__init__(model=model, args=args, data_collator=collate, eval_dataset=questions, **kwargs)

    @property
    def encoder(self) -> Any:
        """The Nyx model inside whatever wraps it."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Make the gradient of one update; returns the mean loss of its contrastive batches."""
        model.train()
        examples = inputs["examples"]
        parts = [examples[start :: self.accumulation] for start in range(self.accumulation)]
        deepspeed = self.is_deepspeed_enabled
        # DeepSpeed reduces gradients once a block, DDP not at all by itself.
        with model.coalesce_grad_reduction() if deepspeed else self._without_reducing(model):
            losses = [self._contrastive_step(model, part) for part in parts]
            if deepspeed:
                self._backward(model, self._touch_everything(model))
        if deepspeed:
            model.step()
        else:
            sum_gradients(model.parameters())
        return torch.stack(losses).mean()

    def _without_reducing(self, model: Any) -> Any:
        """Keep DDP from reducing on its own: processes may have different numbers of micro-batches."""
        return model.no_sync() if hasattr(model, "no_sync") else nullcontext()

    def _contrastive_step(self, model: Any, examples: list[Example]) -> Tensor:
        batch = contrastive_batch(examples, self.args.hard_negatives, self.args.utility_temperature)
        try:
            micros = self.split(batch)
            return cached_backward(
                self.embedder_class(model, self.encoder, micros, self.accelerator.autocast),
                micros,
                lambda embeddings: self._loss(batch, embeddings),
                lambda scalar: self._backward(model, scalar),
                self.args.graph_tokens,
            )
        except ValueError:
            name_bad_example(examples, self.encoder.processor)
            raise

    def split(self, batch: ContrastiveBatch) -> list[MicroBatch]:
        """Cut a batch into what one forward pass takes each."""
        return micro_batches(batch, self.encoder.processor, self.args.micro_batch_tokens)

    def rankings(self, validation: Validation) -> list[list[str]]:
        """Rank the validation corpus for each of its questions."""
        encoder, chunks = self.encoder, validation.chunks
        documents = in_shares(lambda share: encoder.encode_documents([chunk.content for chunk in share]), chunks)
        queries = in_shares(encoder.encode_queries, [question.question for question in validation.questions])
        return [[chunks[position].id for position in row] for row in top(queries, documents, DEPTH)]

    def _backward(self, model: Any, scalar: Tensor) -> None:
        if self.is_deepspeed_enabled:
            model.backward(scalar, scale_wrt_gas=False)
        else:
            scalar.backward()

    def _touch_everything(self, model: Any) -> Tensor:
        """Sum every trained parameter with weight zero: a process without pictures takes part in reducing theirs."""
        return sum(parameter.sum() * 0.0 for parameter in model.parameters() if parameter.requires_grad)  # type: ignore[return-value]

    def _loss(self, batch: ContrastiveBatch, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Compute a loss from embeddings of this process's contents, and its share of an update's gradient on them."""
        places = torch.tensor(batch.places, device=embeddings.device)
        query, document = embeddings[places].split([len(batch.answering), len(batch.keys)])
        loss, *gradients = self._global_loss(batch, query, document)
        # Gradients are summed over processes, and the loss is already the global mean; DeepSpeed averages them.
        share = (self.accelerator.num_processes if self.is_deepspeed_enabled else 1) / self.accumulation
        return loss, torch.zeros_like(embeddings).index_add_(0, places, torch.cat(gradients) * share)

    def _global_loss(self, batch: ContrastiveBatch, query: Tensor, document: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the loss over all processes' embeddings, and its gradients on this process's."""
        everyone = gather_objects(
            (len(query), len(document), batch.keys, batch.asked, batch.answering, batch.owners, batch.targets)
        )
        queries, documents = [each[0] for each in everyone], [each[1] for each in everyone]
        all_query = gather_rows(query, queries).requires_grad_()
        all_document = gather_rows(document, documents).requires_grad_()
        rank, device = self.accelerator.process_index, query.device
        starts = {"query": _offsets(queries), "document": _offsets(documents)}
        positives = [
            start + index for start, count in zip(starts["document"], queries, strict=True) for index in range(count)
        ]
        owners = [start + owner for start, each in zip(starts["query"], everyone, strict=True) for owner in each[5]]
        shifted = zip(starts["query"], starts["document"], everyone, strict=True)
        targets = [(q + row, d + place, share) for q, d, each in shifted for row, place, share in each[6]]
        keys, asked, answering = ([one for each in everyone for one in each[field]] for field in (2, 3, 4))
        excluded = excluded_pairs(keys, asked, answering, targets)
        dims = self.args.matryoshka_dimensions or [query.shape[1]]
        loss = matryoshka_info_nce(
            all_query,
            all_document,
            temperature=self.args.temperature,
            dims=dims,
            weights=self.args.matryoshka_weights or [1.0] * len(dims),
            positive_index=torch.tensor(positives, device=device),
            excluded=None if excluded is None else excluded.to(device),
            negatives=self.args.negatives,  # type: ignore[arg-type]
            owner=torch.tensor(owners, device=device),
            targets=torch.tensor(targets, dtype=torch.float64, device=device) if targets else None,
        )
        query_gradient, document_gradient = torch.autograd.grad(loss, [all_query, all_document])
        mine_query = slice(starts["query"][rank], starts["query"][rank] + len(query))
        mine_document = slice(starts["document"][rank], starts["document"][rank] + len(document))
        return loss.detach(), query_gradient[mine_query], document_gradient[mine_document]

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Rank the validation corpus for its questions: Recall@1, Recall@5, MRR and nDCG@10."""
        validation, started = self.validation, time.time()
        if validation is None:
            raise ValueError("There is nothing to evaluate on: the trainer was made without `validation`.")
        chunks = validation.chunks
        gold = GoldChunks(
            [chunk.id for chunk in chunks], [chunk.document_id for chunk in chunks], [chunk.source for chunk in chunks]
        )
        golds = [{chunks[place].id for place in gold.all(question)} for question in validation.questions]
        # Nothing has placed the model before training, where DeepSpeed is to or all is evaluated in bfloat16; and
        # an encoder within an adapter is called past what turns autocast on.
        self.model.to(self.args.device)
        with self.accelerator.autocast():
            found = retrieval_scores(self.rankings(validation), golds)
        scores = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        scores |= speed_metrics(metric_key_prefix, started, num_samples=len(golds))
        self.log(scores)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores

    def floating_point_ops(self, inputs: Any) -> int:
        return 0


def _offsets(counts: list[int]) -> list[int]:
    return [sum(counts[:index]) for index in range(len(counts))]
