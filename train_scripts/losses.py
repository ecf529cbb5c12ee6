"""Contrastive losses of Nyx. Pure functions of embeddings: no model, no device, no process group.

Shape letters: Q queries, D documents, E embedding size, K Matryoshka dimensions, C queries of one chunk.
A prefix's inner products are the running sum of block products and its squared norms the running sum of squares,
so all dimensions cost one pass over the embeddings. Gradients are formed beside the values, chunk by chunk:
memory is O(C·D), never Q·D.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 256  # queries whose K similarity matrices exist at the same time


def info_nce(
    query_QE: Tensor,
    document_DE: Tensor,
    *,
    temperature: float,
    positive_index: Tensor | None = None,
    excluded: Tensor | None = None,
    negatives: Literal["all", "own"] = "all",
    owner: Tensor | None = None,
) -> Tensor:
    """Return the mean InfoNCE of cosine similarities (paper Eq. 1); the arguments are `matryoshka_info_nce`'s."""
    return matryoshka_info_nce(
        query_QE,
        document_DE,
        temperature=temperature,
        dims=[query_QE.shape[1]],
        weights=[1.0],
        positive_index=positive_index,
        excluded=excluded,
        negatives=negatives,
        owner=owner,
    )


def matryoshka_info_nce(
    query_QE: Tensor,
    document_DE: Tensor,
    *,
    temperature: float,
    dims: Sequence[int],
    weights: Sequence[float],
    positive_index: Tensor | None = None,
    excluded: Tensor | None = None,
    negatives: Literal["all", "own"] = "all",
    owner: Tensor | None = None,
    targets: Tensor | None = None,
    normalize_weights: bool = True,
) -> Tensor:
    """Return the weighted sum of InfoNCE over re-normalised prefixes of the embeddings (paper Eq. 2).

    `positive_index` (Q,) is each query's positive, by default document i for query i. `excluded` (n, 2) lists
    (query, document) pairs left out of that query's denominator: false negatives. Every other document is a negative;
    with `negatives="own"`, as in the official code, only the other queries' positives and the hard negatives that
    `owner` (D,) says are the query's own. `targets` (n, 3) lists (query, document, share) for queries that want
    several documents, whose shares add up to 1: their cross entropy is listwise. `normalize_weights` divides the
    weights by their sum, as in Eq. 2.
    Differentiable once. Raises ValueError on dimensions, positives or weights that don't fit the embeddings.
    """
    order = sorted(range(len(dims)), key=dims.__getitem__)
    dims, weights = [dims[i] for i in order], [float(weights[i]) for i in order]
    positive_index = _checked_positives(query_QE, document_DE, dims, positive_index)
    if normalize_weights:
        weights = [weight / sum(weights) for weight in weights]
    if negatives == "own" and owner is None:
        raise ValueError('negatives="own" needs `owner`: the query each document was brought along by, shape (D,)')
    rules = _Rules(positive_index, excluded, owner if negatives == "own" else None, targets, len(document_DE))
    return _MatryoshkaInfoNCE.apply(query_QE, document_DE, temperature, dims, weights, rules)


def _checked_positives(
    query_QE: Tensor, document_DE: Tensor, dims: list[int], positive_index: Tensor | None
) -> Tensor:
    if dims[0] < 1 or dims[-1] > query_QE.shape[1] or query_QE.shape[1] != document_DE.shape[1]:
        raise ValueError(
            f"Matryoshka dimensions {dims} do not fit queries of {query_QE.shape[1]} and documents of "
            f"{document_DE.shape[1]} dimensions; every dimension must be between 1 and that common size"
        )
    if positive_index is None:
        if len(document_DE) < len(query_QE):
            raise ValueError(f"{len(query_QE)} queries need as many positives, got {len(document_DE)} documents")
        positive_index = torch.arange(len(query_QE), device=query_QE.device)
    if len(positive_index) != len(query_QE):
        raise ValueError(f"{len(query_QE)} queries need as many positives, got {len(positive_index)} indices")
    return positive_index


class _Rules:
    """Which documents stay out of which query's denominator."""

    def __init__(
        self,
        positive_Q: Tensor,
        excluded: Tensor | None,
        owner_D: Tensor | None,
        targets: Tensor | None,
        documents: int,
    ):
        self.positive_Q, self.excluded, self.owner_D, self.documents = positive_Q, excluded, owner_D, documents
        self.targets = targets
        if owner_D is not None:
            self.hard_D = torch.ones(documents, dtype=torch.bool, device=positive_Q.device)
            self.hard_D[positive_Q] = False

    def chunk(self, start: int, stop: int) -> Tensor | None:
        """Return the (C, D) mask of documents to leave out, or None where nothing is; never a query's positive."""
        if self.excluded is None and self.owner_D is None:
            return None
        rows = torch.arange(start, stop, device=self.positive_Q.device)
        mask_CD = torch.zeros(stop - start, self.documents, dtype=torch.bool, device=rows.device)
        if self.owner_D is not None:
            mask_CD |= self.hard_D & (self.owner_D != rows[:, None])
        if self.excluded is not None:
            inside = self.excluded[(self.excluded[:, 0] >= start) & (self.excluded[:, 0] < stop)]
            mask_CD[inside[:, 0] - start, inside[:, 1]] = True
        mask_CD[rows - start, self.positive_Q[start:stop]] = False
        if self.targets is not None:
            query, document, _ = self._targets(start, stop)
            mask_CD[query, document] = False
        return mask_CD

    def wanted(self, start: int, stop: int) -> Tensor | None:
        """Return how much of each document each query wants, (C, D), or None where all want their positive alone."""
        if self.targets is None:
            return None
        wanted_CD = torch.zeros(stop - start, self.documents, dtype=self.targets.dtype, device=self.targets.device)
        wanted_CD.scatter_(1, self.positive_Q[start:stop, None], 1.0)
        query, document, share = self._targets(start, stop)
        wanted_CD[query] = 0.0
        wanted_CD[query, document] = share
        return wanted_CD

    def _targets(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        assert self.targets is not None
        query = self.targets[:, 0].long()
        inside = (query >= start) & (query < stop)
        return query[inside] - start, self.targets[inside, 1].long(), self.targets[inside, 2]


def _prefix_norms(x_NE: Tensor, blocks: list[slice]) -> Tensor:
    """(N, K) norms of the prefixes, bounded below so that a zero vector has cosine 0 with everything."""
    squares = torch.stack([x_NE[:, block].square().sum(1) for block in blocks], dim=1)
    return squares.cumsum(1).sqrt().clamp_min(1e-12)


class _MatryoshkaInfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query_QE, document_DE, temperature, dims, weights, rules):
        dtype = torch.promote_types(query_QE.dtype, torch.float32)
        with torch.autocast(query_QE.device.type, enabled=False):
            query, document = query_QE.to(dtype), document_DE.to(dtype)
            loss, grad_query, grad_document = _value_and_gradients(query, document, temperature, dims, weights, rules)
        ctx.save_for_backward(grad_query.to(query_QE.dtype), grad_document.to(document_DE.dtype))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss):
        grad_query, grad_document = ctx.saved_tensors
        return grad_loss * grad_query, grad_loss * grad_document, None, None, None, None


def _value_and_gradients(
    query_QE: Tensor, document_DE: Tensor, temperature: float, dims: list[int], weights: list[float], rules: _Rules
) -> tuple[Tensor, Tensor, Tensor]:
    blocks = [slice(low, high) for low, high in zip([0, *dims[:-1]], dims, strict=True)]
    norm_QK, norm_DK = _prefix_norms(query_QE, blocks), _prefix_norms(document_DE, blocks)
    grad_QE, grad_DE = torch.zeros_like(query_QE), torch.zeros_like(document_DE)
    loss = query_QE.new_zeros(())
    pull_DK = torch.zeros_like(norm_DK)  # sum over queries of dL/dcos · cos: what normalising takes from the gradient
    for start in range(0, len(query_QE), CHUNK):
        rows = slice(start, min(start + CHUNK, len(query_QE)))
        positive_C1, mask_CD = rules.positive_Q[rows, None], rules.chunk(rows.start, rows.stop)
        wanted_CD = rules.wanted(rows.start, rows.stop)
        scaled, pull_CK = [], torch.zeros_like(norm_QK[rows])  # dL/dcos_k / (|q_k||d_k|) for each dimension
        dot_CD = query_QE.new_zeros(rows.stop - rows.start, len(document_DE))
        for k, block in enumerate(blocks):
            dot_CD.addmm_(query_QE[rows, block], document_DE[:, block].T)
            cos_CD = dot_CD / norm_QK[rows, k, None] / norm_DK[:, k]
            value, slope_CD = _softmax_slope(cos_CD, positive_C1, mask_CD, temperature, wanted_CD)
            scale = weights[k] / len(query_QE)
            loss += scale * value
            slope_CD *= scale / temperature
            pull_CD = slope_CD * cos_CD
            pull_CK[:, k] = pull_CD.sum(1)
            pull_DK[:, k] += pull_CD.sum(0)
            scaled.append(slope_CD.div_(norm_QK[rows, k, None]).div_(norm_DK[:, k]))
        pull_CK /= norm_QK[rows].square()
        suffix_CD = torch.zeros_like(dot_CD)
        for k in reversed(range(len(blocks))):  # block k takes part in every prefix from k on
            block = blocks[k]
            suffix_CD += scaled[k]
            grad_QE[rows, block] = suffix_CD @ document_DE[:, block]
            grad_QE[rows, block] -= query_QE[rows, block] * pull_CK[:, k:].sum(1, keepdim=True)
            grad_DE[:, block] += suffix_CD.T @ query_QE[rows, block]
    pull_DK /= norm_DK.square()
    for k, block in enumerate(blocks):
        grad_DE[:, block] -= document_DE[:, block] * pull_DK[:, k:].sum(1, keepdim=True)
    return loss, grad_QE, grad_DE


def _softmax_slope(
    cos_CD: Tensor, positive_C1: Tensor, mask_CD: Tensor | None, temperature: float, wanted_CD: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the summed cross entropy and its derivative by the logits: p − 1 at the positive, p elsewhere.

    With `wanted_CD` it is p minus what is wanted.
    """
    logits_CD = cos_CD / temperature
    if mask_CD is not None:
        logits_CD.masked_fill_(mask_CD, float("-inf"))
    log_p_CD = logits_CD.log_softmax(1)
    if wanted_CD is None:
        value = -log_p_CD.gather(1, positive_C1).sum()
    else:
        wanted_CD = wanted_CD.to(log_p_CD.dtype)
        value = -torch.where(wanted_CD > 0, wanted_CD * log_p_CD, 0.0).sum()
    # Where the softmax is saturated (temperature 0.02) log p of the positive rounds to 0, and p − 1 and expm1(log p)
    # with it; the sum of the other probabilities keeps its digits.
    slope_CD = log_p_CD.exp_()
    if wanted_CD is not None:
        slope_CD -= wanted_CD
    slope_CD.scatter_(1, positive_C1, 0.0)
    return value, slope_CD.scatter_(1, positive_C1, -slope_CD.sum(1, keepdim=True))
