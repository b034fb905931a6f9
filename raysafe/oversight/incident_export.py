"""Incidents as training data: preference pairs, or prompts, each with where it comes from.

A pair's two answers are, by who has spoken last on the exchange:
  a correction      what the person wrote, over what the model wrote
  a release         what the model wrote, over a refusal: the guard was wrong
  else              a refusal (or a trusted model's answer), over what the guard stopped
A prompt that was stopped before the model saw it has no answer. A model may be asked for one offline; what it writes is
rejected only where the policy's guards of answers stop that too, for nothing else speaks against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from raysafe.data.conversation import BadValue, Messages
from raysafe.data.schema import preference
from raysafe.guards.guard import Exchange, Message, Verdict
from raysafe.guards.pipeline import Pipeline
from raysafe.oversight.incidents import Incident
from raysafe.oversight.redaction import Redactor

Form = Literal["preferences", "prompts"]
REFUSAL = "I'm sorry, but I can't help with that."
Answer = Callable[[Sequence[Messages]], list[str]]
"""Prompts to a model's answers, offline."""

NO_ANSWER = "stopped before the model answered: --answer-with MODEL has one write an answer"
NOTHING_AGAINST = "the guards have nothing against the answer written offline"
UNSAFE = "the guards stop the trusted model's answer too"
LET_PASS = "a reviewer let the request pass: there is no answer to learn from"
UNANSWERED = "the model wrote nothing"
SAME = "the same prompt and answer as another incident's"


class Helper(NamedTuple):
    """A model that writes answers offline, and its name."""

    name: str
    answer: Answer


class Exported(NamedTuple):
    """Rows, how many of each kind, and how many incidents gave none, by the reason."""

    rows: list[dict[str, Any]]
    written: Counter[str]
    left_out: Counter[str]


class Pair(NamedTuple):
    """One incident's pair; `answer` is the one of the two that a model wrote, before any person spoke."""

    incident: Incident
    chosen: str
    rejected: str
    answer: str
    source: str
    more: dict[str, Any]


def preferences(
    incidents: Sequence[Incident],
    redactor: Redactor,
    *,
    refusal: str = REFUSAL,
    guards: Pipeline | None = None,
    rejected_by: Helper | None = None,
    chosen_by: Helper | None = None,
) -> Exported:
    """Pairs of the preferences schema, oldest first; of one prompt and answer the last person's word counts.

    rejected_by: answers prompts that were stopped before the model; chosen_by: answers in a refusal's place. `guards`
    judge what either of them writes.
    """
    left_out: Counter[str] = Counter(one.lacking for one in incidents if one.lacking is not None)
    known = [one for one in incidents if one.lacking is None]
    pairs = [pair_of_answer(one, refusal) for one in known if one.answer is not None]
    unanswered = [one for one in known if one.answer is None]
    pairs += _pairs_of_prompts(unanswered, refusal, guards, rejected_by, left_out)
    if chosen_by is not None:
        pairs = _with_safe_answers(pairs, guards, chosen_by, left_out)
    newest: dict[tuple[str, str], tuple[Pair, dict[str, Any]]] = {}
    for pair in sorted(pairs, key=_rank):
        try:
            row = _row(pair, redactor)
        except BadValue as error:
            left_out[str(error)] += 1
            continue
        key = _plain(row["prompt"]), " ".join(pair.answer.casefold().split())
        left_out[SAME] += key in newest
        newest[key] = pair, row
    kept = sorted(newest.values(), key=lambda found: found[0].incident.time)
    return Exported([row for _, row in kept], Counter(pair.source for pair, _ in kept), +left_out)


def prompts(incidents: Sequence[Incident], redactor: Redactor) -> Exported:
    """Rows of the prompts schema, each prompt once, labelled by its last incident: harmful where guards stopped the
    request itself, benign where a reviewer then released it, and without a label where the answer was the matter."""
    left_out: Counter[str] = Counter()
    newest: dict[str, dict[str, Any]] = {}
    for one in incidents:
        if one.prompt is None:
            left_out[one.lacking or ""] += 1
            continue
        contents = redactor.redact([turn["content"] for turn in one.prompt], one.tenant)
        prompt = [turn | {"content": text} for turn, text in zip(one.prompt, contents, strict=True)]
        label = None if one.stage != "input" else "benign" if _released(one) else "harmful"
        left_out[SAME] += _plain(prompt) in newest
        newest[_plain(prompt)] = {"prompt": prompt, "label": label, **_provenance(one)}
    rows = list(newest.values())
    return Exported(rows, Counter(str(row["label"] or "unlabelled") for row in rows), +left_out)


def pair_of_answer(incident: Incident, refusal: str) -> Pair:
    """The pair of an exchange whose answer is known."""
    answer = incident.answer or ""
    if incident.correction is not None:
        correction = incident.correction
        more = {"by": correction.by, "correction_row": correction.row}
        return Pair(incident, correction.answer, answer, answer, "correction", more)
    word = incident.word
    if word is not None and word.outcome == "released":
        return Pair(incident, answer, refusal, answer, "release", {"by": word.by, "decision_row": word.row})
    more = {} if word is None else {"by": word.by, "decision_row": word.row}
    return Pair(incident, refusal, answer, answer, "refusal", more)


def _pairs_of_prompts(
    incidents: Sequence[Incident], refusal: str, guards: Pipeline | None, helper: Helper | None, left_out: Counter[str]
) -> list[Pair]:
    """Pairs of prompts that no model has answered, with answers that one writes now."""
    released = [one for one in incidents if _released(one) and one.correction is None]
    left_out[LET_PASS] += len(released)
    wanted = [one for one in incidents if one not in released]
    if helper is None or guards is None:
        left_out[NO_ANSWER] += len(wanted)
        return []
    pairs = []
    for one, text in zip(wanted, helper.answer([one.prompt or [] for one in wanted]), strict=True):
        verdict = _stopper(guards, one, text) if text.strip() else None
        if not text.strip():
            left_out[UNANSWERED] += 1
        elif verdict is None:
            left_out[NOTHING_AGAINST] += 1
        else:
            pair = pair_of_answer(one._replace(answer=text), refusal)
            more = {"answered_by": helper.name, "rejected_by": verdict.guard}
            pairs.append(pair._replace(more=pair.more | more))
    return pairs


def _with_safe_answers(
    pairs: Sequence[Pair], guards: Pipeline | None, helper: Helper, left_out: Counter[str]
) -> list[Pair]:
    """A trusted model's answers in the place of refusals, where the guards let them pass."""
    kept = [pair for pair in pairs if pair.source != "refusal"]
    refused = [pair for pair in pairs if pair.source == "refusal"]
    answers = helper.answer([pair.incident.prompt or [] for pair in refused])
    for pair, text in zip(refused, answers, strict=True):
        if not text.strip():
            left_out[UNANSWERED] += 1
        elif guards is not None and _stopper(guards, pair.incident, text) is not None:
            left_out[UNSAFE] += 1
        else:
            kept.append(
                pair._replace(chosen=text, source="trusted answer", more=pair.more | {"chosen_by": helper.name})
            )
    return kept


def _stopper(guards: Pipeline, incident: Incident, answer: str) -> Verdict | None:
    """The verdict that stops an answer; guards may read what it answers too."""
    messages = tuple(Message(turn["role"], turn["content"]) for turn in incident.prompt or ())
    exchange = Exchange(f"offline-{incident.id}", "offline", incident.model, messages, output=answer)
    return guards.check(exchange, "output").stopped_by


def _row(pair: Pair, redactor: Redactor) -> dict[str, Any]:
    """The pair as a row, redacted; raises BadValue where it is none, as where both answers are the same."""
    turns = pair.incident.prompt or []
    texts = [*(turn["content"] for turn in turns), pair.chosen, pair.rejected]
    *contents, chosen, rejected = redactor.redact(texts, pair.incident.tenant)
    prompt = [turn | {"content": text} for turn, text in zip(turns, contents, strict=True)]
    checked = preference({"prompt": prompt, "chosen": _message(chosen), "rejected": _message(rejected)})
    return checked | {"source": pair.source, **pair.more, **_provenance(pair.incident)}


def _message(text: str) -> list[dict[str, str]]:
    """An answer that can't be mistaken for a conversation, whatever it begins with."""
    return [{"role": "assistant", "content": text}]


def _provenance(incident: Incident) -> dict[str, Any]:
    return {
        "incident": incident.id,
        "audit_row": incident.row,
        "time": incident.time,
        "model": incident.model,
        "policy": incident.policy,
        "stage": incident.stage,
        "action": incident.action,
        "guard": incident.guard,
    }


def _released(incident: Incident) -> bool:
    return incident.word is not None and incident.word.outcome == "released"


def _rank(pair: Pair) -> tuple[bool, str]:
    """What a person said comes after, and so counts before, what guards did; the later word after the earlier."""
    one = pair.incident
    spoken = one.correction.time if one.correction else one.word.time if one.word else ""
    return bool(spoken), spoken or one.time


def _plain(prompt: Messages) -> str:
    """A prompt as it is compared: case and spacing don't count."""
    return "\n".join(f"{turn['role']}: {' '.join(turn['content'].casefold().split())}" for turn in prompt)
