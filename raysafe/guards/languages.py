"""Which languages a text may be in, told by scripts and, where languages share one, by their commonest words.

- kind: language
  allow: [en, de]

A text of too few words to tell passes, unless its script is that of no allowed language.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from raysafe.guards.scored import ScoredConfig, ScoredGuard
from raysafe.guards.settings import NOTHING, Resources
from raysafe.guards.stop_words import STOP_WORDS

# Unicode blocks of letters, as ranges of a character class
_SCRIPTS = {
    "latin": "a-zA-Z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff",
    "cyrillic": "\u0400-\u052f",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "arabic": "\u0620-\u06ef\u06fa-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "hebrew": "\u05d0-\u05ff",
    "devanagari": "\u0900-\u097f",
    "bengali": "\u0980-\u09ff",
    "tamil": "\u0b80-\u0bff",
    "thai": "\u0e00-\u0e7f",
    "georgian": "\u10a0-\u10ff",
    "armenian": "\u0530-\u058f",
    "kana": "\u3040-\u30ff",
    "han": "\u3400-\u4dbf\u4e00-\u9fff",
    "hangul": "\u1100-\u11ff\uac00-\ud7af",
}
_LETTERS = {script: re.compile(f"[{ranges}]+") for script, ranges in _SCRIPTS.items()}
_USES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(STOP_WORDS, ("latin",)),
    **dict.fromkeys(("ru", "uk", "bg"), ("cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("arabic",)),
    **{"el": ("greek",), "he": ("hebrew",), "hi": ("devanagari",), "bn": ("bengali",), "ta": ("tamil",)},
    **{
        "th": ("thai",),
        "ka": ("georgian",),
        "hy": ("armenian",),
        "ja": ("kana", "han"),
        "zh": ("han",),
        "ko": ("hangul",),
    },
}
LANGUAGES = tuple(sorted(_USES))
_NO_LETTER = str.maketrans(dict.fromkeys((c for c in map(chr, range(128)) if not c.isalpha() and c != "'"), " "))
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019\u200c][^\W\d_]+)*")
_LANGUAGES_OF = {
    word: tuple(language for language, words in STOP_WORDS.items() if word in words)
    for words in STOP_WORDS.values()
    for word in words
}
_WEIGHTS = {word: tuple((each, 1 / len(languages)) for each in languages) for word, languages in _LANGUAGES_OF.items()}
LEAST_LETTERS = 8
LEAST_EVIDENCE = 1.5


def scripts(text: str) -> Counter[str]:
    """Letters of each script in a text."""
    if text.isascii():
        return Counter(latin=len("".join(text.translate(_NO_LETTER).split())))
    return Counter({script: sum(map(len, letters.findall(text))) for script, letters in _LETTERS.items()})


def evidence(text: str) -> dict[str, float]:
    """For languages that share a script, the common words of theirs in a text: one that n languages have counts 1/n."""
    counts: dict[str, float] = {}
    # for plain ASCII, splitting takes a third of the time that the pattern does
    words = Counter(text.lower().translate(_NO_LETTER).split() if text.isascii() else _WORD.findall(text.lower()))
    for word in words.keys() & _WEIGHTS.keys():
        times = words[word]
        for language, weight in _WEIGHTS[word]:
            counts[language] = counts.get(language, 0.0) + times * weight
    return counts


def identify(text: str) -> str | None:
    """The language of a text, as its code in ISO 639-1, or None where there is too little to tell."""
    letters = scripts(text)
    script, count = letters.most_common(1)[0]
    if count < LEAST_LETTERS and script not in ("han", "kana", "hangul"):
        return None
    if letters["kana"] > 0.1 * (letters["kana"] + letters["han"]):
        return "ja" if letters["kana"] + letters["han"] >= 0.5 * count else None
    known = [language for language in LANGUAGES if _USES[language][-1] == script or _USES[language] == (script,)]
    if script == "han":
        return "zh" if count >= 2 else None
    if len(known) == 1:
        return known[0]
    found = {language: value for language, value in evidence(text).items() if language in known}
    best = max(found, key=found.__getitem__, default=None)
    return best if best is not None and found[best] >= LEAST_EVIDENCE else None


class LanguageConfig(ScoredConfig):
    """`kind: language` of a policy."""

    kind: Literal["language"] = "language"
    name: str = Field(default="language", min_length=1)
    stages: tuple[Literal["input", "output"], ...] = Field(default=("input", "output"), min_length=1)
    stream_step: int = Field(
        default=800, ge=16, le=65536, description="Characters of a streamed answer that are judged and leave together."
    )
    roles: tuple[str, ...] | None = Field(
        default=("user",), min_length=1, description="Roles of the messages of a request that are judged."
    )
    allow: tuple[str, ...] = Field(
        min_length=1, description=f"Codes of the languages that are allowed, of: {', '.join(LANGUAGES)}."
    )
    threshold: float = Field(
        default=0.6,
        gt=0,
        le=1,
        description="Share of a text's letters in other scripts, or of the evidence of common words that speaks for "
        "another language, from which the guard acts.",
    )

    @field_validator("allow")
    @classmethod
    def _are_known(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [language for language in allow if language not in _USES]:
            raise ValueError(f"language '{unknown[0]}' is not known; known: {', '.join(LANGUAGES)}")
        return allow

    def build(self, resources: Resources = NOTHING) -> LanguageGuard:
        return LanguageGuard(self)


class LanguageGuard(ScoredGuard):
    """Judges passages of an answer at fixed places, so that chunks change nothing."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__(config, config.threshold, "reads as another language than those allowed")
        self._allow = frozenset(config.allow)
        self._scripts = {script for language in config.allow for script in _USES[language]}

    def score(self, text: str) -> float:
        letters = scripts(text)
        total = letters.total()
        if total == 0:
            return 0.0
        foreign = total - sum(letters[script] for script in self._scripts)
        by_script = foreign / total if foreign >= LEAST_LETTERS or foreign == total else 0.0
        return max(by_script, self._by_words(evidence(text), letters))

    def _by_words(self, counts: Mapping[str, float], letters: Counter[str]) -> float:
        """The share of the evidence of the likeliest language that isn't allowed, beside the likeliest allowed one."""
        other = max((value for language, value in counts.items() if language not in self._allow), default=0.0)
        ours = max((value for language, value in counts.items() if language in self._allow), default=0.0)
        return other / (other + ours) if other >= LEAST_EVIDENCE else 0.0
