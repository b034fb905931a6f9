"""Causal language models and tokenizers, found by folder, run, hub id or preset; saved as Hugging Face folders.

Weights are read from safetensors only, nothing is read from outside a model's folder, and no code that a model brings
along is ever run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from raysafe.errors import ModelError
from raysafe.models.chat import ChatFormat
from raysafe.models.presets import PREFIX, byte_tokenizer, find_preset, make_policy
from raysafe.records.digest import folder_digest
from raysafe.records.references import check_references

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

HUB_TIMEOUT_S = 10.0
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w./-]+)?")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
_FEWEST_USED = 0.75
"""Embedding tables are padded to round sizes, but a tokenizer that leaves a quarter unused is another model's."""

# worker processes load models: the driver alone shows progress
transformers_logging.disable_progress_bar()


def model_folder(model: str | Path) -> Path:
    """The folder with config.json of a model folder, a run (its model/), or a hub id (`org/name`, `org/name@revision`).

    Raises ModelError, within seconds, where there is none, or where its files name others that are not in it.
    """
    folder = _find_folder(str(model))
    check_references(folder)
    return folder


def _find_folder(name: str) -> Path:
    if name.startswith(PREFIX):
        raise ModelError(f"{name} is made from a config and has no folder: train it first, or give a model folder")
    path = Path(name.removeprefix("file://")).expanduser()
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    if (path / "adapter_config.json").is_file():
        raise ModelError(f"{name} holds an adapter without its model: merge it into the model and give that folder")
    if path.exists():
        raise ModelError(f"{name} holds no model: expected config.json in it, or a finished run's model/config.json")
    if not _HUB_ID.fullmatch(name):
        raise ModelError(f"there is no model folder {name}: give a model folder, a finished run, or a hub id")
    return _download(name)


def load_policy(
    model: str | Path, *, dtype: torch.dtype = torch.float32, attention: str | None = None, seed: int = 0
) -> PreTrainedModel:
    """A causal language model in eval mode on the CPU. `preset:tiny` is made on the spot, for bytes.

    attention: a name that transformers knows (sdpa by default), or models.attention.PACKED.
    seed: of a preset's weights; other models have theirs already.
    """
    if str(model).startswith(PREFIX):
        policy: Any = make_policy(str(model), byte_tokenizer(), seed, attention or "sdpa")
        return policy.to(dtype=dtype)
    architectures = load_config(model).architectures or []
    if any("ForSequenceClassification" in name for name in architectures):
        raise ModelError(f"{model} is a reward model, not a policy: give the model that it scores")
    return load_pretrained(AutoModelForCausalLM, model, dtype=dtype, attention=attention)


def load_pretrained(
    kind: Any,
    model: str | Path,
    *,
    dtype: torch.dtype,
    attention: str | None,
    may_miss: str | None = None,
    **config: Any,
) -> PreTrainedModel:
    """`kind.from_pretrained` with problems as ModelError. may_miss: prefix of weights that are allowed to be new."""
    folder = model_folder(model)
    try:
        with _no_load_report():
            loaded, report = kind.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation=attention or "sdpa",
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **config,
            )
    except Exception as error:  # transformers raises anything from KeyError to SafetensorError for a bad folder
        raise ModelError(f"can't load a model from {folder}: {_first_sentence(error)}") from error
    missing = sorted(k for k in report["missing_keys"] if may_miss is None or not k.startswith(may_miss))
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} weights of a {type(loaded).__name__} (first: {missing[0]}): "
            "its files are incomplete, or it is another kind of model"
        )
    return loaded.eval()


def load_tokenizer(model: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer saved beside a model; a preset's encodes bytes."""
    if str(model).startswith(PREFIX):
        find_preset(str(model))
        return byte_tokenizer()
    folder = model_folder(model)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")):
        raise ModelError(f"{folder} has no tokenizer: name another folder or hub id in the field tokenizer")
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # a broken tokenizer.json surfaces as a bare Exception
        raise ModelError(f"can't load a tokenizer from {folder}: {_first_sentence(error)}") from error


def check_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError where the tokenizer can't be this model's."""
    _check_sizes(cast("Any", model.get_input_embeddings()).weight.shape[0], tokenizer)


def check_vocabulary(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """The same by a model's config alone, which needs no weights."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if rows:
        _check_sizes(int(rows), tokenizer)


def _check_sizes(rows: int, tokenizer: PreTrainedTokenizerBase) -> None:
    used = max(tokenizer.get_vocab().values()) + 1
    if used > rows or used < _FEWEST_USED * rows:
        raise ModelError(
            f"tokenizer and model don't belong together: the tokenizer has {used} tokens, the model {rows}; "
            "set tokenizer to the one that the model was trained with"
        )


def context_length(model: str | Path | PreTrainedConfig) -> int:
    """Longest sequence that a model takes, in tokens, from its config."""
    config: Any = load_config(model) if isinstance(model, str | Path) else model
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not length:
        raise ModelError(
            f"the config of {model if isinstance(model, str) else 'the model'} names no context length: set max_length"
        )
    return int(length)


def load_config(model: str | Path) -> PreTrainedConfig:
    """A model's config alone."""
    if str(model).startswith(PREFIX):
        return find_preset(str(model)).to_llama(byte_tokenizer())
    folder = model_folder(model)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # as above: KeyError, ValueError, JSONDecodeError and others
        raise ModelError(f"can't read the model config in {folder}: {_first_sentence(error)}") from error


def model_digest(model: str | Path) -> str:
    """sha256 of a model's files, or of a preset's definition: its identity in lineage and caches."""
    if str(model).startswith(PREFIX):
        return hashlib.sha256(f"{model} {find_preset(str(model)).model_dump_json()} seed 0".encode()).hexdigest()
    return folder_digest(model_folder(model))


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` opens: safetensors, tokenizer, chat template.

    Generation stops at the template's end of turn, also in other programs: generation_config.json names it.
    """
    if model.generation_config is not None and tokenizer.chat_template:
        stops = ChatFormat(tokenizer).stop_ids
        model.generation_config.eos_token_id = list(stops) if len(stops) > 1 else stops[0] if stops else None
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _no_load_report() -> Iterator[None]:
    """transformers warns of missing weights in a table; load_pretrained judges them itself."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _download(name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    repository, _, revision = name.partition("@")
    commit, problem = None, None
    try:
        # snapshot_download waits for a silent hub for ever: ask with a time limit first
        commit = HfApi().model_info(repository, revision=revision or None, timeout=HUB_TIMEOUT_S).sha
    except Exception as error:  # the hub's client has a dozen error classes, and httpx's come through as well
        problem = error
    try:
        folder = snapshot_download(
            repository, revision=commit or revision or None, allow_patterns=_HUB_FILES, local_files_only=commit is None
        )
    except Exception as error:
        raise ModelError(
            f"'{name}' is no folder here and can't be had from the Hugging Face hub "
            f"({_first_sentence(problem or error)}): check the path or the hub id, go online, "
            "or download the model first and give its folder"
        ) from error
    if not Path(folder, "config.json").is_file():
        raise ModelError(f"the hub repository {name} holds no transformers model: it has no config.json")
    return Path(folder)


def _first_sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")[:300]
