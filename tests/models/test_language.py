"""Models are found, checked and saved; every problem is one sentence, told quickly."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config

from raysafe.errors import ModelError
from raysafe.models import language
from raysafe.models.chat import ChatFormat
from raysafe.models.language import (
    check_tokenizer,
    context_length,
    load_policy,
    load_tokenizer,
    model_digest,
    model_folder,
    save_policy,
)
from raysafe.models.presets import byte_tokenizer, train_tokenizer

IDS = torch.arange(3, 23)[None]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    save_policy(load_policy("preset:tiny", seed=3), ChatFormat(byte_tokenizer(), "plain").tokenizer, folder)
    return folder


def test_saved_policy_opens_in_transformers_with_identical_logits(saved: Path) -> None:
    opened = AutoModelForCausalLM.from_pretrained(saved)
    expected = load_policy("preset:tiny", seed=3)(IDS).logits
    torch.testing.assert_close(opened(IDS).logits, expected, rtol=0, atol=0)
    torch.testing.assert_close(load_policy(saved)(IDS).logits, expected, rtol=0, atol=0)
    assert [file.name for file in saved.iterdir() if "bin" in file.suffix] == []


def test_saved_folder_carries_the_chat_template_and_the_stop_tokens(saved: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(saved)
    assert tokenizer.chat_template == ChatFormat(byte_tokenizer(), "plain").template
    assert json.loads((saved / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_token_id


def test_a_run_directory_stands_for_its_model(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    saved.rename(run / "model")
    assert model_folder(run) == run / "model"
    assert model_folder(f"file://{run}") == run / "model"
    load_policy(run)


def test_preset_is_loaded_by_name_with_a_tokenizer_for_bytes() -> None:
    model, tokenizer = load_policy("preset:tiny", dtype=torch.float64), load_tokenizer("preset:tiny")
    check_tokenizer(model, tokenizer)
    assert model.dtype == torch.float64
    assert context_length("preset:tiny") == model.config.max_position_embeddings


def test_context_length_is_found_under_other_names() -> None:
    assert context_length(GPT2Config(n_positions=77)) == 77


def test_digest_is_that_of_the_content(saved: Path, tmp_path: Path) -> None:
    before = model_digest(saved)
    assert before == model_digest(saved.rename(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere" / "config.json").write_text("{}")
    assert model_digest(tmp_path / "elsewhere") != before
    assert model_digest("preset:tiny") != model_digest("preset:small")


@pytest.mark.parametrize("name", ["./nowhere", "runs/a/b", "preset:tiny"])
def test_what_can_not_be_a_folder_or_hub_id_is_refused_at_once(name: str) -> None:
    with pytest.raises(ModelError, match=r"give a (finished )?model folder|no folder"):
        model_folder(name)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model: expected config\.json"):
        load_policy(tmp_path)


def test_adapter_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter without its model"):
        load_policy(tmp_path)


def test_pickled_weights_are_never_read(saved: Path) -> None:
    torch.save(load_policy(saved).state_dict(), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        load_policy(saved)


def test_code_that_a_model_brings_is_never_run(saved: Path, tmp_path: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["model_type"] = "homemade"
    config["auto_map"] = {name: f"evil.{name}" for name in ("AutoConfig", "AutoModelForCausalLM")}
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="can't"):
        load_policy(saved)
    assert not (tmp_path / "ran").exists()


def test_weights_outside_the_folder_are_never_read(saved: Path, tmp_path: Path) -> None:
    (saved / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (saved / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"model.norm.weight": "../elsewhere.safetensors"}})
    )
    for load in (load_policy, load_tokenizer, model_digest):
        with pytest.raises(ModelError, match=r"names '\.\./elsewhere\.safetensors' in weight_map, which is no file of"):
            load(saved)


def test_a_tokenizer_outside_the_folder_is_never_read(saved: Path, tmp_path: Path) -> None:
    (saved / "tokenizer.json").rename(tmp_path / "tokenizer.4.0.0.json")
    config = json.loads((saved / "tokenizer_config.json").read_text())
    for setting, value in (
        ("fast_tokenizer_files", ["../tokenizer.4.0.0.json"]),
        ("tokenizer_file", str(tmp_path / "tokenizer.4.0.0.json")),
    ):
        (saved / "tokenizer_config.json").write_text(json.dumps({**config, setting: value}))
        with pytest.raises(ModelError, match=setting):
            load_tokenizer(saved)


def test_an_adapter_beside_a_model_is_never_applied(saved: Path) -> None:
    (saved / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1}))
    with pytest.raises(ModelError, match="holds an adapter beside its model"):
        load_policy(saved)


def test_a_hub_snapshot_of_links_and_shards_opens(saved: Path, tmp_path: Path) -> None:
    expected = load_policy(saved)(IDS).logits
    load_policy(saved).save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "revision"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted((tmp_path / "sharded").iterdir())):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert len(list(snapshot.glob("model-*.safetensors"))) > 1
    torch.testing.assert_close(load_policy(snapshot)(IDS).logits, expected, rtol=0, atol=0)
    assert len(model_digest(snapshot)) == 64


def test_incomplete_weights_are_refused(saved: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(saved / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights .*model\.norm\.weight"):
        load_policy(saved)


def test_truncated_weights_are_one_sentence(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelError, match="can't load a model from"):
        load_policy(saved)


def test_broken_config_and_tokenizer_are_one_sentence(saved: Path) -> None:
    (saved / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="can't load a tokenizer from"):
        load_tokenizer(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(ModelError, match="can't read the model config"):
        load_policy(saved)


def test_model_without_a_tokenizer_names_the_field(saved: Path) -> None:
    for file in saved.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer: .* field tokenizer"):
        load_tokenizer(saved)


def test_tokenizer_of_another_model_is_refused() -> None:
    model = load_policy("preset:tiny")
    larger = train_tokenizer(["abc abd abe abcd abcde " * 20, "the cat sat on the mat"], 290)
    with pytest.raises(ModelError, match=rf"has {len(larger)} tokens, the model 259"):
        check_tokenizer(model, larger)
    model.resize_token_embeddings(400)
    with pytest.raises(ModelError, match="don't belong together"):
        check_tokenizer(model, larger)
    model.resize_token_embeddings(320)
    check_tokenizer(model, larger)


def test_offline_hub_id_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"'org/absent' is no folder here .* hub .* download the model first"):
        load_policy("org/absent")


def test_a_hub_that_does_not_answer_ends_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(language, "HUB_TIMEOUT_S", 0.2)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(ModelError, match="can't be had from the Hugging Face hub"):
            load_policy("org/absent")
        assert time.monotonic() - started < 5
