"""What an answer is worth in online training: a weighted sum of sources, each named by a string.

`runs/rm` (a reward model or its whole ensemble), `module:function`, `check:exact` (against the prompt's label),
`judge:SPEC` (a model that judges by the constitution), `feedback:FILE` (scores that people gave to answers).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np

from raysafe.errors import ConfigError, DataError, ModelError, TrainingError
from raysafe.models.ensemble import RewardEnsemble
from raysafe.models.language import model_folder
from raysafe.models.presets import PREFIX
from raysafe.runtime.functions import is_function, load_function

Messages = list[dict[str, str]]
Combine = Literal["mean", "minimum", "penalised"]
Sees = Literal["conversation", "answer"]


@dataclass(frozen=True)
class Answers:
    """C answers to be scored."""

    prompts: list[Messages]
    texts: list[str]
    labels: list[str | None]
    """What the prompts' rows carry as label: the right answer, for checks."""

    def take(self, places: Sequence[int] | np.ndarray) -> Answers:
        return Answers(
            [self.prompts[i] for i in places], [self.texts[i] for i in places], [self.labels[i] for i in places]
        )


class RewardSource(Protocol):
    """One source of rewards."""

    def score(self, answers: Answers) -> np.ndarray:
        """A finite number for each answer, (C,)."""
        ...


@dataclass(frozen=True)
class EnsembleOptions:
    """How the members of an ensemble become one reward: mean, minimum, or mean - penalty * standard deviation."""

    combine: Combine = "mean"
    penalty: float = 1.0
    sees: Sees = "conversation"
    chat_template: str = "auto"
    batch_tokens: int = 8192


class RewardModels:
    """Trained reward models; `sees` says whether they read the answer with its prompt or as a bare text."""

    def __init__(self, model: str, options: EnsembleOptions, device: str) -> None:
        self.model, self.options = model, options
        self.ensemble = RewardEnsemble(
            ensemble_members(model),
            chat_template=options.chat_template,
            device=device,
            batch_tokens=options.batch_tokens,
        )
        check_members(model, options.combine)

    def to(self, device: str) -> None:
        """Move the models, to make room on a GPU or to score there."""
        self.ensemble.to(device)

    def score(self, answers: Answers) -> np.ndarray:
        prompts = answers.prompts if self.options.sees == "conversation" else [[] for _ in answers.texts]
        each_MC = self.ensemble.score(prompts, answers.texts).each_MN
        return combined(each_MC, self.options.combine, self.options.penalty)


def combined(each_MC: np.ndarray, combine: Combine, penalty: float) -> np.ndarray:
    """One reward per answer from M members' (Coste et al. 2024, sec. 4), (C,)."""
    if combine == "minimum":
        return each_MC.min(axis=0)
    mean_C = each_MC.mean(axis=0)
    return mean_C - penalty * each_MC.std(axis=0, ddof=1) if combine == "penalised" else mean_C


def check_members(model: str, combine: Combine) -> None:
    """Raise ConfigError where a way to combine members is asked of a single model."""
    if combine != "mean" and len(ensemble_members(model)) < 2:
        raise ConfigError(
            f"{model} is a single reward model, which has no {combine} over members: "
            "set ensemble to mean, or train it with --members 3"
        )


def ensemble_members(model: str) -> list[str]:
    """A reward model's folder and those of the ensemble's further members, in it as ensemble/1, ensemble/2, …"""
    folder = model_folder(model)
    further = sorted((folder / "ensemble").glob("*/config.json"), key=lambda path: int(path.parent.name))
    return [str(folder), *(str(path.parent) for path in further)]


class Function:
    """The user's function (prompt, answer, label) -> number."""

    def __init__(self, name: str) -> None:
        self.name, self.function = name, load_function(name, "rewards")

    def score(self, answers: Answers) -> np.ndarray:
        rows = zip(answers.prompts, answers.texts, answers.labels, strict=True)
        values = [self.function(*row) for row in rows]
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                raise TrainingError(f"reward {self.name} returned {value!r}; it must return a number")
        return np.array(values, dtype=np.float64)


_NUMBER = re.compile(r"(?:(?<![\w)])-)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\w)\.\d+)")
"""A dash after a word, a number or a bracket is no sign, and a comma belongs to a number between thousands only."""


def is_exact(text: str, label: str) -> bool:
    """Whether an answer is its label, white space at the ends aside."""
    return text.strip() == label.strip()


def contains(text: str, label: str) -> bool:
    """Whether an answer contains its label, whatever the case."""
    return label.strip().casefold() in text.casefold()


def is_number(text: str, label: str) -> bool:
    """Whether the last number in an answer equals its label."""
    found = _NUMBER.findall(text)
    wanted = _NUMBER.fullmatch(label.strip())
    if wanted is None:
        raise DataError(f"check:number needs a number as the prompt's label, got {label!r}")
    return bool(found) and float(found[-1].replace(",", "")) == float(wanted[0].replace(",", ""))


def matches(text: str, label: str) -> bool:
    """Whether the whole answer matches its label, a regular expression."""
    try:
        return re.fullmatch(label, text.strip()) is not None
    except re.error as error:
        raise DataError(f"check:regex needs a regular expression as the label, got {label!r}: {error}") from None


CHECKS: dict[str, Callable[[str, str], bool]] = {
    "exact": is_exact,
    "contains": contains,
    "number": is_number,
    "regex": matches,
}


class Check:
    """1 where an answer passes a verifiable check against its prompt's label, else 0."""

    def __init__(self, name: str) -> None:
        self.name, self.check = name, CHECKS[name]

    def score(self, answers: Answers) -> np.ndarray:
        passed = []
        for text, label in zip(answers.texts, answers.labels, strict=True):
            if label is None:
                raise DataError(f"check:{self.name} needs a label in every row of the prompts: add the field 'label'")
            passed.append(float(self.check(text, label)))
        return np.array(passed)


class Feedback:
    """Scores that people gave to whole answers, as `raysafe feedback export` writes them; 0 where nobody scored."""

    def __init__(self, file: str) -> None:
        try:
            lines = Path(file).read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise ConfigError(f"rewards: can't read {file}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
        self.scores: dict[str, float] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                score = float(row["score"])
                if not math.isfinite(score):
                    raise ValueError(f"score {score} is not finite")
                self.scores[_place(row["prompt"], row["completion"])] = score
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"{file}:{number}: a row needs prompt, completion and score ({type(error).__name__}: {error})"
                ) from None

    def score(self, answers: Answers) -> np.ndarray:
        rows = zip(answers.prompts, answers.texts, strict=True)
        return np.array([self.scores.get(_place(prompt, text), 0.0) for prompt, text in rows])


def _place(prompt: Any, completion: str) -> str:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return json.dumps([[[turn["role"], turn["content"].strip()] for turn in turns], completion.strip()])


def check_source(name: str, field: str = "rewards") -> None:
    """Raise ConfigError for a name that can't be a source, before anything starts."""
    kind, _, rest = name.partition(":")
    if kind == "check" and rest not in CHECKS:
        raise ConfigError(f"{field}: there is no check '{rest}'; choose one of {', '.join(CHECKS)}")
    if kind == "feedback" and not Path(rest).is_file():
        raise ConfigError(f"{field}: there is no file {rest}: export one with `raysafe feedback export`")
    if kind == "judge":
        from raysafe.judges.spec import read_spec

        read_spec(rest)
    elif is_model(name):
        check_reward_model(name)
    elif kind not in ("check", "feedback"):
        load_function(name, field)


def is_model(name: str) -> bool:
    """Whether a source is a trained reward model."""
    kind = name.partition(":")[0]
    return kind not in ("check", "feedback", "judge") and (not is_function(name) or name.startswith(PREFIX))


def check_reward_model(model: str) -> None:
    """Raise ModelError where a folder holds no reward model with one score."""
    from raysafe.models.heads import is_reward_config
    from raysafe.models.language import check_vocabulary, load_config, load_tokenizer

    for folder in ensemble_members(model):
        config = cast(Any, load_config(folder))
        if not is_reward_config(config):
            raise ModelError(
                f"{folder} is no reward model but a {(config.architectures or ['model'])[0]}: train one first"
            )
        if config.num_labels != 1:
            raise ModelError(f"{folder} has a head of {config.num_labels} scores; a reward model has one")
        check_vocabulary(config, load_tokenizer(folder))


def make_source(name: str, options: EnsembleOptions, device: str) -> RewardSource:
    """The source that a name stands for."""
    kind, _, rest = name.partition(":")
    if kind == "check":
        return Check(rest)
    if kind == "feedback":
        return Feedback(rest)
    if kind == "judge":
        return _Judged(rest, device)
    return RewardModels(name, options, device) if is_model(name) else Function(name)


class _Judged:
    """A judge's mean score by the constitution, from 0 to 1."""

    def __init__(self, spec: str, device: str) -> None:
        from raysafe.judges.reward import JudgeReward
        from raysafe.judges.spec import read_spec

        self.reward = JudgeReward(read_spec(spec).build(device=device))

    def score(self, answers: Answers) -> np.ndarray:
        return self.reward(answers.prompts, answers.texts)


class Rewards:
    """All sources together, in one process."""

    def __init__(
        self, sources: Mapping[str, float], gold: str | None, options: EnsembleOptions, device: str = "cpu"
    ) -> None:
        """sources: names and weights. gold: a source that is only watched."""
        self.weights, self.device = dict(sources), device
        self.sources = {name: make_source(name, options, device) for name in sources}
        # what is only watched is no part of the pessimism that training needs
        self.gold = None if gold is None else make_source(gold, replace(options, combine="mean"), device)

    def offload(self) -> None:
        """Make room on the GPU."""
        self._move("cpu")

    def onload(self) -> None:
        self._move(self.device)

    def _move(self, device: str) -> None:
        for source in (*self.sources.values(), self.gold):
            if isinstance(source, RewardModels):
                source.to(device)

    def score(self, answers: Answers) -> dict[str, np.ndarray]:
        """`reward`, `gold` where there is one, and each source by its name where there are several, (C,) each."""
        parts = {name: finite(source.score(answers), name, answers) for name, source in self.sources.items()}
        reward_C = np.sum([self.weights[name] * part_C for name, part_C in parts.items()], axis=0)
        scores = {"reward": reward_C}
        if len(parts) > 1:
            short = short_names(list(parts))
            scores |= {f"reward/{short[name]}": part_C for name, part_C in parts.items()}
        if self.gold is not None:
            scores["gold"] = finite(self.gold.score(answers), "gold", answers)
        return scores


def short_names(sources: Sequence[str]) -> dict[str, str]:
    """What the figures of sources are called: the last parts of their names, as many as tell them apart."""
    parts = {source: source.rstrip("/").split("/") for source in sources}
    for count in range(1, max(map(len, parts.values())) + 1):
        short = {source: "/".join(several[-count:]) for source, several in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {source: source for source in sources}


def finite(values_C: np.ndarray, name: str, answers: Answers) -> np.ndarray:
    """The values; raises TrainingError, naming the first answer, where one is not a finite number."""
    values_C = np.asarray(values_C, dtype=np.float64)
    if values_C.shape != (len(answers.texts),):
        raise TrainingError(f"reward {name} gave {values_C.shape} values for {len(answers.texts)} answers")
    bad = np.flatnonzero(~np.isfinite(values_C))
    if len(bad):
        raise TrainingError(
            f"reward {name} is {values_C[bad[0]]} for {len(bad)} of {len(values_C)} answers, first for "
            f"{answers.texts[bad[0]][:80]!r}: mend the reward, then resume"
        )
    return values_C


def weighted(names: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """Sources with their weights, 1 each where none are given; raises ValueError where they don't go together."""
    if weights and len(weights) != len(names):
        raise ValueError(f"reward_weights has {len(weights)} weights for {len(names)} rewards: give one each")
    if len(set(names)) < len(names):
        raise ValueError("rewards names a source twice: add up its weights")
    return dict(zip(names, weights or [1.0] * len(names), strict=True))
