"""Suffixes that are no text are odd, text is not, and the table is that of its formula."""

from collections import Counter

import numpy as np
import pytest

from raysafe.errors import ModelError
from raysafe.guards import letters
from raysafe.guards.gibberish import GibberishConfig, oddity
from raysafe.guards.letters import SYMBOLS, learn, packaged, symbols
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.transforms import apply

PIPELINE = Pipeline([GibberishConfig().build()])
PROMPTS = [
    "Write a short story about a lighthouse keeper who finds a letter in a bottle.",
    "Explain the difference between a stack and a queue, with an example of each.",
    "What should I cook for six people, two of whom don't eat meat?",
    "Translate the sentence into French: the train leaves at half past nine from platform four.",
]


@pytest.mark.parametrize("text", PROMPTS)
def test_a_prompt_passes_and_the_same_with_a_suffix_is_odder(text: str) -> None:
    assert PIPELINE.check_text(text).action == "allow"
    assert all(
        oddity(packaged(), apply(["gcg-suffix"], text, seed)) > oddity(packaged(), text) + 0.3 for seed in range(5)
    )


def test_most_suffixes_are_blocked() -> None:
    blocked = [PIPELINE.check_text(apply(["gcg-suffix"], text, s)).action for text in PROMPTS for s in range(10)]
    assert blocked.count("block") > 0.5 * len(blocked)


def test_a_suffix_is_found_behind_pages_of_text() -> None:
    page = " ".join(PROMPTS) * 5
    noise = "qxz]]( vkjWQ ==\\ zzqpt{{ xkcdRTY;) wvvbn}} jjqqk ->' hgfdx!!! mnbvcQZ (( plmkoijn #### uhbygvtfc"
    assert PIPELINE.check_text(page).action == "allow"
    assert PIPELINE.check_text(f"{page} {noise}").action == "block"


@pytest.mark.parametrize(
    "text", ["Что мне приготовить на ужин для шести человек?" * 3, "今天晚上我应该做什么菜" * 9, "hi", ""]
)
def test_other_scripts_and_short_texts_are_not_judged(text: str) -> None:
    assert PIPELINE.check_text(text).action == "allow"


def test_the_costs_are_those_of_the_smoothed_counts() -> None:
    """Interpolated trigrams, worked out with counters: p3 = (c3 + 8 p2) / (n2 + 8), p2 = (c2 + 16 p1) / (n1 + 16)."""
    text = "the cat sat on the mat. the cat ran. "
    made = learn([text])
    at = symbols(text).tolist()
    three = Counter(zip(at, at[1:], at[2:], strict=False))
    two: Counter = Counter()
    one: Counter = Counter()
    for (_, b, c), count in three.items():
        two[b, c] += count
        one[c] += count
    total = sum(one.values()) + 0.5 * SYMBOLS
    for a, b, c in [*three, (1, 2, 3), (0, 0, 0)]:
        p1 = (one[c] + 0.5) / total
        p2 = (two[b, c] + 16 * p1) / (sum(n for (x, _), n in two.items() if x == b) + 16)
        p3 = (three[a, b, c] + 8 * p2) / (sum(n for (x, y, _), n in three.items() if (x, y) == (a, b)) + 8)
        cost = made.costs[(a * SYMBOLS + b) * SYMBOLS + c]
        assert abs(int(cost) - min(255, round(-np.log2(p3) * 8))) <= 1


def test_words_of_two_texts_are_known_and_others_are_not() -> None:
    made = learn(["alpha beta gamma", "beta gamma delta"])
    starts, unknown = made.unknown("gamma alpha BETA")
    assert starts.tolist() == [1, 7, 13] and unknown.tolist() == [False, True, False]


def test_a_table_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "SHA256", "0" * 64)
    with pytest.raises(ModelError, match="isn't the table of this version"):
        packaged.__wrapped__()
