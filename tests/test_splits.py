"""No document is in two splits, and validation and test have what they need of each modality."""

from collections import Counter

import pytest

from dataset_builders.splits import Place, SplitRule, split_documents, split_questions

MODALITIES = ("text", "one picture", "several pictures")


def places(documents, questions=7):
    """Each document has questions of two modalities; the third one is rarer."""
    return [
        Place(f"{document}-{number}", f"d{document}", MODALITIES[(document + number % 2) % (3 if document % 5 else 2)])
        for document in range(documents)
        for number in range(questions)
    ]


def run(found, rule):
    documents = split_documents(found, rule)
    return documents, split_questions(found, documents, rule)


@pytest.mark.parametrize("seed", range(3))
def test_counts_by_modality_and_documents_apart(seed):
    found = places(1500)
    documents, split = run(found, SplitRule(seed=seed))
    counts = Counter((split[place.id], place.modality) for place in found if place.id in split)
    assert all(counts[name, kind] == 200 for name in ("validation", "test") for kind in MODALITIES)
    assert all(split[place.id] == documents[place.document_id] for place in found if place.id in split)
    train = [place for place in found if documents[place.document_id] == "train"]
    assert all(split[place.id] == "train" for place in train) and len(train) > len(found) / 2


def test_order_doesnt_matter_and_seeds_do():
    found = places(300)
    assert run(found, SplitRule()) == run(found[::-1], SplitRule())
    assert run(found, SplitRule()) != run(found, SplitRule(seed=1))


@pytest.mark.parametrize("count", range(1, 12))
def test_few_documents_leave_some_to_train_on(count):
    documents, split = run(places(count), SplitRule())
    names = Counter(documents.values())
    assert names["train"] >= max(1, count / 3)
    assert set(names) == ({"train"} if count < 3 else {"train", "validation", "test"}) == set(split.values())


def test_rules_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="expected count"):
        SplitRule(share=0.6)
