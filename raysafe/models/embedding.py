"""Sentence embeddings of encoders: the mean of a text's last hidden states, of length 1 (Reimers & Gurevych 2019)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoModel

from raysafe.errors import ModelError
from raysafe.models.language import check_tokenizer, context_length, load_pretrained, load_tokenizer, model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_POOLINGS = ("mean", "cls")


class SentenceEncoder:
    """A transformers encoder and how its states become one vector.

    pooling: mean over a text's tokens, or cls, the first token's state. normalise: divide by the length.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        pooling: str = "mean",
        normalise: bool = True,
    ) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.pooling, self.normalise = pooling, normalise
        # a first call sets aside what the tokenizer's file says of padding and cutting, before threads share it
        tokenizer("", truncation=False)
        self.context = min(context_length(model.config), tokenizer.model_max_length)

    def encode(self, text: str) -> list[int]:
        """A text's ids with the special tokens around it; raises ModelError where it is too long or empty."""
        ids = self.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        if len(ids) > self.context:
            raise ModelError(f"a text has {len(ids):,} tokens, and this model takes {self.context:,}: shorten it")
        if not ids:
            raise ModelError("a text is empty, and this model has no token to put in its place")
        return ids

    @torch.inference_mode()
    def embed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Vectors (B, D) of encoded texts, float32."""
        width, pad = max(map(len, ids)), self.tokenizer.pad_token_id
        fill = pad if isinstance(pad, int) else 0
        ids_BT = torch.tensor([[*row, *[fill] * (width - len(row))] for row in ids], device=self.model.device)
        lengths_B = torch.tensor([len(row) for row in ids], device=self.model.device)
        mask_BT = (torch.arange(width, device=self.model.device)[None] < lengths_B[:, None]).long()
        states_BTD = self.model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state.float()
        if self.pooling == "cls":
            vectors_BD = states_BTD[:, 0]
        else:
            vectors_BD = (states_BTD * mask_BT[..., None]).sum(1) / lengths_B[:, None]
        return torch.nn.functional.normalize(vectors_BD, dim=-1) if self.normalise else vectors_BD


def load_sentence_encoder(model: str | Path, *, dtype: torch.dtype = torch.float32) -> SentenceEncoder:
    """The encoder in a folder; raises ModelError.

    Its pooling is what sentence-transformers' modules.json and 1_Pooling/config.json say, where the folder has them.
    """
    folder = model_folder(model)
    pooling, normalise = _pooling(folder)
    # the head that sentence embeddings don't use may be missing
    encoder = load_pretrained(AutoModel, model, dtype=dtype, attention=None, may_miss="pooler.")
    tokenizer = load_tokenizer(model)
    check_tokenizer(encoder, tokenizer)
    return SentenceEncoder(encoder, tokenizer, pooling=pooling, normalise=normalise)


def _pooling(folder: Path) -> tuple[str, bool]:
    modules = _read(folder / "modules.json", [])
    if not modules:
        return "mean", True
    kinds = [str(one.get("type", "")).rpartition(".")[2] for one in modules if isinstance(one, dict)]
    if strange := sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
        raise ModelError(f"{folder} has the module {strange[0]}, which is not known here: embeddings would be others")
    place = next((one.get("path", "") for one in modules if str(one.get("type", "")).endswith("Pooling")), "1_Pooling")
    settings: dict[str, Any] = _read(folder / str(place) / "config.json", {})
    chosen = [name.removeprefix("pooling_mode_") for name, on in settings.items() if on is True and "_mode_" in name]
    known = {"mean_tokens": "mean", "cls_token": "cls"}
    poolings = [known[name] if name in known else str(name) for name in chosen] or ["mean"]
    if len(poolings) != 1 or poolings[0] not in _POOLINGS:
        raise ModelError(f"{folder} pools by {' and '.join(poolings)}, which is not known here: mean or cls are")
    return poolings[0], "Normalize" in kinds


def _read(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"can't read {path}: {str(error) or type(error).__name__}") from None
    if type(found) is not type(default):
        raise ModelError(f"{path} must hold a JSON {'list' if isinstance(default, list) else 'object'}")
    return found
