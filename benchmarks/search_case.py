"""What search is measured on: embeddings of 2048 values that have the structure of real ones.

Pages and questions of the Almanac through the demo's trained encoder of 128 values, and from there to 2048 by a head
of one hidden layer, trained by Nyx's Matryoshka loss on questions and their pages. That makes prefixes that tell as
little, and as much, as Matryoshka training leaves in them: the share of the exact ten that the first 256 values find
by themselves is reported. Some 20 000 pages are really encoded. Larger corpora add pages between them: the embeddings
of two pages, mixed in shares drawn at random, through the same head.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataset_builders.almanac_guide import field_guide
from nyx.models import fingerprint, load_encoder
from train_scripts.losses import matryoshka_info_nce

WEIGHTS = [1.0, 1.0, 0.2, 0.2]
QUESTIONS = 200
BLOCK = 10_000


def states(model: Path, species: int, worlds: int) -> tuple[Tensor, Tensor, Tensor]:
    """Encode the pages of so many worlds, and every other question; a question's page is the first that answers it."""
    encoder = load_encoder(model)
    pages: list[np.ndarray] = []
    questions: list[np.ndarray] = []
    answers: list[int] = []
    places: dict[str, int] = {}
    for world in range(worlds):
        chunks, asked = field_guide("train", species, world)
        new = [chunk for chunk in {chunk.id: chunk for chunk in chunks}.values() if chunk.id not in places]
        places |= {chunk.id: len(places) + place for place, chunk in enumerate(new)}
        pages.append(encoder.encode_documents([chunk.content for chunk in new]))
        questions.append(encoder.encode_queries([question.question for question in asked[::2]]))
        answers += [places[question.gold_ids[0]] for question in asked[::2]]
    return torch.from_numpy(np.concatenate(pages)), torch.from_numpy(np.concatenate(questions)), torch.tensor(answers)


class Head(nn.Module):
    """From an encoder's unit vectors to wide ones, as Matryoshka training would have them."""

    def __init__(self, size: int, dims: list[int]) -> None:
        super().__init__()
        self.scale, self.dims = size**0.5, dims
        self.layers = nn.Sequential(nn.Linear(size, dims[0] // 2), nn.GELU(), nn.Linear(dims[0] // 2, dims[0]))

    def forward(self, states: Tensor) -> Tensor:
        return F.normalize(self.layers(states * self.scale), dim=1)

    def fit(self, questions: Tensor, pages: Tensor, steps: int) -> None:
        """Train on questions and the page of each."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        for _ in range(steps):
            chosen = torch.randint(0, len(questions), (256,))
            loss = matryoshka_info_nce(
                self(questions[chosen]), self(pages[chosen]), temperature=0.05, dims=self.dims, weights=WEIGHTS
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()


@torch.no_grad()
def write_corpus(path: Path, pages: Tensor, head: Head, count: int) -> None:
    """Write embeddings (count, size): all pages, then mixtures of two."""
    generator = torch.Generator().manual_seed(0)
    written = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, head.dims[0]))
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        (first, second), share = torch.randint(0, len(pages), (2, size), generator=generator), torch.rand(size, 1)
        mixed = F.normalize(share * pages[first] + (1 - share) * pages[second], dim=1)
        real = pages[start : start + size]
        mixed[: len(real)] = real
        written[start : start + size] = head(mixed).numpy()
    written.flush()


def embed(folder: Path, model: Path, dims: list[int], count: int, worlds: int, species: int, steps: int) -> None:
    """Write `corpus.npy`, and `questions.npy` that the head wasn't trained on, unless this model has."""
    made, by = folder / "model.txt", fingerprint(model)
    if made.exists() and made.read_text() == by:
        return
    folder.mkdir(parents=True, exist_ok=True)
    made.unlink(missing_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the encoder is small
    pages, questions, answers = states(model, species, worlds)
    held_out = torch.arange(len(questions)) % 2 == 0
    head = Head(pages.shape[1], dims)
    head.fit(questions[~held_out], pages[answers[~held_out]], steps)
    write_corpus(folder / "corpus.npy", pages, head, count)
    with torch.no_grad():
        asked = head(questions[held_out][torch.randperm(int(held_out.sum()))[:QUESTIONS]])
    np.save(folder / "questions.npy", asked.numpy())
    made.write_text(by)  # last: says that all is there
