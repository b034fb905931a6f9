"""Matching phrases in one pass: a lazily built DFA (as in RE2) over folded text, the same for whole and streamed text.

Each symbol costs one dictionary look-up, or, the first time that a state meets it, a step over at most all positions
of the automaton; near a phrase that was found, one more such step, which tells where it began. That is linear in the
text whatever it holds. States are dropped when there are too many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

from raysafe.guards.phrases import Turn, compile_rules
from raysafe.guards.pieces import Piece
from raysafe.guards.unicode import END_OF_TEXT, IGNORED, SEPARATORS, SPACE, FoldTable

_OTHER_LETTER = "\x02"
_MAX_STATES = 4096
_MAX_STRIDES = 60_000
_LONGEST_WORD = 24
_Stride = tuple["_State", int, int]
"""Where a word leads: the state after it, its last symbol with no phrase under way (-1: none), and the symbol
that a phrase ends with (-1: none; the state is then that one's)."""


class _State(dict[str, "_State"]):
    """A set of live positions; its items are the transitions met so far, its `words` those over whole words
    with the space after them, and its `ends` those over what a chunk ends with."""

    __slots__ = ("after_separator", "ends", "matcher", "positions", "quiet", "rule", "words")

    def __init__(self, matcher: Matcher, positions: frozenset[int], after_separator: bool) -> None:
        super().__init__()
        self.matcher, self.positions, self.after_separator = matcher, positions, after_separator
        self.rule = min((matcher.automaton.rule[p] for p in positions if p in matcher.automaton.rule), default=None)
        self.quiet = not positions
        self.words, self.ends = _Strides(self, SPACE), _Strides(self, "")

    def stride(self, symbols: str) -> _Stride:
        """Where these symbols lead."""
        state, quiet_to, rule_at = self, -1, -1
        for index, symbol in enumerate(symbols):
            state = state[symbol]
            if state.quiet:
                quiet_to = index
            elif state.rule is not None:
                rule_at = index
                break
        return state, quiet_to, rule_at

    def __missing__(self, symbol: str) -> _State:
        target = self if symbol == IGNORED else self.matcher.step(self, symbol)
        self[symbol] = target
        return target


class _Strides(dict[str, _Stride]):
    """Where words lead from a state, `end` after each; filled as they turn up."""

    __slots__ = ("_end", "_state")

    def __init__(self, state: _State, end: str) -> None:
        super().__init__()
        self._state, self._end = state, end

    def __missing__(self, word: str) -> _Stride:
        found = self._state.stride(word + self._end)
        if len(word) <= _LONGEST_WORD:
            self._state.matcher.remember(self, word, found)
        return found


class Matcher:
    """Compiled phrases. `work` counts the positions ever stepped over, which is what linearity is measured by."""

    def __init__(self, rules: Sequence[Sequence[str]], turned: frozenset[Turn] = frozenset()) -> None:
        """`rules[i]` holds the phrases of rule i, looked for `turned` too; raises PhraseError."""
        self.automaton = compile_rules(tuple(tuple(phrases) for phrases in rules), turned)
        self.max_letters = self.automaton.max_letters
        self.table = FoldTable(frozenset(self.automaton.alphabet), _OTHER_LETTER)
        self.work = 0
        self._states: dict[tuple[frozenset[int], bool], _State] = {}
        self._strides = 0
        self._beginnings: dict[tuple[str, bool], tuple[int, ...]] = {}

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Matcher is built where it is used; send the policy instead")

    def state(self, positions: frozenset[int], after_separator: bool) -> _State:
        key = (positions, after_separator)
        found = self._states.get(key)
        if found is None:
            if len(self._states) >= _MAX_STATES:
                self.forget()
            found = self._states[key] = _State(self, positions, after_separator)
        return found

    def remember(self, strides: _Strides, word: str, stride: _Stride) -> None:
        """Keep where a word leads; all such are dropped where there are too many."""
        if self._strides >= _MAX_STRIDES:
            self.forget()
        self._strides += 1
        strides[word] = stride

    def forget(self) -> None:
        """Drop all states and what they know."""
        for state in self._states.values():
            state.words.clear()
            state.ends.clear()
        self._states.clear()
        self._strides = 0

    def root(self, after_separator: bool = True) -> _State:
        return self.state(frozenset(), after_separator)

    def step(self, state: _State, symbol: str) -> _State:
        """The state after `symbol`: live positions move on, and phrases begin where a word begins."""
        automaton, live = self.automaton, set(self._begin(symbol, state.after_separator))
        for position in state.positions:
            following = automaton.follow[position]
            self.work += len(following)
            live.update(p for p in following if symbol in automaton.accepts[p])
        return self.state(frozenset(live), symbol in SEPARATORS)

    def trace(self, live: dict[int, int], symbol: str, at: int, after_separator: bool) -> dict[int, int]:
        """`step` for live positions that each know where their phrase began at the earliest; `symbol` is at `at`."""
        automaton, moved = self.automaton, dict[int, int]()
        for position, start in live.items():
            following = automaton.follow[position]
            self.work += len(following)
            for p in following:
                if symbol in automaton.accepts[p] and start < moved.get(p, at + 1):
                    moved[p] = start
        for p in self._begin(symbol, after_separator):
            moved.setdefault(p, at)
        return moved

    def first(self, text: str) -> int | None:
        """The rule of the phrase in a whole text that ends first."""
        watch = Watch(self)
        rule = watch.feed(text)
        return watch.finish() if rule is None else rule

    def _begin(self, symbol: str, after_separator: bool) -> tuple[int, ...]:
        """Positions that a phrase beginning with `symbol` is at."""
        found = self._beginnings.get((symbol, after_separator))
        if found is None:
            automaton = self.automaton
            begin = automaton.starts_anywhere | automaton.starts if after_separator else automaton.starts_anywhere
            found = tuple(p for p in begin if symbol in automaton.accepts[p])
            self._beginnings[symbol, after_separator] = found
        self.work += len(found)
        return found


class _Passage:
    """One text on its way through a matcher, in chunks.

    After each chunk, no phrase that is still possible begins before character `safe`: everything before it is cleared.
    `safe` lags behind by the symbols that a phrase may have begun with, at most `matcher.max_letters` letters. Offsets
    are those of the text itself, or of another text that it was decoded from: `feed` is told from where
    in it each character is.
    """

    def __init__(self, matcher: Matcher) -> None:
        self.safe = 0
        self.fed = 0
        self._matcher = matcher
        self._state = matcher.root()
        self._begun: int | None = None
        self._letters: deque[int] = deque(maxlen=matcher.max_letters)

    def fork(self) -> Self:
        """A passage that goes on from here apart from this one."""
        twin = copy(self)
        twin._letters = self._letters.copy()
        return twin

    def as_at_rest(self, other: _Passage) -> bool:
        """Whether no phrase is under way, here or in `other`, and whatever comes will be read the same by both."""
        return self._begun is None and other._begun is None and self._state is other._state

    def _offsets(self, text: str, symbols: str, of_characters: Sequence[int]) -> Sequence[int]:
        """What each symbol's character has in `of_characters`."""
        if len(text) == len(symbols):
            return of_characters
        table = self._matcher.table
        return [at for at, character in zip(of_characters, text, strict=True) for _ in table[ord(character)]]

    def _passed(self, state: _State, symbols: str, offsets: Sequence[int], quiet_to: int, fed: int) -> None:
        """A chunk is behind; no phrase was under way after its symbol `quiet_to`, which is -1 where there was none."""
        self._state = state
        self.fed = fed
        if quiet_to >= 0:
            self._begun = None
            self._letters.clear()
        if self._begun is None and quiet_to + 1 < len(symbols):
            self._begun = offsets[quiet_to + 1]
        for index in range(quiet_to + 1, len(symbols)):
            if symbols[index] not in SEPARATORS and symbols[index] != IGNORED:
                self._letters.append(offsets[index])
        if state.quiet or self._begun is None:
            self.safe = self.fed
        else:
            full = len(self._letters) == self._letters.maxlen
            self.safe = max(self.safe, self._letters[0] if full else self._begun)


class Watch(_Passage):
    """Looks for the first phrase only; `stopped` is the character of the chunk that it ended with."""

    stopped = 0

    def feed(self, text: str, origin: Piece | None = None) -> int | None:
        """The rule of the first phrase, where it ends in this chunk; after that, nothing more may be fed."""
        symbols = text.translate(self._matcher.table)
        state, quiet_to, at = self._state, -1, 0
        words = symbols.split(SPACE)
        end = words.pop()
        for word in words:
            state, quiet, rule_at = state.words[word]
            if rule_at >= 0:
                return self._stop(text, symbols, at + rule_at, state)
            if quiet >= 0:
                quiet_to = at + quiet
            at += len(word) + 1
        if end:
            state, quiet, rule_at = state.ends[end]
            if rule_at >= 0:
                return self._stop(text, symbols, at + rule_at, state)
            if quiet >= 0:
                quiet_to = at + quiet
        fed = self.fed + len(text) if origin is None else origin.after
        offsets = self._offsets(text, symbols, range(self.fed, fed) if origin is None else origin.starts)
        self._passed(state, symbols, offsets, quiet_to, fed)
        return None

    def _stop(self, text: str, symbols: str, at: int, state: _State) -> int | None:
        """The rule of the phrase that ends with the symbol `at`."""
        self.stopped = self._offsets(text, symbols, range(len(text)))[at]
        return state.rule

    def finish(self) -> int | None:
        """The text has ended: the rule of the phrase that its end completes, if any; then all of it is cleared."""
        self.safe = self.fed
        return self._state[END_OF_TEXT].rule


@dataclass(frozen=True, slots=True)
class Hit:
    """A phrase of rule `rule` at text[start:end]."""

    start: int
    end: int
    rule: int


class Scan(_Passage):
    """Finds every phrase, and where it is. Where several end together, it gives the one that began first."""

    def __init__(self, matcher: Matcher) -> None:
        super().__init__(matcher)
        self._held: deque[tuple[str, int, int]] = deque()
        """Symbols, where their characters begin and end, since no phrase was under way, as far as not traced yet."""
        self._starts: dict[int, int] = {}
        self._after_separator = True
        self._traced_to = ((-1, -1), (-1, -1))

    def fork(self) -> Self:
        twin = super().fork()
        twin._held = self._held.copy()
        return twin

    def feed(self, text: str, origin: Piece | None = None) -> list[Hit]:
        """Phrases that end in this chunk, in the order of their ends; they may overlap."""
        symbols = text.translate(self._matcher.table)
        origin = origin or Piece.plain(text, self.fed)
        offsets = self._offsets(text, symbols, origin.starts)
        stops = self._offsets(text, symbols, origin.ends)
        hits: list[Hit] = []
        state, held_to, quiet_to, quiet = self._state, 0, -1, None
        for index, symbol in enumerate(symbols):
            state = state[symbol]
            if state.quiet:
                quiet_to, quiet = index, state
            elif state.rule is not None and symbol != IGNORED:
                self._hold(symbols, offsets, stops, max(held_to, quiet_to + 1), index + 1, quiet)
                held_to, quiet = index + 1, None
                hits.append(self._hit(state.rule))
        self._hold(symbols, offsets, stops, max(held_to, quiet_to + 1), len(symbols), quiet)
        self._passed(state, symbols, offsets, quiet_to, origin.after)
        while self._held and self._held[0][1] < self.safe:
            # every phrase that was traced began before it, and can't come to its end any more
            self._starts = {}
            symbol, _, _ = self._held.popleft()
            if symbol != IGNORED:
                self._after_separator = symbol in SEPARATORS
        return hits

    def finish(self) -> list[Hit]:
        """The text has ended: the phrase that its end completes, if any; then all of it is cleared."""
        self.safe = self.fed
        rule = self._state[END_OF_TEXT].rule
        if rule is None:
            return []
        self._held.append((END_OF_TEXT, self.fed, self.fed + 1))
        return [self._hit(rule)]

    def _hold(
        self, symbols: str, offsets: Sequence[int], stops: Sequence[int], start: int, stop: int, quiet: _State | None
    ) -> None:
        """Remember symbols[start:stop], and nothing before them where there was a quiet state just then."""
        if quiet is not None:
            self._held.clear()
            self._starts = {}
            self._after_separator = quiet.after_separator
        self._held.extend((symbols[index], offsets[index], stops[index]) for index in range(start, stop))

    def _hit(self, rule: int) -> Hit:
        """The match that the last held symbol completes; a word boundary at its end is no part of it."""
        symbol, before, last = "", *self._traced_to
        for symbol, offset, stop in self._held:
            if symbol != IGNORED:
                self._starts = self._matcher.trace(self._starts, symbol, offset, self._after_separator)
                self._after_separator = symbol in SEPARATORS
                before, last = last, (offset, stop)
        self._held.clear()
        self._traced_to = before, last
        start = min(start for position, start in self._starts.items() if position in self._matcher.automaton.rule)
        # one character may fold to the last letter and the boundary after it
        apart = symbol in SEPARATORS and last != before
        return Hit(start, max(before[1], last[0]) if apart else last[1], rule)
