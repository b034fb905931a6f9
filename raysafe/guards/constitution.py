"""Scores answers by the principles of a constitution, 0 to 10 each; one that falls short of the threshold on any stops.

- kind: constitution
  judge: openai:small@http://127.0.0.1:8000/v1
  action: hold
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field

from raysafe.errors import ConfigError, ModelError
from raysafe.guards.asked import AskedModel, answers, conversation, wait_at_most
from raysafe.guards.guard import Exchange, Stage, Verdict
from raysafe.guards.settings import NOTHING, GuardConfig, Resources
from raysafe.judges.constitution import HIGHEST, Constitution, load_constitution
from raysafe.judges.judge import AnyMethod, Judge, choose_method
from raysafe.judges.rubric import score_answers
from raysafe.judges.wording import Scale


class ConstitutionConfig(GuardConfig):
    """`kind: constitution` of a policy: the model's answers and tool calls, never the request."""

    kind: Literal["constitution"] = "constitution"
    name: str = Field(default="constitution", min_length=1)
    timeout_s: float = Field(default=120.0, gt=0, description="A check that takes longer counts as failed.")
    judge: AskedModel = Field(
        description="The model that scores: openai:MODEL@URL, module:function, a folder, or a mapping of fields."
    )
    constitution: Path | None = Field(
        default=None, description="YAML file of principles and their threshold; the packaged eight, from 7, by default."
    )
    principles: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="The principles to ask about, each a question; all by default."
    )
    method: AnyMethod = Field(
        default="auto", description="auto weighs the eleven scores where the judge can, else reads what it writes."
    )
    scale: Scale = Field(default="numbers", description="letters (A to K) where a judge's vocabulary splits 10.")
    asks: int = Field(default=3, ge=1, description="Replies to one question before a principle counts as unscored.")
    action: Literal["block", "hold"] = "block"

    def chosen(self) -> Constitution:
        """The constitution with the named principles only; raises ConfigError for a name that it doesn't hold."""
        whole = load_constitution(self.constitution)
        if self.principles is None:
            return whole
        if strange := [name for name in self.principles if name not in whole.names]:
            raise ConfigError(
                f"principles: the constitution '{whole.name}' has no '{strange[0]}'; it has {', '.join(whole.names)}"
            )
        kept = tuple(p for p in whole.principles if p.name in self.principles)
        return Constitution(name=whole.name, threshold=whole.threshold, principles=kept)

    def build(self, resources: Resources = NOTHING) -> ConstitutionGuard:
        return ConstitutionGuard(self, self.chosen(), self.judge.build())


class ConstitutionGuard:
    """The verdict's score is 1 - (lowest score / 10)."""

    inline = False

    def __init__(self, config: ConstitutionConfig, constitution: Constitution, judge: Judge) -> None:
        """Raises ConfigError where the judge can't do what the method asks."""
        choose_method(judge, config.method)
        self.config, self.constitution, self.judge = config, constitution, judge
        self.name = config.name
        self.stages: frozenset[Stage] = frozenset({"output"})

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        """Raises ModelError where a principle is unscored and no other one fails; TimeoutError where it is late."""
        config, threshold = self.config, self.constitution.threshold
        texts, turns = answers(exchange, stage), conversation(exchange)
        work = score_answers(
            self.judge, [turns] * len(texts), texts, self.constitution,
            method=config.method, scale=config.scale, asks=config.asks,
        )  # fmt: skip
        lowest = dict.fromkeys(self.constitution.names, math.inf)
        unscored: set[str] = set()
        for scored in wait_at_most(work, config.timeout_s):
            unscored.update(scored.unscored)
            for name, score in scored.scores.items():
                lowest[name] = lowest[name] if math.isnan(score) else min(lowest[name], score)
        against = 1 - min(min(lowest.values()), HIGHEST) / HIGHEST
        if failed := {name: score for name, score in lowest.items() if score < threshold}:
            named = ", ".join(f"{name} ({score:.1f})" for name, score in failed.items())
            reason = f"below {threshold:g} of {HIGHEST:g} on {named}"
            if unscored:
                reason += f"; unscored: {', '.join(sorted(unscored))}"
            return Verdict(self.name, stage, config.action, reason, against)
        if unscored:
            raise ModelError(
                f"the judge {self.judge.name} gave no readable score for {', '.join(sorted(unscored))}, each asked "
                f"{config.asks} times: use a judge that follows instructions"
            )
        return Verdict(self.name, stage, "allow", score=against)
