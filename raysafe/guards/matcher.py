"""Matching phrases in one pass: a lazily built DFA (as in RE2) over folded text, the same for whole and streamed text.

Each symbol costs one dictionary look-up, or, the first time that a state meets it, a step over at most all positions
of the automaton: linear in the text whatever it holds. States are dropped when there are too many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from raysafe.guards.phrases import compile_rules
from raysafe.guards.unicode import END_OF_TEXT, IGNORED, SEPARATORS, FoldTable

_OTHER_LETTER = "\x02"
_MAX_STATES = 4096


@dataclass(frozen=True, slots=True)
class Hit:
    """A phrase of rule `rule` at text[start:end]."""

    start: int
    end: int
    rule: int


class _State(dict[str, "_State"]):
    """A set of live positions; its items are the transitions met so far."""

    __slots__ = ("after_separator", "matcher", "positions", "quiet", "rule")

    def __init__(self, matcher: Matcher, positions: frozenset[int], after_separator: bool) -> None:
        super().__init__()
        self.matcher, self.positions, self.after_separator = matcher, positions, after_separator
        self.rule = min((matcher.automaton.rule[p] for p in positions if p in matcher.automaton.rule), default=None)
        self.quiet = not positions

    def __missing__(self, symbol: str) -> _State:
        target = self if symbol == IGNORED else self.matcher.step(self, symbol)
        self[symbol] = target
        return target


class Matcher:
    """Compiled phrases. `work` counts the positions ever stepped over, which is what linearity is measured by."""

    def __init__(self, rules: Sequence[Sequence[str]]) -> None:
        """`rules[i]` holds the phrases of rule i; raises PhraseError where one isn't in the language."""
        self.automaton = compile_rules(tuple(tuple(phrases) for phrases in rules))
        self.max_letters = self.automaton.max_letters
        self.table = FoldTable(frozenset(self.automaton.alphabet), _OTHER_LETTER)
        self.work = 0
        self._states: dict[tuple[frozenset[int], bool], _State] = {}

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Matcher is built where it is used; send the policy instead")

    def state(self, positions: frozenset[int], after_separator: bool) -> _State:
        key = (positions, after_separator)
        found = self._states.get(key)
        if found is None:
            if len(self._states) >= _MAX_STATES:
                self._states.clear()
            found = self._states[key] = _State(self, positions, after_separator)
        return found

    def root(self, after_separator: bool = True) -> _State:
        return self.state(frozenset(), after_separator)

    def step(self, state: _State, symbol: str) -> _State:
        """The state after `symbol`: live positions move on, and phrases begin where a word begins."""
        automaton = self.automaton
        live = self._move(state.positions, symbol)
        begin = automaton.starts_anywhere | automaton.starts if state.after_separator else automaton.starts_anywhere
        self.work += len(begin)
        live.update(p for p in begin if symbol in automaton.accepts[p])
        return self.state(frozenset(live), symbol in SEPARATORS)

    def _move(self, positions: frozenset[int], symbol: str) -> set[int]:
        automaton, live = self.automaton, set()
        for position in positions:
            following = automaton.follow[position]
            self.work += len(following)
            live.update(p for p in following if symbol in automaton.accepts[p])
        return live

    def begins(self, held: Sequence[tuple[str, int]], after_separator: bool) -> int:
        """Index in `held` (symbols, offsets) of the earliest beginning of a phrase that ends with its last symbol."""
        automaton = self.automaton
        for index, (first, _) in enumerate(held):
            if first == IGNORED:
                continue
            begin = automaton.starts_anywhere | automaton.starts if after_separator else automaton.starts_anywhere
            live = {p for p in begin if first in automaton.accepts[p]}
            for symbol, _ in held[index + 1 :]:
                if not live:
                    break
                live = live if symbol == IGNORED else self._move(frozenset(live), symbol)
            if any(p in automaton.rule for p in live):
                return index
            after_separator = first in SEPARATORS
        return 0


class Scan:
    """One text on its way through a matcher, in chunks.

    After each `feed`, no phrase that is still possible begins before character `safe`: everything before it is cleared.
    `safe` lags behind by the symbols that a phrase may have begun with, at most `matcher.max_letters` letters.
    """

    def __init__(self, matcher: Matcher) -> None:
        self.safe = 0
        self.fed = 0
        self._matcher = matcher
        self._state = matcher.root()
        self._held: deque[tuple[str, int]] = deque()
        self._held_after_separator = True
        self._letters: deque[int] = deque(maxlen=matcher.max_letters)

    def feed(self, text: str) -> list[Hit]:
        """Phrases that end in this chunk, in order; they don't overlap."""
        symbols = text.translate(self._matcher.table)
        offsets = self._offsets(text, symbols)
        hits: list[Hit] = []
        state, quiet_to, quiet_state = self._state, -1, None
        for index, symbol in enumerate(symbols):
            state = state[symbol]
            if state.quiet:
                quiet_to, quiet_state = index, state
            elif state.rule is not None:
                self._hold(symbols, offsets, quiet_to + 1, index + 1, quiet_state)
                hits.append(self._hit(state.rule))
                state = quiet_state = self._matcher.root(symbol in SEPARATORS)
                quiet_to = index
        self._state = state
        self.fed += len(text)
        self._hold(symbols, offsets, quiet_to + 1, len(symbols), quiet_state)
        self.safe = self.fed if state.quiet else self._earliest()
        while self._held and self._held[0][1] < self.safe:
            symbol, _ = self._held.popleft()
            if symbol != IGNORED:
                self._held_after_separator = symbol in SEPARATORS
        return hits

    def finish(self) -> list[Hit]:
        """The text has ended: the phrase that its end completes, if any; then all of it is cleared."""
        state = self._state[END_OF_TEXT]
        hits = []
        if state.rule is not None:
            self._held.append((END_OF_TEXT, self.fed))
            hits = [self._hit(state.rule)]
        self._state, self.safe = self._matcher.root(), self.fed
        self._held.clear()
        self._letters.clear()
        return hits

    def _offsets(self, text: str, symbols: str) -> Sequence[int]:
        """Where in the whole text each symbol comes from."""
        if len(text) == len(symbols):
            return range(self.fed, self.fed + len(text))
        table = self._matcher.table
        return [self.fed + at for at, character in enumerate(text) for _ in table[ord(character)]]

    def _hold(self, symbols: str, offsets: Sequence[int], start: int, stop: int, quiet: _State | None) -> None:
        """Remember symbols[start:stop]; what is held starts anew where there was a quiet state just before them."""
        if quiet is not None:
            self._held.clear()
            self._letters.clear()
            self._held_after_separator = quiet.after_separator
        for index in range(start, stop):
            symbol = symbols[index]
            self._held.append((symbol, offsets[index]))
            if symbol not in SEPARATORS and symbol != IGNORED:
                self._letters.append(offsets[index])

    def _earliest(self) -> int:
        if len(self._letters) == self._letters.maxlen:
            return max(self._letters[0], self.safe)
        return max(self._held[0][1], self.safe) if self._held else self.fed

    def _hit(self, rule: int) -> Hit:
        """The match that the last held symbol completes; a word boundary at its end is no part of it."""
        held = list(self._held)
        start = held[self._matcher.begins(held, self._held_after_separator)][1]
        last, end = held[-1]
        return Hit(start, end if last in SEPARATORS else end + 1, rule)
