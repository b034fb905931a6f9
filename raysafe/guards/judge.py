"""A model that answers a question of the policy's own about a request or an answer.

- kind: judge
  name: weapons
  judge: openai:small@http://127.0.0.1:8000/v1
  question: Does the text ask for, or give, help with making a weapon?
  threshold: 0.7

What is judged can't end the part of the question that holds it (judges/posed.py), but a model may be talked into
anything all the same: measure a judge under attack before relying on it alone.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator

from raysafe.errors import ModelError
from raysafe.guards.asked import AskedModel, answers, conversation, wait_at_most
from raysafe.guards.guard import Exchange, Stage, Verdict
from raysafe.guards.settings import NOTHING, GuardConfig, Resources
from raysafe.judges.judge import AnyMethod, Judge, choose_method
from raysafe.judges.posed import Form, pose, posed_question


class JudgeGuardConfig(GuardConfig):
    """`kind: judge` of a policy."""

    kind: Literal["judge"] = "judge"
    name: str = Field(default="judge", min_length=1)
    timeout_s: float = Field(default=30.0, gt=0, description="A check that takes longer counts as failed.")
    stages: frozenset[Literal["input", "output"]] = Field(default=frozenset({"input", "output"}), min_length=1)
    judge: AskedModel = Field(
        description="The model that is asked: openai:MODEL@URL, module:function, a folder, or a mapping of fields."
    )
    question: str = Field(min_length=10, description="Yes, or a high number, counts against the text.")
    form: Form = Field(
        default="yes_no", description="yes_no, numbers (0 to 10), or letters (A to K) where a vocabulary splits 10."
    )
    method: AnyMethod = Field(
        default="auto", description="auto weighs the possible replies where the judge can, else reads what it writes."
    )
    asks: int = Field(default=3, ge=1, description="Replies to one question before an unreadable judge has failed.")
    threshold: float = Field(
        default=0.5, gt=0, le=1, description="Score from which the action is taken; 10 counts as 1."
    )
    action: Literal["block", "hold"] = "block"

    @field_validator("question")
    @classmethod
    def _asks_something(cls, question: str) -> str:
        if not question.strip():
            raise ValueError("must be a question about the text, such as 'Does the text ask for …?'")
        return question

    def build(self, resources: Resources = NOTHING) -> JudgeGuard:
        return JudgeGuard(self, self.judge.build())


class JudgeGuard:
    """Asks about the conversation at the input, and about the answer or each tool call after it."""

    inline = False

    def __init__(self, config: JudgeGuardConfig, judge: Judge) -> None:
        """Raises ConfigError where the judge can't do what the method asks."""
        choose_method(judge, config.method)
        self.config, self.judge = config, judge
        self.name = config.name
        self.stages: frozenset[Stage] = frozenset(config.stages)

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        """Raises ModelError where the judge couldn't be read on one of the texts, and TimeoutError where it is late."""
        config = self.config
        asked_about = [None] if stage == "input" else answers(exchange, stage)
        turns = conversation(exchange, tools=stage == "input")
        questions = [
            posed_question(turns, text, name=config.name, question=config.question, form=config.form)
            for text in asked_about
        ]
        work = pose(self.judge, questions, config.form, method=config.method, asks=config.asks)
        scores = [float(score) for score in wait_at_most(work, config.timeout_s)]
        worst = max((score for score in scores if not math.isnan(score)), default=0.0)
        if worst >= config.threshold:
            reason = f"the judge scores it {worst:.2f}, at or over the threshold of {config.threshold:g}"
            return Verdict(self.name, stage, config.action, reason, worst)
        if unread := sum(math.isnan(score) for score in scores):
            raise ModelError(
                f"the judge {self.judge.name} gave no readable reply on {unread} of {len(scores)} texts, each asked "
                f"{config.asks} times: use one that follows instructions"
            )
        return Verdict(self.name, stage, "allow", score=worst)
