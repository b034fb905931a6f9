"""A suffix behind a prompt, after which a language model is to begin its answer with the target.

The suffix lies within the user's message, where an attacker can write. Its tokens count only where the text that they
spell is encoded to them again: what is sent to a service is text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysafe.errors import ConfigError, ModelError
from raysafe.models.chat import ChatFormat

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Guard = Callable[[str], bool]
"""Whether a user's message is let through, such as a guard pipeline's decision on it."""
_FILLERS = " !", " ?"


class SuffixProblem:
    """One prompt and target, on one model. `queries` counts sequences' forward and backward passes."""

    def __init__(
        self, policy: PreTrainedModel, chat: ChatFormat, prompt: str, target: str, *, length: int, batch: int = 256
    ) -> None:
        """length: fillers in the first suffix, a token each in most vocabularies. Raises ModelError or ConfigError."""
        if not prompt.strip() or not target:
            raise ConfigError("an attack needs a prompt and a target, and one of them is empty: give both")
        self.policy, self.chat, self.prompt, self.target, self.batch = policy, chat, prompt, target, batch
        self.device = policy.device
        self.queries = 0
        table: Any = policy.get_input_embeddings()
        self._table = cast("nn.Embedding", table)
        self.vocabulary = self._table.weight.shape[0]
        first, second = (self._encode([prompt + filler * length])[0] for filler in _FILLERS)
        start = _common(first, second)
        end = _common(first[start:][::-1], second[start:][::-1])
        self.before, self.start, self.after = first[:start], first[start : len(first) - end], first[len(first) - end :]
        filler = _FILLERS[0] * length
        spelled = self._decode(self.start)
        if not self.start or not filler.endswith(spelled):
            raise ModelError("this tokenizer doesn't spell a text's end by tokens of its own: suffixes can't be sought")
        self._glue = filler[: len(filler) - len(spelled)]
        completion = chat.encode([{"role": "user", "content": prompt}], target)[1]
        self.goal = [token for token in completion if token not in chat.stop_ids]
        if not self.goal:
            raise ConfigError(f"the target {target!r} holds no token of the model's: give a text")

    def text(self, suffix: Sequence[int]) -> str:
        """The user's message."""
        return self.prompt + self._glue + self._decode(suffix)

    def spelled(self, suffixes: Sequence[Sequence[int]]) -> list[bool]:
        """Of each suffix, whether its text is encoded to its tokens again."""
        if not suffixes:
            return []
        encoded = self._encode([self.text(suffix) for suffix in suffixes])
        return [ids == [*self.before, *suffix, *self.after] for ids, suffix in zip(encoded, suffixes, strict=True)]

    @torch.no_grad()
    def losses(self, suffixes: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Of suffixes of one length: cross-entropy a token of the target (B,), and whether greedy decoding begins with
        it (B,), for each of its tokens is the likeliest after those before it."""
        losses, hits = [], []
        for first in range(0, len(suffixes), self.batch):
            some = suffixes[first : first + self.batch]
            ids_BT = torch.tensor([[*self.before, *suffix, *self.after, *self.goal] for suffix in some])
            logits_BGV = self._model(input_ids=ids_BT.to(self.device))
            loss_B, hit_B = self._scores(logits_BGV)
            losses.append(loss_B)
            hits.append(hit_B)
            self.queries += len(some)
        return torch.cat(losses), torch.cat(hits)

    def gradient(self, suffix: Sequence[int]) -> Tensor:
        """(L, V): of the loss by each place's one-hot token; a forward and a backward pass."""
        table_VD = self._table.weight.detach()
        onehot_LV = F.one_hot(torch.tensor(suffix, device=self.device), len(table_VD)).to(table_VD.dtype)
        onehot_LV.requires_grad_(True)
        loss = self.loss_of_embeddings(onehot_LV @ table_VD)[0]
        return torch.autograd.grad(loss, onehot_LV)[0]

    def loss_of_embeddings(self, suffix_LD: Tensor) -> tuple[Tensor, bool]:
        """Loss, which can be derived by the suffix's embeddings, and whether greedy decoding begins with the target."""
        around = [
            self._table(torch.tensor(ids, device=self.device)) for ids in (self.before, [*self.after, *self.goal])
        ]
        inputs_1TD = torch.cat([around[0], suffix_LD, around[1]])[None]
        loss_B, hit_B = self._scores(self._model(inputs_embeds=inputs_1TD))
        self.queries += 2
        return loss_B[0], bool(hit_B[0])

    def embeddings(self, suffix: Sequence[int]) -> Tensor:
        """(L, D)."""
        return self._table(torch.tensor(suffix, device=self.device)).detach()

    def _model(self, **inputs: Tensor) -> Tensor:
        """Logits (B, G, V) of the target's tokens."""
        logits_BTV = cast("Any", self.policy)(**inputs, use_cache=False, logits_to_keep=len(self.goal) + 1).logits
        return logits_BTV[:, :-1]

    def _scores(self, logits_BGV: Tensor) -> tuple[Tensor, Tensor]:
        goal_BG = torch.tensor(self.goal, device=self.device).expand(len(logits_BGV), -1)
        loss_B = F.cross_entropy(
            logits_BGV.transpose(1, 2).to(torch.promote_types(logits_BGV.dtype, torch.float32)),
            goal_BG,
            reduction="none",
        ).mean(1)
        return loss_B, (logits_BGV.argmax(-1) == goal_BG).all(1)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self.chat.encode_batch([[{"role": "user", "content": text}] for text in texts])[0]

    def _decode(self, ids: Sequence[int]) -> str:
        return cast("Any", self.chat.tokenizer).decode(list(ids), clean_up_tokenization_spaces=False)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the beginning that both have."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
