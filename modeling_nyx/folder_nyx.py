"""What lies beside the weights so that other engines load a checkpoint by their own classes.

sentence-transformers reads `modules.json` and the files it names. vLLM takes pooling and normalisation from them,
token ids from `chat_template.jinja`, and sizes of embedding from `matryoshka_dimensions` in `config.json`:

    vllm serve org/nyx --runner pooling --convert embed
    curl localhost:8000/v1/embeddings -H 'Content-Type: application/json' -d '{"model": "org/nyx", "dimensions": 256,
      "messages": [{"role": "system", "content": "<the query instruction, for queries>"}, {"role": "user", "content": [
        {"type": "text", "text": "What is this? "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}]}]}'

Send pictures as data URIs: given an address, the server fetches it, whatever it is.
"""

import json
from pathlib import Path
from typing import Any

MODULES = {
    "": "sentence_transformers.base.modules.transformer.Transformer",
    "1_Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "2_Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
FORWARD = {"method": "forward", "method_output_name": "last_hidden_state"}
SETTINGS = "config_sentence_transformers.json"
# The oldest that takes pictures which are already encoded; some earlier ones place pictures wrongly, and say nothing.
TRANSFORMERS = "5.18"
REQUIREMENTS = {"transformers": {"specifier": f">={TRANSFORMERS}", "reason": "earlier ones misplace or lose pictures"}}


def write_json(path: Path, value: Any) -> None:
    """Write a small file whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    aside.replace(path)


def write_sentence_transformers(folder: Path, size: int, prompts: dict[str, str]) -> None:
    """Write what sentence-transformers (6 and newer) loads: stock modules, last-token pooling, prompts by role."""
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": kind}
        for index, (path, kind) in enumerate(MODULES.items())
    ]
    transformer = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": FORWARD, "image": FORWARD, "message": {**FORWARD, "format": "structured"}},
        "module_output_name": "token_embeddings",
        # Its own way to leave padding out knows only one-dimensional positions.
        "unpad_inputs": False,
    }
    sentence = "sentence_embedding"
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", transformer)
    pooling = {"embedding_dimension": size, "pooling_mode": "lasttoken", "include_prompt": True}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(folder / "2_Normalize" / "config.json", {"module_input_name": sentence, "module_output_name": sentence})
    if not _is_being_saved_by_sentence_transformers(folder):
        settings = {
            "model_type": "SentenceTransformer",
            "prompts": prompts,
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
            "requirements": REQUIREMENTS,
        }
        write_json(folder / SETTINGS, settings)


def _is_being_saved_by_sentence_transformers(folder: Path) -> bool:
    """Tell whether the prompts there are sentence-transformers' own: it writes them before its modules."""
    path = folder / SETTINGS
    return path.exists() and "__version__" in json.loads(path.read_text())
