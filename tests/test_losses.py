import math

import pytest
import torch
import torch.nn.functional as F

from train_scripts import losses
from train_scripts.losses import info_nce, matryoshka_info_nce

DIMS, WEIGHTS = [16, 8, 4, 2], [1.0, 1.0, 0.2, 0.2]


def plain(query, document, temperature, dims, weights, positive, mask=None):
    """The definition: every prefix cut, normalised and compared on its own."""
    loss = query.new_zeros(())
    for dim, weight in zip(dims, weights, strict=True):
        logits = F.normalize(query[:, :dim], dim=-1) @ F.normalize(document[:, :dim], dim=-1).T / temperature
        if mask is not None:
            logits = logits.masked_fill(mask, -1e30)  # of which no share is wanted
        loss = loss + weight / sum(weights) * F.cross_entropy(logits, positive)
    return loss


def embeddings(queries=7, documents=15, size=16):
    torch.manual_seed(0)
    return (torch.randn(n, size, dtype=torch.float64, requires_grad=True) for n in (queries, documents))


def assert_same(ours, expected, *inputs):
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(loss, inputs) for loss in (ours, expected)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("negatives", [1, 9])
def test_zero_embeddings_cost_the_logarithm_of_the_choices(negatives):
    query, document = torch.zeros(3, 8), torch.zeros(3 + negatives, 8)
    torch.testing.assert_close(info_nce(query, document, temperature=0.02), torch.tensor(math.log(3 + negatives)))


@pytest.mark.parametrize("temperature", [0.02, 0.5])
@pytest.mark.parametrize("chunk", [2, 256])
def test_value_and_gradient_equal_the_plain_computation(temperature, chunk, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", chunk)
    query, document = embeddings()
    positive = torch.tensor([3, 0, 14, 7, 7, 1, 2])
    ours = matryoshka_info_nce(
        query, document, temperature=temperature, dims=DIMS, weights=WEIGHTS, positive_index=positive
    )
    assert_same(ours, plain(query, document, temperature, DIMS, WEIGHTS, positive), query, document)


def test_order_of_dimensions_does_not_matter_and_one_dimension_is_info_nce():
    query, document = embeddings()
    shared = {"temperature": 0.1}
    torch.testing.assert_close(
        matryoshka_info_nce(query, document, dims=DIMS, weights=WEIGHTS, **shared),
        matryoshka_info_nce(query, document, dims=DIMS[::-1], weights=WEIGHTS[::-1], **shared),
    )
    full = matryoshka_info_nce(query, document, dims=[16], weights=[3.0], **shared)
    torch.testing.assert_close(full, info_nce(query, document, **shared))


def test_raw_weights_only_scale_the_loss():
    query, document = embeddings()
    shared = {"temperature": 0.1, "dims": DIMS, "weights": WEIGHTS}
    raw = matryoshka_info_nce(query, document, normalize_weights=False, **shared)
    torch.testing.assert_close(raw, 2.4 * matryoshka_info_nce(query, document, **shared))


@pytest.mark.parametrize("chunk", [2, 256])
def test_excluded_pairs_leave_the_denominator_but_never_the_positive(chunk, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", chunk)
    query, document = embeddings()
    excluded = torch.tensor([[0, 3], [0, 9], [4, 0], [6, 14], [2, 2]])  # the last is a positive
    mask = torch.zeros(7, 15, dtype=torch.bool)
    mask[excluded[:-1, 0], excluded[:-1, 1]] = True
    ours = matryoshka_info_nce(query, document, temperature=0.1, dims=DIMS, weights=WEIGHTS, excluded=excluded)
    assert_same(ours, plain(query, document, 0.1, DIMS, WEIGHTS, torch.arange(7), mask), query, document)


def test_own_negatives_are_the_official_code():
    query, document = embeddings(4, 8)
    owner = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    mask = torch.cat([torch.zeros(4, 4, dtype=torch.bool), ~torch.eye(4, dtype=torch.bool)], dim=1)
    ours = info_nce(query, document, temperature=0.1, negatives="own", owner=owner)
    assert_same(ours, plain(query, document, 0.1, [16], [1.0], torch.arange(4), mask), query, document)


def test_saturated_softmax_keeps_its_gradient_in_float32():
    query = torch.tensor([[1.0, 0.0]], requires_grad=True)
    document = torch.tensor([[1.0, 1e-3], [0.6, 0.8]])
    expected = query.detach().double().requires_grad_()
    info_nce(query, document, temperature=0.02).backward()
    plain(expected, document.double(), 0.02, [2], [1.0], torch.zeros(1, dtype=torch.long)).backward()
    assert expected.grad.abs().max() > 0
    torch.testing.assert_close(query.grad.double(), expected.grad, rtol=1e-4, atol=0)


def wanted(shares, documents):
    """Rows of a target matrix, from shares by document."""
    rows = torch.zeros(len(shares), documents, dtype=torch.float64)
    for row, each in enumerate(shares):
        for place, share in each.items():
            rows[row, place] = share
    return rows


SHARES = [{3: 0.5, 9: 0.3, 0: 0.2}, {0: 1.0}, {2: 1.0}, {3: 0.25, 14: 0.75}, {4: 1.0}, {5: 1.0}, {6: 0.5, 13: 0.5}]


@pytest.mark.parametrize("chunk", [2, 256])
def test_shares_of_several_documents_are_a_listwise_cross_entropy(chunk, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", chunk)
    query, document = embeddings()
    excluded = torch.tensor([[0, 9], [0, 7], [3, 14], [2, 1]])  # the first and the third are wanted, so they stay
    mask = torch.zeros(7, 15, dtype=torch.bool)
    mask[[0, 2], [7, 1]] = True
    several = [(row, place, share) for row in (0, 3, 6) for place, share in SHARES[row].items()]
    positive = torch.tensor([3, 0, 2, 14, 4, 5, 6])
    shared = {"temperature": 0.1, "dims": DIMS, "weights": WEIGHTS, "positive_index": positive}
    ours = matryoshka_info_nce(
        query, document, excluded=excluded, targets=torch.tensor(several, dtype=torch.float64), **shared
    )
    assert_same(ours, plain(query, document, 0.1, DIMS, WEIGHTS, wanted(SHARES, 15), mask), query, document)


def test_one_share_is_the_positive():
    query, document = embeddings()
    targets = torch.tensor([[query, query, 1.0] for query in range(7)])
    shared = {"temperature": 0.02, "dims": DIMS, "weights": WEIGHTS}
    plainly = matryoshka_info_nce(query, document, **shared)
    assert_same(matryoshka_info_nce(query, document, targets=targets, **shared), plainly, query, document)


def test_what_is_wanted_has_no_gradient():
    """Cosines whose softmax is the shares are the minimum, and cost the shares' entropy."""
    cosines = torch.tensor([0.6, -0.3, 0.0], dtype=torch.float64)
    query = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    document = torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1)
    shares = (cosines / 0.5).softmax(0)
    targets = torch.tensor([[0, place, share] for place, share in enumerate(shares.tolist())], dtype=torch.float64)
    loss = matryoshka_info_nce(query, document, temperature=0.5, dims=[2], weights=[1.0], targets=targets)
    torch.testing.assert_close(loss, -(shares * shares.log()).sum())
    loss.backward()
    torch.testing.assert_close(query.grad, torch.zeros(1, 2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_memory_does_not_grow_with_the_square_of_the_batch(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", 8)
    seen = []
    softmax_slope = losses._softmax_slope

    def recorded(cos, *rest):
        seen.append(tuple(cos.shape))
        return softmax_slope(cos, *rest)

    monkeypatch.setattr(losses, "_softmax_slope", recorded)
    query, document = embeddings(20, 40)
    info_nce(query, document, temperature=0.1).backward()
    assert seen == [(8, 40), (8, 40), (4, 40)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": [32]}, r"dimensions \[32\] do not fit queries of 16"),
        ({"dims": [0]}, "between 1 and"),
        ({"positive_index": torch.zeros(3, dtype=torch.long)}, "7 queries need as many positives, got 3"),
        ({"negatives": "own"}, "needs `owner`"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    query, document = embeddings()
    with pytest.raises(ValueError, match=message):
        matryoshka_info_nce(query, document, **{"temperature": 0.1, "dims": [16], "weights": [1.0], **arguments})


def test_missing_positives_are_named():
    query, document = embeddings(7, 5)
    with pytest.raises(ValueError, match="7 queries need as many positives, got 5 documents"):
        info_nce(query, document, temperature=0.1)
