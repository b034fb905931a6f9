"""Reads the guarded model's own activations: a linear probe (models/probe.py) scores the prompt, or the answer to it.

- kind: probe
  probe: probes/harmful.safetensors
  model: runs/policy/model

It knows what the model represents, not what it says; its file says how far it beat its controls.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from raysafe.errors import ModelError
from raysafe.guards.guard import Exchange, Stage, Verdict
from raysafe.guards.settings import NOTHING, GuardConfig, Resources
from raysafe.models.activations import ActivationReader
from raysafe.models.language import model_digest
from raysafe.models.probe import Probe, load_probe


class ProbeGuardConfig(GuardConfig):
    """`kind: probe` of a policy. The probe's file says whether it reads requests or answers."""

    kind: Literal["probe"] = "probe"
    name: str = Field(default="probe", min_length=1)
    timeout_s: float = Field(default=10.0, gt=0, description="A check that takes longer counts as failed.")
    probe: Path = Field(description="The probe's safetensors file.")
    model: str = Field(min_length=1, description="The model that the probe was trained on: the guarded one's folder.")
    chat_template: str = Field(default="auto", description="auto (the tokenizer's own), plain, or a Jinja file.")
    device: str = Field(default="cpu", description="Where the model runs.")
    threshold: float | None = Field(default=None, gt=0, lt=1, description="The probe's own by default.")
    accept_unproven: bool = Field(default=False, description="Use a probe that didn't beat its controls.")
    action: Literal["block", "hold"] = "block"

    def build(self, resources: Resources = NOTHING) -> ProbeGuard:
        """Raises ModelError for a probe of another model, or one that isn't better than its controls."""
        probe = load_probe(self.probe)
        card = probe.card
        if not card.controls.beaten and not self.accept_unproven:
            raise ModelError(
                f"the probe {self.probe} is not better than its controls: area {card.controls.held_out:.3f} (from "
                f"{card.controls.held_out_low:.3f}), shuffled labels {card.controls.shuffled_labels:.3f}, random "
                f"direction {card.controls.random_direction:.3f}, untrained network {card.controls.untrained:.3f}; "
                "train it on more texts, or set accept_unproven"
            )
        digest = model_digest(self.model)
        if digest != card.model_digest:
            raise ModelError(
                f"the probe {self.probe} is of the model {card.model_digest[:12]} (a {card.architecture} of hidden "
                f"size {card.hidden_size}), but {self.model} is {digest[:12]}: train a probe on {self.model}"
            )
        reader = ActivationReader.load(self.model, chat_template=self.chat_template, device=self.device)
        if (reader.hidden_size, len(reader.blocks)) != (card.hidden_size, card.layers):
            raise ModelError(
                f"the probe {self.probe} reads {card.layers} blocks of hidden size {card.hidden_size}, but "
                f"{self.model} has {len(reader.blocks)} of {reader.hidden_size}: the probe's file is damaged"
            )
        if reader.chat.fingerprint != card.template:
            raise ModelError(
                f"the probe {self.probe} was trained with the chat template {card.template[:12]}, but chat_template "
                f"'{self.chat_template}' of {self.model} is {reader.chat.fingerprint[:12]}: set the one of its training"
            )
        return ProbeGuard(self, probe, reader)


class ProbeGuard:
    """The verdict's score is the probe's calibrated probability; several calls of tools count by the highest."""

    inline = False

    def __init__(self, config: ProbeGuardConfig, probe: Probe, reader: ActivationReader) -> None:
        self.config, self.probe, self.reader = config, probe, reader
        self.name = config.name
        self.threshold = probe.card.threshold if config.threshold is None else config.threshold
        self.stages: frozenset[Stage] = frozenset({"input" if probe.card.text == "prompt" else "output"})

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        """Raises ModelError for a text beyond the model's context, or an empty one."""
        prompt = [{"role": message.role, "content": message.content} for message in exchange.admitted()]
        texts = [None] if stage == "input" else list(exchange.texts(stage))
        states = (self.reader.states(prompt, text, self.probe.card.layer) for text in texts)
        score = max(self.probe.probability(states_TD) for states_TD in states)
        if score < self.threshold:
            return Verdict(self.name, stage, "allow", score=score)
        reason = f"the probe '{self.probe.card.concept}' gives {score:.3f}, at or over {self.threshold:.3f}"
        return Verdict(self.name, stage, self.config.action, reason, score)
