"""A model folder may name its own files and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raysafe.errors import ModelError
from raysafe.records.references import check_references
from raysafe.records.registry import read_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Beside a folder that it doesn't own."""
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def write(folder: Path, file: str, content: dict[str, Any]) -> None:
    (folder / file).write_text(json.dumps(content))


OUTSIDE = ("../outside/w.safetensors", "/outside/w.safetensors", "sub/../../w", "linked/w.safetensors", "..\\w")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "sub/other.safetensors.index.json"])
def test_weights_outside_the_folder_are_refused(folder: Path, name: str, index: str) -> None:
    (folder / "linked").symlink_to(folder.parent / "outside")
    write(folder, index, {"weight_map": {"a": "w.safetensors", "b": name}})
    with pytest.raises(ModelError, match=r"index.json names .* in weight_map, which is no file of"):
        check_references(folder)


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "sub/w.safetensors"])
def test_weights_in_the_folder_are_fine_also_where_they_are_links(folder: Path, name: str) -> None:
    (folder / name).symlink_to(folder.parent / "outside" / "blob")
    write(folder, "model.safetensors.index.json", {"weight_map": {"a": name}})
    check_references(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", {"transformers_weights": "../outside/w.safetensors"}),
        ("config.json", {"configuration_files": ["../outside/config.5.0.0.json"]}),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../outside/tokenizer.4.0.0.json"]}),
    ],
)
def test_any_other_file_outside_is_refused_and_one_inside_is_fine(
    folder: Path, file: str, content: dict[str, Any]
) -> None:
    write(folder, file, content)
    with pytest.raises(ModelError, match="which is no file of"):
        check_references(folder)
    (folder / file).write_text(json.dumps(content).replace("../outside/", ""))
    check_references(folder)


@pytest.mark.parametrize("setting", ["tokenizer_file", "vocab_file", "merges_file", "vocab"])
def test_a_path_that_a_tokenizer_would_open_as_it_stands_is_refused(folder: Path, setting: str) -> None:
    write(folder, "tokenizer_config.json", {setting: "/outside/vocabulary"})
    with pytest.raises(ModelError, match=f"has {setting}, which may be opened wherever it leads to"):
        check_references(folder)


def test_what_published_tokenizers_carry_is_no_reference(folder: Path) -> None:
    left = {"special_tokens_map_file": "/root/.cache/map.json", "tokenizer_file": None, "name_or_path": "/home/a/b"}
    write(folder, "tokenizer_config.json", {**left, "init_inputs": [], "vocab": {"a": 0}})
    check_references(folder)


def test_an_adapter_beside_a_model_is_refused(folder: Path) -> None:
    write(folder, "adapter_config.json", {"base_model_name_or_path": "somebody/model"})
    with pytest.raises(ModelError, match="holds an adapter beside its model"):
        check_references(folder)


def test_a_model_that_names_files_outside_is_not_registered(folder: Path) -> None:
    write(folder, "model.safetensors.index.json", {"weight_map": {"a": "../outside/w.safetensors"}})
    with pytest.raises(ModelError, match="which is no file of"):
        read_source(folder)
