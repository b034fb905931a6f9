"""Settings of low-rank adapters, apart from what makes them: so that help needs no torch."""

from __future__ import annotations

from pydantic import Field

from raysafe.config import Config


class LoraConfig(Config):
    """Adapters of rank `rank`, scaled by alpha / rank."""

    rank: int = Field(default=16, ge=1, description="Rank of each adapter.")
    alpha: float = Field(default=32.0, gt=0, description="Scale: adapters count alpha / rank times.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of an adapter's inputs dropped in training.")
    targets: tuple[str, ...] = Field(
        default=(),
        description="Last names of the linear layers that get one (q_proj, v_proj); all but the head by default.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the adapters' first weights; the same on every worker.")
