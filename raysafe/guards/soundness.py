"""Whether what a guard returned is what its protocol promises. A verdict that no rule foresees must not pass as one."""

from __future__ import annotations

from typing import get_args

from raysafe.guards.guard import Action, Category, Guard, Stage, Step, Verdict

ACTIONS, CATEGORIES = get_args(Action), get_args(Category)


class Nonsense(Exception):
    """What a guard returned can't be acted on. The message quotes nothing of it, for it may hold an exchange's text."""


def sound_verdict(guard: Guard, stage: Stage, result: object) -> Verdict:
    """The verdict of `guard` on a stage; raises Nonsense. What it replaces is for `sound_replacement`."""
    if not isinstance(result, Verdict):
        raise Nonsense(f"returned a {type(result).__name__} instead of a Verdict")
    if result.action not in ACTIONS:
        raise Nonsense(f"returned a verdict with an unknown action; actions: {', '.join(ACTIONS)}")
    if result.category not in CATEGORIES:
        raise Nonsense(f"returned a verdict with an unknown category; categories: {', '.join(CATEGORIES)}")
    if result.guard != guard.name or result.stage != stage:
        raise Nonsense("returned a verdict in another guard's name or on another stage")
    if not isinstance(result.reason, str) or not isinstance(result.score, (int, float)) or not 0 <= result.score <= 1:
        raise Nonsense("returned a verdict without a text as its reason and a score from 0 to 1")
    if result.shadow is not None:
        raise Nonsense("returned a verdict as if it were in shadow mode, which is the policy's to say")
    if result.action != "modify":
        if result.replacement is not None:
            raise Nonsense("returned a replacement with an action other than modify")
    elif not isinstance(result.replacement, tuple) or not all(isinstance(text, str) for text in result.replacement):
        raise Nonsense("returned modify without a tuple of texts as its replacement")
    return result


def sound_replacement(verdict: Verdict, texts: int) -> None:
    """Raise Nonsense unless a verdict that modifies has one replacement for each of the stage's `texts` texts."""
    if verdict.replacement is not None and len(verdict.replacement) != texts:
        raise Nonsense(f"returned {len(verdict.replacement)} replacements for {texts} texts")


def sound_step(guard: Guard, ended: bool, result: object) -> Step:
    """The step of a filter of `guard`, while its answer streams or when it has `ended`; raises Nonsense."""
    if not isinstance(result, Step):
        raise Nonsense(f"returned a {type(result).__name__} instead of a Step")
    if not isinstance(result.text, str) or not isinstance(result.settled, int) or result.settled < 0:
        raise Nonsense("returned a step without a text and a count of settled characters")
    if result.verdict is None:
        if ended:
            raise Nonsense("returned no verdict at the end of the answer")
        return result
    verdict = sound_verdict(guard, "output", result.verdict)
    sound_replacement(verdict, 1)
    if not ended and not verdict.stops:
        raise Nonsense("returned a verdict that doesn't stop the answer before its end")
    return result
