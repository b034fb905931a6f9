"""Attention over packed trees: each prompt attends to itself, each branch to its prompt and itself, nothing else.

Registered with transformers as the attention implementation `raysafe_packed`; a forward pass hands it `packed_trees`.
One call of scaled_dot_product_attention per tree and branch: no mask over the whole row is ever built, so the cost is
that of the sequences alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from raysafe.errors import ModelError
from raysafe.models.packing import Tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKED = "raysafe_packed"


def packed_attention(
    module: nn.Module,
    query_1HTD: Tensor,
    key_1GTD: Tensor,
    value_1GTD: Tensor,
    attention_mask: Tensor | None,
    *,
    packed_trees: tuple[Tree, ...] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **unused: object,
) -> tuple[Tensor, None]:
    """Attention output (1, T, H, D). H query heads share G key/value heads."""
    if packed_trees is None:
        raise ModelError(
            "a model set to packed attention was called without packed_trees; load it with attention='sdpa'"
        )
    heads = query_1HTD.shape[1]
    if key_1GTD.shape[1] != heads:
        # expanding beats enable_gqa on CPU by a tenth
        repeats = heads // key_1GTD.shape[1]
        key_1GTD, value_1GTD = (x.repeat_interleave(repeats, dim=1) for x in (key_1GTD, value_1GTD))
    # split, not slices: a slice's backward pass fills a tensor of the whole row, a split's is one concatenation
    sizes = [end - start for tree in packed_trees for start, end in _pieces(tree)]
    queries, keys, values = (iter(x.split(sizes, dim=2)) for x in (query_1HTD, key_1GTD, value_1GTD))
    outputs = []
    for tree in packed_trees:
        prompt_length = tree.prompt[1] - tree.prompt[0]
        k, v = next(keys), next(values)
        outputs.append(
            F.scaled_dot_product_attention(next(queries), k, v, dropout_p=dropout, is_causal=True, scale=scaling)
        )
        prompt_k, prompt_v = k[:, :, :prompt_length], v[:, :, :prompt_length]
        for b0, b1 in tree.branches[1:]:
            mask_QK = torch.ones(b1 - b0, prompt_length + b1 - b0, dtype=torch.bool, device=k.device).tril(
                prompt_length
            )
            k, v = torch.cat((prompt_k, next(keys)), dim=2), torch.cat((prompt_v, next(values)), dim=2)
            outputs.append(
                F.scaled_dot_product_attention(next(queries), k, v, attn_mask=mask_QK, dropout_p=dropout, scale=scaling)
            )
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _pieces(tree: Tree) -> list[tuple[int, int]]:
    """The prompt with its first branch, which follows it directly, as one causal piece; then each further branch."""
    return [(tree.prompt[0], tree.branches[0][1]), *tree.branches[1:]]


AttentionInterface.register(PACKED, packed_attention)


def check_packable(model: PreTrainedModel) -> None:
    """Raise ModelError where the model's attention is more than plain causal attention, which packing would change."""
    config = model.config.get_text_config()
    reasons = []
    if not getattr(model, "_supports_attention_backend", False):
        reasons.append("doesn't take attention implementations from outside")
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        reasons.append("attends within a sliding window")
    if getattr(config, "attn_logit_softcapping", None):
        reasons.append("caps its attention scores")
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        reasons.append("mixes kinds of layers")
    if reasons:
        raise ModelError(
            f"{type(model).__name__} can't be packed because it {' and '.join(reasons)}; "
            "set layout.pack and layout.share_prompt to false"
        )
