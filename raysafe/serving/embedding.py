"""A sentence encoder as a backend for /v1/embeddings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from raysafe.errors import ModelError
from raysafe.serving.backend import Embeddings, PromptRefused
from raysafe.serving.batcher import Batcher, asked
from raysafe.serving.texts import check_texts
from raysafe.serving.vector_models import WritesNothing

if TYPE_CHECKING:
    from raysafe.models.embedding import SentenceEncoder
    from raysafe.serving.replicas import ReplicaSettings


class Embedder(WritesNothing):
    """A Backend over an encoder. Texts of several callers are encoded together."""

    def __init__(self, encoder: SentenceEncoder, *, max_batch: int, max_waiting: int) -> None:
        self.encoder = encoder
        self._batcher: Batcher[list[int], tuple[float, ...]] = Batcher(
            lambda ids: [tuple(vector) for vector in encoder.embed(ids).tolist()],
            max_batch=max_batch,
            max_waiting=max_waiting,
        )

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:
        ids = await asyncio.to_thread(self._encode, texts)
        return Embeddings(tuple(await asked(self._batcher, ids)), sum(map(len, ids)))

    @property
    def alive(self) -> bool:
        return self._batcher.alive

    def close(self) -> None:
        self._batcher.close()

    def _encode(self, texts: tuple[str, ...]) -> list[list[int]]:
        check_texts(texts)
        try:
            return [self.encoder.encode(text) for text in texts]
        except ModelError as error:
            raise PromptRefused(str(error), "context_length_exceeded") from None


def load_embedder(settings: ReplicaSettings) -> Embedder:
    """The encoder in the settings' folder; raises ModelError."""
    import torch

    from raysafe.models.embedding import load_sentence_encoder
    from raysafe.serving.local import to_device

    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    encoder = load_sentence_encoder(settings.folder, dtype=dtype)
    to_device(encoder.model)
    return Embedder(encoder, max_batch=settings.max_batch, max_waiting=settings.max_waiting)
