"""Writing a batch of answers token by token, with a key/value cache.

Prompts are padded on the left; a prompt with several answers is read once; rows leave the batch as they end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from raysafe.errors import ModelError
from raysafe.models.generate.engine import FinishReason, Generation, SamplingParams
from raysafe.models.generate.sampling import choose
from raysafe.models.generate.text import TextWriter, plain_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Row:
    """One answer in the making."""

    def __init__(
        self, place: int, prompt: tuple[int, ...], limit: int, uniforms: Tensor | None, writer: TextWriter | None
    ) -> None:
        self.place, self.prompt, self.limit, self.uniforms, self.writer = place, prompt, limit, uniforms, writer
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.finish: FinishReason | None = None
        self.ended = False

    @property
    def longest(self) -> int:
        return len(self.prompt) + self.limit

    def add(self, token: int, logprob: float, stop_ids: frozenset[int]) -> None:
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if token in stop_ids:
            self.finish, self.ended = "stop", True
            return
        if self.writer is not None:
            self.writer.write(token)
            if self.writer.stopped:
                self.finish = "stop"
                return
        if len(self.tokens) == self.limit:
            self.finish = "length"

    def generation(self, tokenizer: PreTrainedTokenizerBase) -> Generation:
        """The answer as it stands; unfinished means cancelled."""
        finish = self.finish or "cancelled"
        if self.writer is None:
            text = plain_text(tokenizer, self.tokens[:-1] if self.ended else self.tokens)
            return Generation(self.place, self.tokens, self.logprobs, text, finish)
        self.writer.close()
        # closing may complete a stop string with characters that were held back until now
        return Generation(
            self.place, self.tokens, self.logprobs, self.writer.text, "stop" if self.writer.stopped else finish
        )


class Decoding:
    """A batch of rows and their cache. `step` writes one token to each live row."""

    @torch.inference_mode()
    def __init__(
        self, model: PreTrainedModel, rows: list[Row], sampling: SamplingParams, stop_ids: frozenset[int]
    ) -> None:
        self.model, self.live, self.sampling, self.stop_ids = model, list(rows), sampling, stop_ids
        self.cache = DynamicCache(config=model.config)
        prompts = list(dict.fromkeys(row.prompt for row in rows))
        lengths_P = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths_P.max())
        ids_PT = torch.zeros(len(prompts), width, dtype=torch.long)
        for place, prompt in enumerate(prompts):
            ids_PT[place, width - len(prompt) :] = torch.tensor(prompt)
        mask_PT = (torch.arange(width)[None] >= width - lengths_P[:, None]).long()
        positions_PT = (mask_PT.cumsum(-1) - 1).clamp_min(0)
        logits_PV = self._forward(ids_PT, positions_PT, mask_PT)
        owners_B = torch.tensor([prompts.index(row.prompt) for row in rows])
        self.mask_BT, self.lengths_B = mask_PT[owners_B], lengths_P[owners_B]
        self.logits_BV: Tensor | None = logits_PV[owners_B.to(logits_PV.device)]
        if len(rows) > len(prompts):
            self.cache.batch_select_indices(owners_B.to(model.device))

    @torch.inference_mode()
    def step(self) -> None:
        """Draw a token for each live row; rows that end leave the batch."""
        if self.logits_BV is None:
            tokens_B1 = torch.tensor([[row.tokens[-1]] for row in self.live])
            self.mask_BT = torch.nn.functional.pad(self.mask_BT, (0, 1), value=1)
            self.logits_BV = self._forward(tokens_B1, self.lengths_B[:, None], self.mask_BT)
            self.lengths_B = self.lengths_B + 1
        logits_BV, self.logits_BV = self.logits_BV.float(), None
        settings = self.sampling
        uniforms_B = None
        if settings.temperature > 0:
            uniforms_B = torch.stack([row.uniforms[len(row.tokens)] for row in self.live if row.uniforms is not None])
        tokens_B = choose(
            logits_BV, uniforms_B, temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p
        )
        logps_B = logits_BV.gather(-1, tokens_B[:, None]).squeeze(-1) - logits_BV.logsumexp(-1)
        if not bool(torch.isfinite(logps_B).all()):
            raise ModelError("the model's output is not finite: its weights are damaged or its precision is too low")
        for row, token, logp in zip(self.live, tokens_B.tolist(), logps_B.tolist(), strict=True):
            row.add(token, logp, self.stop_ids)
        kept = [place for place, row in enumerate(self.live) if row.finish is None]
        if 0 < len(kept) < len(self.live):
            kept_B = torch.tensor(kept)
            self.mask_BT, self.lengths_B = self.mask_BT[kept_B], self.lengths_B[kept_B]
            self.cache.batch_select_indices(kept_B.to(self.model.device))
        self.live = [self.live[place] for place in kept]

    def _forward(self, ids_BT: Tensor, positions_BT: Tensor, mask_BS: Tensor) -> Tensor:
        """Logits after the last column, (B, V)."""
        device = self.model.device
        # without padding no mask is needed, and attention takes a faster path
        mask = None if bool(mask_BS.all()) else mask_BS.to(device)
        out = self.model(
            input_ids=ids_BT.to(device),
            position_ids=positions_BT.to(device),
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]
