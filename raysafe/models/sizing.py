"""How many bytes a Llama-like model takes, by formula: parameters, gradients, optimiser, key/value cache, activations.

The formulas count what the code here does: float32 weights, bfloat16 matrix products under autocast, attention that
keeps no T x T matrix, logits at completion tokens. On one H200 a Llama of 1.2 billion weights took what they say to
0.2% in training and frozen, an engine two thirds of it; CUDA reserved up to a quarter more (tests/gpu/test_memory.py,
2026-11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from raysafe.errors import ModelError
from raysafe.models.language import load_config
from raysafe.runtime.sizing import Memory, Sharding

Head = Literal["logits", "value"]
Compute = Literal["bfloat16", "float32"]
FLOAT32, BFLOAT16 = 4, 2
MOMENTS = 2
"""AdamW keeps two of each trained weight, in its dtype (Kingma and Ba 2015)."""
KNOWN_TYPES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")


@dataclass(frozen=True)
class Shape:
    """What the sizes of a decoder with gated feed-forward layers and RMS norms depend on."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    feedforward: int
    vocabulary: int
    tied: bool
    """Whether the head's weights are the embedding's."""
    qkv_biases: bool = False
    output_bias: bool = False
    feedforward_biases: bool = False
    qk_norms: bool = False

    @property
    def queries(self) -> int:
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of a layer's linear maps: q, k, v, o, gate, up, down."""
        return (
            (self.width, self.queries),
            (self.width, self.keys),
            (self.width, self.keys),
            (self.queries, self.width),
            (self.width, self.feedforward),
            (self.width, self.feedforward),
            (self.feedforward, self.width),
        )

    @property
    def layer_linear(self) -> int:
        """Weights of a layer's linear maps, biases aside."""
        return sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        biases = self.qkv_biases * (self.queries + 2 * self.keys) + self.output_bias * self.width
        biases += self.feedforward_biases * (2 * self.feedforward + self.width)
        return self.layer_linear + biases + 2 * self.width + self.qk_norms * 2 * self.head_dim

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.width

    @property
    def outside(self) -> int:
        """Parameters outside the layers: embedding, last norm, head."""
        return self.embedding * (1 if self.tied else 2) + self.width

    @property
    def parameters(self) -> int:
        """Parameters of the language model, each shared one counted once."""
        return self.layers * self.layer + self.outside

    @property
    def scorer_parameters(self) -> int:
        """Parameters of a critic or reward model: the body under a linear map to one number, without a bias."""
        return self.layers * self.layer + self.embedding + 2 * self.width

    def adapter_parameters(self, rank: int) -> int:
        """Parameters of low-rank adapters on all of the layers' linear maps (Hu et al. 2021): r (inputs + outputs)."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.linears)


SIZES = {
    "1B": Shape("Llama 3.2 1B", 16, 2048, 32, 8, 64, 8192, 128256, tied=True),
    "7B": Shape("Llama 2 7B", 32, 4096, 32, 32, 128, 11008, 32000, tied=False),
    "8B": Shape("Llama 3.1 8B", 32, 4096, 32, 8, 128, 14336, 128256, tied=False),
    "70B": Shape("Llama 3.1 70B", 80, 8192, 64, 8, 128, 28672, 128256, tied=False),
}
"""Shapes that a bare size stands for, as their makers published them."""


def find_shape(model: str) -> Shape:
    """The shape of a bare size (`7B`), or of a model folder, run, hub id or preset by its config; raises ModelError."""
    if model.upper() in SIZES:
        return SIZES[model.upper()]
    if model[:-1].replace(".", "", 1).isdigit() and model[-1:].upper() in ("B", "M"):
        raise ModelError(f"no shape is known for the size {model}: give one of {', '.join(SIZES)}, or a model")
    return shape_of(load_config(model), model)


def shape_of(config: Any, name: str) -> Shape:
    """The shape in a transformers config; raises ModelError for an architecture that the formulas don't describe."""
    if config.model_type not in KNOWN_TYPES:
        raise ModelError(
            f"{name} is a {config.model_type}, whose size the formulas don't describe: they are for "
            f"{', '.join(KNOWN_TYPES)}; give a bare size ({', '.join(SIZES)}) that is near it"
        )
    heads = config.num_attention_heads
    of_type = config.model_type
    biased = bool(getattr(config, "attention_bias", False))
    return Shape(
        name=name,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        feedforward=config.intermediate_size,
        vocabulary=config.vocab_size,
        tied=bool(config.tie_word_embeddings),
        qkv_biases=of_type == "qwen2" or (biased and of_type != "mistral"),
        output_bias=biased and of_type not in ("mistral", "qwen2"),
        feedforward_biases=bool(getattr(config, "mlp_bias", False)) and of_type in ("llama", "smollm3"),
        qk_norms=of_type == "qwen3",
    )


def kv_cache_bytes(shape: Shape, tokens: int, bytes_per_number: int = BFLOAT16) -> int:
    """Keys and values of so many tokens: 2 x layers x key/value heads x head width x tokens x bytes."""
    return 2 * shape.layers * shape.keys * tokens * bytes_per_number


def optimiser_bytes(trained: int) -> int:
    """AdamW's two moments, float32 as the weights are. The weights are their own master copy: there is no other."""
    return MOMENTS * FLOAT32 * trained


def layer_activation_bytes(shape: Shape, tokens: int, compute: Compute) -> int:
    """What one layer keeps for its backward pass.

    After Korthikanti et al. 2022, sec. 4.1, for the layers that are used here: their 5 a s^2 term is gone, for flash
    and memory-efficient attention keep one number a head and token instead; grouped keys and values are kept at the
    queries' number of heads, to which they are repeated. A norm keeps its float32 input and the normalised one. Under
    autocast each linear map keeps its own bfloat16 copy of its input (three at q, k, v, two at gate and up); the
    attention q, k, v, its output, and the input of o; the gated layer gate, its activation, up and their product.
    """
    width, queries, feedforward = shape.width, shape.queries, shape.feedforward
    norms = 2 * FLOAT32 * 2 * width + 2 * FLOAT32
    if compute == "bfloat16":
        numbers = BFLOAT16 * (5 * width + 5 * queries + 4 * feedforward)
    else:
        numbers = FLOAT32 * (2 * width + 5 * queries + 4 * feedforward)
    if shape.qk_norms:
        numbers += 2 * FLOAT32 * (queries + shape.keys)
    return tokens * (norms + numbers + FLOAT32 * shape.heads)


def passing_bytes(shape: Shape, tokens: int, compute: Compute) -> int:
    """The most that a forward pass without gradients holds at a time, in a feed-forward layer or in attention.

    Embedding, residual, normed input and output in float32, cosines and sines, and three gated or four headed numbers.
    """
    size = BFLOAT16 if compute == "bfloat16" else FLOAT32
    widest = max(3 * shape.feedforward, 4 * shape.queries)
    return tokens * (FLOAT32 * (4 * shape.width + 2 * shape.head_dim) + size * widest)


def saved_bytes(
    shape: Shape, tokens: int, *, compute: Compute, checkpointing: bool = False, head: Head = "logits"
) -> int:
    """What a forward pass over `tokens`, all of them predicted, keeps for the backward pass, weights aside.

    With activation checkpointing a layer keeps its float32 input alone (Chen et al. 2016). Adapters keep less: the
    figure is an upper bound for them.
    """
    size = BFLOAT16 if compute == "bfloat16" else FLOAT32
    each = FLOAT32 * shape.width * tokens if checkpointing else layer_activation_bytes(shape, tokens, compute)
    rotary, last_norm = 2 * FLOAT32 * shape.head_dim, 2 * FLOAT32 * shape.width + FLOAT32
    kept = shape.layers * each + tokens * (rotary + last_norm)
    if head == "logits":
        # the head's input, and the log-probabilities over the vocabulary
        kept += tokens * (size * shape.width + FLOAT32 * shape.vocabulary)
    return kept


def cast_bytes(shape: Shape, compute: Compute, head: Head = "logits") -> int:
    """bfloat16 copies of all linear weights: autocast holds them until its block ends, autograd for the backward pass.

    Activation checkpointing doesn't spare them at the end of the forward pass, and neither does FSDP.
    """
    if compute == "float32":
        return 0
    return BFLOAT16 * (shape.layers * shape.layer_linear + (shape.embedding if head == "logits" else 0))


def working_bytes(
    shape: Shape, tokens: int, *, compute: Compute, checkpointing: bool = False, head: Head = "logits"
) -> int:
    """The most that a forward and backward pass holds beside weights, gradients and optimiser."""
    logits = FLOAT32 * shape.vocabulary * tokens if head == "logits" else 0
    kept = saved_bytes(shape, tokens, compute=compute, checkpointing=checkpointing, head=head) - logits
    casts = cast_bytes(shape, compute, head)
    # backward through log-softmax: its output, the gradient of that, and the gradient of the logits
    if not checkpointing:
        return kept + casts + 3 * logits
    last_cast = cast_bytes(shape, compute, head) - cast_bytes(shape, compute, "value")
    layer_cast = BFLOAT16 * shape.layer_linear if compute == "bfloat16" else 0
    recomputed = layer_activation_bytes(shape, tokens, compute) + layer_cast
    return kept + max(casts + 2 * logits, last_cast + 3 * logits, recomputed)


def trained_memory(
    shape: Shape,
    gpus: int,
    *,
    sharding: Sharding,
    tokens: int,
    compute: Compute,
    checkpointing: bool = False,
    lora_rank: int | None = None,
    head: Head = "logits",
) -> Memory:
    """Bytes on each of N GPUs of a model in training, `tokens` in a micro-batch, gradients accumulated over several.

    DDP holds gradients twice, in the parameters and in its buckets, which stay while the role is idle. FSDP shards
    weights and moments, gathers two layers at a time and what is outside the layers for the whole pass; while gradients
    are accumulated it holds them whole (they are reduced once a step, FSDP2's set_requires_gradient_sync).
    """
    base = shape.parameters if head == "logits" else shape.scorer_parameters
    adapters = shape.adapter_parameters(lora_rank) if lora_rank else 0
    trained = adapters or base
    held = base + adapters
    working = working_bytes(shape, tokens, compute=compute, checkpointing=checkpointing, head=head)
    gradients = FLOAT32 * trained
    buckets = gradients if gpus > 1 and sharding == "ddp" else 0
    shards = gpus if sharding == "fsdp" else 1
    if shards > 1:
        working += FLOAT32 * (2 * shape.layer + (shape.outside if head == "logits" else shape.embedding))
    # AdamW's step over all tensors at once needs a temporary of each, when no activation is left
    stepping = FLOAT32 * trained // shards
    return Memory(
        weights=FLOAT32 * held / shards,
        gradients=gradients + buckets,
        optimiser=optimiser_bytes(trained) / shards,
        activations=max(working, stepping),
        idle=buckets,
    )


def frozen_memory(shape: Shape, *, tokens: int, compute: Compute, head: Head = "logits") -> Memory:
    """Bytes on each GPU of a reference or reward model, a whole float32 copy, in a forward pass without gradients."""
    logits = FLOAT32 * shape.vocabulary * tokens if head == "logits" else 0
    passing = max(2 * logits, passing_bytes(shape, tokens, compute))
    return Memory(
        weights=FLOAT32 * (shape.parameters if head == "logits" else shape.scorer_parameters),
        activations=cast_bytes(shape, compute, head) + passing,
    )


def engine_memory(
    shape: Shape, *, rows: int, context: int, compute: Compute, spare: float = 1.0, prefill: int | None = None
) -> Memory:
    """Bytes on a GPU of an engine that writes `rows` answers at once, each of `context` tokens with its prompt.

    compute: the dtype that the engine holds, and computes in. spare: how many times the cache's buffers are what is in
    them. prefill: prompt tokens read at once; half of all tokens if not given.
    """
    size = BFLOAT16 if compute == "bfloat16" else FLOAT32
    read = passing_bytes(shape, rows * context // 2 if prefill is None else prefill, compute)
    return Memory(
        weights=size * shape.parameters,
        kv_cache=spare * kv_cache_bytes(shape, rows * context, size),
        # the last logits in float32, as they come and sorted
        activations=max(read, 2 * FLOAT32 * shape.vocabulary * rows),
    )
