"""What an answer is like, in numbers: length, repetition, refusal. Each is computed in time linear in the text.

Words are runs of characters without white space, in lower case.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from raysafe.judges.refusals import refuses

MOST_WORDS = 20_000
"""Repetition is measured in the first so many words, so that the memory it takes is bounded (some 20 MB)."""
ORDER = 3


def text_features(text: str) -> dict[str, float]:
    """The features of an answer by name; those of repetition are left out where the text is too short to repeat.

    characters, words: lengths. refusals: 1 where the answer's beginning refuses, else 0.
    repetition: the share of runs of three words that occurred before, 1 - distinct-3 (Li et al. 2016).
    longest_repeat: words of the longest run that occurs twice, as a share of all words.
    compression: characters' bytes by those that zlib makes of them; prose has some 2, a loop 20 and more.
    """
    words = text.lower().split()
    first = words[:MOST_WORDS]
    found = {"characters": float(len(text)), "words": float(len(words)), "refusals": float(refuses(text))}
    if len(first) > ORDER:
        found["repetition"] = 1 - distinct(first, ORDER)
        found["longest_repeat"] = longest_repeat(first) / len(first)
        found["compression"] = compression(text)
    return found


def distinct(words: Sequence[str], order: int) -> float:
    """distinct-n: different runs of `order` words by all of them; raises ValueError where there is none."""
    runs = len(words) - order + 1
    if order < 1 or runs < 1:
        raise ValueError(f"distinct-{order} needs {max(order, 1)} words or more, got {len(words)}")
    return len(set(zip(*(words[skipped:] for skipped in range(order)), strict=False))) / runs


def longest_repeat(words: Sequence[str]) -> int:
    """Words of the longest run that occurs at two places, which may overlap.

    By the suffix automaton (Blumer et al. 1985): after each word, the suffix link of the state that stands for all
    words so far leads to the longest suffix that occurred before.
    """
    ways: list[dict[str, int]] = [{}]
    links, lengths = [-1], [0]
    last = longest = 0
    for word in words:
        state = len(lengths)
        ways.append({})
        links.append(0)
        lengths.append(lengths[last] + 1)
        at = last
        while at != -1 and word not in ways[at]:
            ways[at][word] = state
            at = links[at]
        if at != -1:
            links[state] = _split(ways, links, lengths, at, word)
        last, longest = state, max(longest, lengths[links[state]])
    return longest


def _split(ways: list[dict[str, int]], links: list[int], lengths: list[int], at: int, word: str) -> int:
    """The state of exactly the suffix that `at` and the word make; it is parted from a longer one where it must be."""
    there = ways[at][word]
    if lengths[there] == lengths[at] + 1:
        return there
    parted = len(lengths)
    ways.append(dict(ways[there]))
    links.append(links[there])
    lengths.append(lengths[at] + 1)
    links[there] = parted
    while at != -1 and ways[at].get(word) == there:
        ways[at][word] = parted
        at = links[at]
    return parted


def compression(text: str) -> float:
    """Bytes of the text in UTF-8 by those of it compressed (zlib, level 6); raises ValueError for an empty one."""
    if not text:
        raise ValueError("an empty text has no compression ratio")
    plain = text.encode("utf-8", "surrogatepass")
    return len(plain) / len(zlib.compress(plain, 6))
