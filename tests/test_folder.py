"""A saved folder is complete for every loader, and saving it again changes nothing."""

import json
from configparser import ConfigParser
from pathlib import Path

import pytest
from transformers import AutoModel

from modeling_nyx import NyxModel, NyxProcessor, NyxQwen3VLModel
from modeling_nyx.folder_nyx import TRANSFORMERS

ROOT = Path(__file__).parents[1]

FILES = {
    "1_Pooling/config.json",
    "2_Normalize/config.json",
    "attention_nyx.py",
    "chat_template.jinja",
    "config.json",
    "config_sentence_transformers.json",
    "configuration_nyx.py",
    "content_nyx.py",
    "encode_nyx.py",
    "folder_nyx.py",
    "images_nyx.py",
    "layers_nyx.py",
    "model.safetensors",
    "modeling_nyx.py",
    "modules.json",
    "processing_nyx.py",
    "processor_config.json",
    "rows_nyx.py",
    "sentence_bert_config.json",
    "template_nyx.py",
    "workers_nyx.py",
    "tokenizer.json",
    "tokenizer_config.json",
}


def read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def settings(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved")
    model.config.matryoshka_dimensions = [64, 16]
    model.save_pretrained(path)
    model.config.matryoshka_dimensions = None
    return path


def test_the_folder_holds_these_files(folder):
    assert set(read(folder)) == FILES


def test_configurations_name_stock_classes_with_ours_beside(folder):
    config = settings(folder, "config.json")
    assert config["architectures"] == ["Qwen2_5_VLModel"] and config["model_type"] == "qwen2_5_vl"
    assert config["auto_map"]["AutoModel"] == "modeling_nyx.NyxModel" and config["matryoshka_dimensions"] == [64, 16]
    processor = settings(folder, "processor_config.json")
    assert processor["processor_class"] == "Qwen2_5_VLProcessor"
    assert processor["video_processor"] == {"video_processor_type": "Qwen2VLVideoProcessor"}
    assert processor["auto_map"] == {"AutoProcessor": "processing_nyx.NyxProcessor"}
    tokenizer = settings(folder, "tokenizer_config.json")
    assert tokenizer["processor_class"] == "Qwen2_5_VLProcessor" and tokenizer["auto_map"] == processor["auto_map"]


def test_prompts_and_pooling_are_the_models(folder):
    prompts = settings(folder, "config_sentence_transformers.json")["prompts"]
    assert prompts == {"query": "Find what answers: ", "document": ""}
    pooling = settings(folder, "1_Pooling/config.json")
    assert pooling == {"embedding_dimension": 64, "pooling_mode": "lasttoken", "include_prompt": True}


def test_the_oldest_transformers_is_the_packages(folder):
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    floors = [line for line in setup["options"]["install_requires"].splitlines() if line.startswith("transformers")]
    (said,) = settings(folder, "config_sentence_transformers.json")["requirements"].items()
    assert [f"{said[0]}{said[1]['specifier']},<6"] == floors
    assert f"transformers=={TRANSFORMERS}.0\n" in (ROOT / "constraints-floor.txt").read_text()


def test_saving_a_loaded_model_gives_the_same_files(folder, tmp_path):
    NyxModel.from_pretrained(folder).save_pretrained(tmp_path / "ours")
    remote = AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert type(remote) is not NyxModel
    remote.save_pretrained(tmp_path / "remote")
    assert read(tmp_path / "ours") == read(tmp_path / "remote") == read(folder)


def test_saving_over_a_folder_replaces_its_prompts(model, tmp_path):
    model.save_pretrained(tmp_path)
    own = model.processor
    model.processor = NyxProcessor(own.image_processor, own.tokenizer, True, "Other: ")
    model.save_pretrained(tmp_path)
    model.processor = own
    assert settings(tmp_path, "config_sentence_transformers.json")["prompts"]["query"] == "Other: "


def test_uploading_while_saving_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="Save the folder first"):
        model.save_pretrained(tmp_path, push_to_hub=True)
    assert not read(tmp_path)


def test_qwen3_vl_names_its_own_classes(qwen3_folder, tmp_path):
    NyxQwen3VLModel.from_pretrained(qwen3_folder).save_pretrained(tmp_path)
    assert settings(tmp_path, "config.json")["architectures"] == ["Qwen3VLModel"]
    for name in ("processor_config.json", "tokenizer_config.json"):
        assert settings(tmp_path, name)["processor_class"] == "Qwen3VLProcessor"
        assert settings(tmp_path, name)["auto_map"] == {"AutoProcessor": "processing_nyx.NyxQwen3VLProcessor"}
    video = settings(tmp_path, "processor_config.json")["video_processor"]
    assert video == {"video_processor_type": "Qwen3VLVideoProcessor"}
    remote = AutoModel.from_pretrained(tmp_path, trust_remote_code=True)
    remote.save_pretrained(tmp_path / "again")
    again = read(tmp_path / "again")
    assert again == {name: data for name, data in read(tmp_path).items() if not name.startswith("again")}


def test_other_processes_write_nothing_but_what_transformers_asks_of_them(model, tmp_path):
    model.save_pretrained(tmp_path, is_main_process=False)
    assert not {"config.json", "modules.json", "processor_config.json"} & set(read(tmp_path))
