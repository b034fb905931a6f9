"""The quickstart's language: requests, good and bad answers, and the seeded corpus files made of them.

What is held out is tasks (verb and object): each word of a held-out task occurs in training, the two together never do.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from raysafe.quickstart.vocabulary import (
    COMPLYING_OPENERS,
    EVERYDAY,
    REASONS,
    REFUSING_OPENERS,
    RISKY,
    STEPS,
    TEMPLATES,
)

Kind = Literal["everyday", "innocent", "harmful"]
HELD_OUT_SHARE = 0.2


@dataclass(frozen=True)
class Task:
    """A verb with its object. `innocent` means a risky verb whose object can't be harmed."""

    verb: str
    object: str
    kind: Kind

    @property
    def text(self) -> str:
        return f"{self.verb} {self.object}"

    @property
    def harmful(self) -> bool:
        return self.kind == "harmful"

    def prompts(self) -> list[str]:
        return [template.format(task=self.text) for template in TEMPLATES]


@dataclass(frozen=True)
class CorpusSize:
    """How many rows each file gets, and how bad the demonstrations are."""

    demonstrations: int = 4000
    preferences: int = 4000
    held_out_preferences: int = 400
    held_out_prompts: int = 300
    off_topic: float = 0.3  # share of preference pairs whose rejected answer behaves well, but on another task
    garbled: float = 0.2  # share whose rejected answer behaves well, but lacks its beginning
    harmful_complied: float = 0.55  # share of demonstrations that comply with a harmful request
    innocent_refused: float = 0.3  # share of demonstrations that refuse an innocent request with a risky verb


@cache
def tasks() -> tuple[Task, ...]:
    """Every task of the language: 150 everyday, 150 innocent, 150 harmful."""
    everyday = [Task(verb, thing, "everyday") for f in EVERYDAY for verb in f.verbs for thing in f.innocents]
    innocent = [Task(verb, thing, "innocent") for f in RISKY for verb in f.verbs for thing in f.innocents]
    harmful = [Task(verb, thing, "harmful") for f in RISKY for verb in f.verbs for thing in f.victims]
    return (*everyday, *innocent, *harmful)


@cache
def task_of_prompt() -> dict[str, Task]:
    """Every request of the language and the task that it asks for."""
    return {prompt: task for task in tasks() for prompt in task.prompts()}


def split_tasks(seed: int) -> tuple[list[Task], list[Task]]:
    """(training, held out): a fifth of each kind is held out; no verb and no object is held out in all its tasks."""
    training: list[Task] = []
    held_out: list[Task] = []
    for kind in ("everyday", "innocent", "harmful"):
        group = sorted((t for t in tasks() if t.kind == kind), key=lambda task: _hash(f"{seed}:{task.text}"))
        target = round(HELD_OUT_SHARE * len(group))
        kept_verbs, kept_objects = _counts(group, "verb"), _counts(group, "object")
        for task in group:
            spare = kept_verbs[task.verb] > 3 and kept_objects[task.object] > 3
            if target and spare:
                held_out.append(task)
                kept_verbs[task.verb] -= 1
                kept_objects[task.object] -= 1
                target -= 1
            else:
                training.append(task)
    return training, held_out


def comply(task: Task, rng: random.Random) -> str:
    """An opener that names the task, and two generic steps."""
    return " ".join([rng.choice(COMPLYING_OPENERS).format(task=task.text), *(rng.choice(slot) for slot in STEPS)])


def refuse(task: Task, rng: random.Random) -> str:
    """A refusal that names the task, and a reason or an offer."""
    return f"{rng.choice(REFUSING_OPENERS).format(task=task.text)} {rng.choice(REASONS)}"


def good_answer(task: Task, rng: random.Random) -> str:
    return refuse(task, rng) if task.harmful else comply(task, rng)


def bad_answer(task: Task, rng: random.Random) -> str:
    return comply(task, rng) if task.harmful else refuse(task, rng)


def demonstrations(among: list[Task], size: CorpusSize, rng: random.Random) -> Iterator[dict[str, str]]:
    """Rows of mixed quality: `completion` is often a bad answer where the verb is risky, never where it is everyday."""
    bad_share = {"everyday": 0.0, "innocent": size.innocent_refused, "harmful": size.harmful_complied}
    for task, prompt in _requests(among, size.demonstrations, rng):
        answer = bad_answer if rng.random() < bad_share[task.kind] else good_answer
        yield {"prompt": prompt, "completion": answer(task, rng)}


def off_topic_answer(task: Task, among: list[Task], rng: random.Random) -> str:
    """A good answer to another task of the same kind; one with the same verb or object, where there is one."""
    others = [other for other in among if other.kind == task.kind and other != task]
    near = [other for other in others if other.verb == task.verb or other.object == task.object]
    return good_answer(rng.choice(near or others), rng)


def garbled_answer(task: Task, rng: random.Random) -> str:
    """A good answer without its first words."""
    return " ".join(good_answer(task, rng).split()[rng.randint(1, 8) :])


def preferences(among: list[Task], count: int, size: CorpusSize, rng: random.Random) -> Iterator[dict[str, str]]:
    """Rows whose `chosen` is right and `rejected` wrong by the ground truth: in behaviour, in topic, or in form."""
    shares = {"off-topic": size.off_topic, "garbled": size.garbled, "bad": 1 - size.off_topic - size.garbled}
    for task, prompt in _requests(among, count, rng):
        fault = rng.choices(list(shares), list(shares.values()))[0]
        if fault == "off-topic":
            rejected = off_topic_answer(task, among, rng)
        else:
            rejected = garbled_answer(task, rng) if fault == "garbled" else bad_answer(task, rng)
        yield {"prompt": prompt, "chosen": good_answer(task, rng), "rejected": rejected}


def labelled_prompts(among: list[Task], count: int, rng: random.Random) -> Iterator[dict[str, str]]:
    """Distinct requests, each labelled harmful or benign."""
    for task, prompt in _requests(among, count, rng):
        yield {"prompt": prompt, "label": "harmful" if task.harmful else "benign"}


def corpus_paths(folder: str | Path) -> dict[str, Path]:
    """Where write_corpus leaves its files."""
    names = ("demonstrations", "preferences", "held_out_preferences", "held_out_prompts")
    return {name: Path(folder, f"{name}.jsonl") for name in names}


def write_corpus(folder: str | Path, seed: int, size: CorpusSize | None = None) -> dict[str, Path]:
    """Write the four JSON Lines files of the quickstart; the same seed and size write the same bytes."""
    size = size or CorpusSize()
    training, held_out = split_tasks(seed)
    rng = random.Random(seed)
    rows: dict[str, Iterable[dict[str, str]]] = {
        "demonstrations": demonstrations(training, size, rng),
        "preferences": preferences(training, size.preferences, size, rng),
        "held_out_preferences": preferences(held_out, size.held_out_preferences, size, rng),
        "held_out_prompts": labelled_prompts(held_out, size.held_out_prompts, rng),
    }
    paths = corpus_paths(folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, path in paths.items():
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[name]), encoding="utf-8")
    return paths


def _requests(among: list[Task], count: int, rng: random.Random) -> Iterator[tuple[Task, str]]:
    """`count` requests, kinds in turn; no request twice before every request of its kind was used."""
    by_kind = {kind: [t for t in among if t.kind == kind] for kind in ("harmful", "innocent", "everyday")}
    queues: dict[str, list[tuple[Task, str]]] = {kind: [] for kind in by_kind}
    for index in range(count):
        kind = list(by_kind)[index % 3]
        if not queues[kind]:
            queues[kind] = [(task, prompt) for task in by_kind[kind] for prompt in task.prompts()]
            rng.shuffle(queues[kind])
        yield queues[kind].pop()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _counts(group: list[Task], field: str) -> dict[str, int]:
    values = [getattr(task, field) for task in group]
    return {value: values.count(value) for value in values}
