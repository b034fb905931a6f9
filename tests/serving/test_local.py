"""What is served is what was approved, and a folder's config.json says what it is."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from raysafe.errors import ModelError
from raysafe.models import language
from raysafe.records.digest import folder_digest
from raysafe.serving.local import load_backend, model_kind
from raysafe.serving.replicas import ReplicaSettings


def test_files_that_are_not_the_approved_ones_are_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="has changed since it was approved"):
        load_backend(ReplicaSettings(folder=str(tmp_path), digest="0" * 64))


@pytest.fixture
def approved(tmp_path: Path) -> ReplicaSettings:
    """A model folder as it was approved, beside one with other weights."""
    from raysafe.models.chat import PLAIN
    from raysafe.models.language import load_policy, load_tokenizer, save_policy

    tokenizer = load_tokenizer("preset:tiny")
    tokenizer.chat_template = PLAIN
    for name, seed in (("model", 0), ("other", 1)):
        save_policy(load_policy("preset:tiny", seed=seed), tokenizer, tmp_path / name)
    return ReplicaSettings(folder=str(tmp_path / "model"), digest=folder_digest(tmp_path / "model"))


def swap(settings: ReplicaSettings) -> None:
    """Write other weights over the approved ones, into the same file."""
    weights = Path(settings.folder) / "model.safetensors"
    weights.write_bytes((weights.parents[1] / "other" / weights.name).read_bytes())


def test_files_that_change_while_they_are_loaded_are_never_served(
    approved: ReplicaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = language.load_tokenizer
    monkeypatch.setattr(language, "load_tokenizer", lambda folder: (swap(approved), load(folder))[1])
    with pytest.raises(ModelError, match="has changed since it was approved"):
        load_backend(approved)


def test_files_that_change_after_they_were_loaded_change_nothing(approved: ReplicaSettings) -> None:
    replica = load_backend(approved)
    expected = language.load_policy("preset:tiny", seed=0).state_dict()
    swap(approved)
    served = replica.engine.model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(served[name], weights) for name, weights in expected.items())


@pytest.mark.parametrize("place", ["../outside", "linked"])
def test_weights_that_the_digest_does_not_cover_are_never_served(approved: ReplicaSettings, place: str) -> None:
    folder = Path(approved.folder)
    outside = folder.parent / "outside"
    outside.mkdir()
    (folder / "model.safetensors").rename(outside / "model.safetensors")
    names = dict.fromkeys(load_file(outside / "model.safetensors"), f"{place}/model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    if place == "linked":
        (folder / place).symlink_to(outside)
        with pytest.raises(ModelError, match="linked is a linked folder"):
            folder_digest(folder)
        (folder / place).unlink()
        digest = folder_digest(folder)
        (folder / place).symlink_to(outside)
    else:
        digest = folder_digest(folder)
    with pytest.raises(ModelError, match=r"which is no file of|is a linked folder"):
        load_backend(approved.model_copy(update={"digest": digest}))
    with pytest.raises(ModelError, match="which is no file of"):
        load_backend(approved.model_copy(update={"digest": None}))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, "embedding"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "embedding"),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, "classifier"),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "classifier"),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "writer"),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "writer"),
        ({"model_type": "raysafe-mlp"}, "vector"),
    ],
)
def test_a_config_says_what_its_model_does(config: dict, kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_kind(str(tmp_path)) == kind


def test_a_preset_writes() -> None:
    assert model_kind("preset:tiny") == "writer"


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000])
def test_a_config_that_is_no_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        model_kind(str(tmp_path))
