"""Run a checkpoint on MTEB's tasks, those of pictures and those whose contents interleave them included.

    import mteb
    from nyx.mteb_encoder import MTEBEncoder

    encoder = MTEBEncoder("org/nyx")                                    # or a folder
    mteb.evaluate(encoder, mteb.get_benchmark("ViDoRe(v2)"))            # pages as pictures, likewise "ViDoRe(v3)"
    mteb.evaluate(encoder, mteb.get_benchmark("MIEB(eng)"))             # pictures and text, likewise "MIEB(lite)"
    mteb.evaluate(MTEBEncoder("org/nyx", truncate_dim=256), mteb.get_tasks(["VidoreArxivQARetrieval"]))

A task's row is text, a picture, or both, the picture first; a row with a column `content` (a content list, as NyxQA's
Parquet has it) is embedded as that, in its order. MTEB downloads its data on first use and keeps results in
`~/.cache/mteb`. Queries get the checkpoint's own instruction.

MMEB is not among MTEB's benchmarks; `evaluation.mmeb` makes tasks of its rows, which bring their own instruction.
"""

from pathlib import Path
from typing import Any

import numpy as np

from modeling_nyx.content_nyx import Content, to_content
from nyx.models import fingerprint, load_encoder

try:
    from mteb.models import ModelMeta
    from mteb.similarity_functions import cos_sim, pairwise_cos_sim
except ImportError as error:
    raise ImportError("MTEB needs mteb: pip install 'nyx-retriever[mteb]'") from error


class MTEBEncoder:
    """A Nyx model by MTEB's protocol for encoders."""

    def __init__(
        self,
        model_name: str | Path,
        revision: str | None = None,
        *,
        device: str | None = None,
        truncate_dim: int | None = None,
        batch_tokens: int | None = None,
        query_instruction: str | None = None,
    ) -> None:
        """Load a folder or a repository; `truncate_dim` and `batch_tokens` are `encode_queries`'.

        `query_instruction` stands in place of the checkpoint's own.
        """
        self.model = load_encoder(model_name, revision, device=device)
        if query_instruction is not None:
            self.model.processor.query_instruction = query_instruction
        self.truncate_dim, self.batch_tokens = truncate_dim, batch_tokens
        local = Path(model_name).is_dir()
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"local/{Path(model_name).resolve().name}" if local else str(model_name),
                "revision": fingerprint(model_name) if local else self.model.config._commit_hash,
                "n_parameters": self.model.num_parameters(),
                "embed_dim": truncate_dim or self.model.config.text_config.hidden_size,
                "max_tokens": self.model.processor.max_tokens,
                "modalities": ["text", "image"],
                "similarity_fn_name": "cosine",
                "use_instructions": bool(self.model.processor.query_instruction),
                "framework": ["PyTorch", "Transformers"],
            }
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: str | None = None,
        precision: str = "float32",
        **kwargs: Any,
    ) -> np.ndarray:
        """Embed the rows of MTEB's loader, queries as queries, all else as documents: float32 (rows, dim)."""
        if precision != "float32":
            raise ValueError(f"precision {precision!r} came; Nyx embeds in float32. Leave it out.")
        # MTEB's own way of collating cannot hold contents of different length.
        inputs.collate_fn = list
        encode = self.model.encode_queries if prompt_type == "query" else self.model.encode_documents
        options = {"truncate_dim": self.truncate_dim, "batch_tokens": self.batch_tokens}
        return np.concatenate([encode([row_content(row) for row in rows], **options) for rows in inputs])

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return all cosines: (first, second)."""
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosine of each pair: (pairs)."""
        return pairwise_cos_sim(embeddings1, embeddings2)


def row_content(row: dict[str, Any]) -> Content:
    """Read a row's `content`, or its `image` and `text`."""
    if row.get("content") is not None:
        return to_content(row["content"])
    return to_content({key: row[key] for key in ("image", "text") if row.get(key) is not None})
