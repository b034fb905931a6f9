"""What a text says where parts of it are encoded: a reader of the text, with readers of all that it decodes to.

A view is a text that the text stands for: a run of digits decoded (encodings.py), or the whole with its escapes read
(escapes.py). What a view decodes to is read in turn, up to DEPTH encodings inside each other. A text is
read at most once for each chain of encodings, and what a chain decodes to is never longer than the text: linear work.

A run of up to WINDOW characters is judged whole, when it ends; none of it is cleared before. A longer one is judged
window by window, and what is decoded flows on from each to the next: a window is cleared when the next one is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass

from raysafe.guards.encodings import ENCODINGS, Decoding, Encoding, stretches
from raysafe.guards.escapes import first_escape, unescape
from raysafe.guards.matcher import Hit, Matcher, Scan, Watch
from raysafe.guards.pieces import Piece

DEPTH = 3
WINDOW = 1024
ESCAPES = "escapes"
DECODED = frozenset({*(encoding.name for encoding in ENCODINGS), ESCAPES})
"""Names of what is decoded."""
NONE: frozenset[str] = frozenset()
_LEAST = min(encoding.least for encoding in ENCODINGS)


@dataclass(frozen=True, slots=True)
class Found:
    """A phrase, and how many characters had come when it could be told."""

    when: int
    hit: Hit


@dataclass(frozen=True, slots=True)
class _Sight:
    """What every reader of one text has in common."""

    matcher: Matcher
    every: bool
    encodings: tuple[Encoding, ...]
    escapes: bool


class _Reader:
    """One text, as it stands and in all its views down to `depth` encodings inside each other."""

    def __init__(self, sight: _Sight, depth: int) -> None:
        self._sight, self._depth = sight, depth
        self._passage: Watch | Scan = Scan(sight.matcher) if sight.every else Watch(sight.matcher)
        self._runs = [_Run(encoding, sight, depth - 1) for encoding in sight.encodings] if depth else []
        self._unescaped: _Unescaped | None = None
        self._told = False

    def feed(self, piece: Piece) -> list[Found]:
        """Phrases that end in this piece of the text; only up to the first of them where not every one is asked for."""
        if not piece.text:
            return []
        found: list[Found] = []
        if self._unescaped is None and self._depth and self._sight.escapes:
            at = first_escape(piece.text)
            if at is not None:
                if at:
                    found = self._own(piece.part(0, at))
                    piece = self._up_to(found, piece.part(at, len(piece.text)))
                self._unescaped = _Unescaped(self.fork(self._depth - 1))
        if piece.text:
            found += self._own(piece)
        if self._unescaped is not None:
            found += self._unescaped.feed(self._up_to(found, piece))
            if self._unescaped.reads_as(self):
                self._unescaped = None
        return found

    def finish(self, when: int) -> list[Found]:
        """The text has ended; `when` characters of the original had come."""
        found: list[Found] = []
        if isinstance(self._passage, Scan):
            found = [Found(when, hit) for hit in self._passage.finish()]
        elif not self._told and (rule := self._passage.finish()) is not None:
            found = [Found(when, Hit(0, 0, rule))]
        for run in self._runs:
            found += run.finish(when)
        if self._unescaped is not None:
            found += self._unescaped.finish(when)
        return found

    def fork(self, depth: int) -> _Reader:
        """A reader that goes on from here apart from this one; its own views are `depth` encodings deep."""
        twin = copy(self)
        twin._depth = depth
        twin._passage = self._passage.fork()
        twin._runs = [run.fork(depth - 1) for run in self._runs] if depth else []
        twin._unescaped = self._unescaped and self._unescaped.fork(depth - 1)
        return twin

    def as_at_rest(self, other: _Reader) -> bool:
        """Whether nothing is under way in either, and whatever comes will be read the same by both."""
        if self._unescaped is not None or not self._passage.as_at_rest(other._passage):
            return False
        return all(run.idle for run in (*self._runs, *other._runs))

    def clear(self) -> int:
        """No phrase that is still possible begins before this character of the original."""
        clear = self._passage.safe
        for run in self._runs:
            if run.text or run.streams:
                start = run.clear() if run.streams else run.start
                if start < clear:
                    clear = start
        return clear if self._unescaped is None else min(clear, self._unescaped.clear())

    def _own(self, piece: Piece) -> list[Found]:
        """The text as it stands, and its runs."""
        found = self._look(piece)
        text = piece.text
        size, last = len(text), text[-1]
        if found:
            piece = self._up_to(found, piece)
        inside = stretches(text) if self._runs and size > _LEAST else NONE
        for run in self._runs:
            # most chunks of a stream touch no run at all
            if run.text or run.streams or last in run.characters or (size > run.least and run.name in inside):
                found += run.feed(piece)
        return found

    def _look(self, piece: Piece) -> list[Found]:
        passage = self._passage
        if isinstance(passage, Scan):
            return [Found(hit.end, hit) for hit in passage.feed(piece.text, piece)]
        rule = None if self._told else passage.feed(piece.text, piece)
        self._told = self._told or rule is not None
        return [] if rule is None else [Found(piece.whens[passage.stopped], Hit(0, 0, rule))]

    def _up_to(self, found: list[Found], piece: Piece) -> Piece:
        """The piece as far as it is worth looking at: a reader of the first phrase needs nothing after it."""
        return piece if self._sight.every or not found else piece.known_by(min(one.when for one in found))


class _Run:
    """Looks for the runs of one encoding in a text, and reads what they say."""

    def __init__(self, encoding: Encoding, sight: _Sight, depth: int) -> None:
        self.encoding, self.characters, self.least = encoding, encoding.characters, encoding.least
        self.name = encoding.name
        self.text = ""
        """The window under way, which begins at `start`."""
        self.streams: list[tuple[Decoding, _Reader]] = []
        """What windows before it said, at each offset of the digits."""
        self._sight, self._depth = sight, depth
        self.start = self._end = 0
        self._before: int | None = None
        """Where the window before this one begins: what isn't told of it yet may be told with this one."""

    @property
    def idle(self) -> bool:
        """Whether no run is under way."""
        return not self.text and not self.streams

    def feed(self, piece: Piece) -> list[Found]:
        text, characters = piece.text, self.characters
        at, size = 0, len(text)
        if not self.streams and len(self.text) + size < self.least:
            # too little has come for a run to be judged: only its beginning is remembered
            rest = len(text.rstrip(characters))
            if self.text and not rest:
                self.text += text
            else:
                self.text = text = text[rest:].lstrip(self.encoding.between)
                if text:
                    self.start = piece.starts[-len(text)]
            return []
        found: list[Found] = []
        if self.text or self.streams:
            at = size - len(text.lstrip(characters))
            if at == size or self.streams or len(self.text) + at >= self.least:
                found += self._grow(piece, 0, at)
                if at == size:
                    return found
                found += self._end_at(piece.whens[at])
            self.text = ""
        edge = len(text.rstrip(characters))
        if edge - at > self.least and self.name in stretches(text):
            for stretch in self.encoding.run.finditer(text, at, edge):
                found += self._grow(piece, *stretch.span())
                found += self._end_at(piece.whens[stretch.end()])
        if edge < size:
            begin = size - len(text[edge:].lstrip(self.encoding.between))
            if begin < size:
                found += self._grow(piece, begin, size)
        return found

    def finish(self, when: int) -> list[Found]:
        return [] if self.idle else self._end_at(when)

    def fork(self, depth: int) -> _Run:
        twin = copy(self)
        twin._depth = depth
        twin.streams = [(copy(decoding), reader.fork(depth)) for decoding, reader in self.streams]
        return twin

    def clear(self) -> int:
        """What was decoded of the run under way is cleared up to this character."""
        start = self.start if self._before is None else self._before
        return min((start, *(reader.clear() for _, reader in self.streams)))

    def _grow(self, piece: Piece, at: int, end: int) -> list[Found]:
        """The characters `at` to `end` of a piece go on with the run under way, or begin one."""
        found: list[Found] = []
        while at < end:
            if not self.text:
                self.start = piece.starts[at]
            stop = min(end, at + WINDOW - len(self.text))
            self.text += piece.text[at:stop]
            self._end = piece.ends[stop - 1]
            if len(self.text) == WINDOW:
                found += self._judge(piece.whens[stop - 1], last=False)
            at = stop
        return found

    def _end_at(self, when: int) -> list[Found]:
        """The run under way has ended."""
        found: list[Found] = []
        if self.streams or self.encoding.counts(self.text):
            found = self._judge(when, last=True)
        self.text, self._before, self.streams = "", None, []
        return found

    def _judge(self, when: int, last: bool) -> list[Found]:
        """Read what the window under way says."""
        found: list[Found] = []
        if not self.streams:
            phases = range(self.encoding.phases)
            self.streams = [(Decoding(self.encoding, p), _Reader(self._sight, self._depth)) for p in phases]
        start = self.start if self._before is None else self._before
        for decoding, reader in self.streams:
            said = decoding.feed(self.text, last)
            found += reader.feed(Piece.decoded(said, start, self._end, when, self.start if self.text else start))
            if last:
                found += reader.finish(when)
        self._before = self.start if self.text else self._before
        self.text = ""
        return found


class _Unescaped:
    """A text with its escapes read, from the first of them on."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._pending = Piece.plain("", 0)
        self._read_any = False
        """Whether there was an escape at all, and not only what might have become one."""

    def feed(self, piece: Piece) -> list[Found]:
        whole = self._pending + piece if self._pending.text else piece
        read, self._pending = unescape(whole, last=False)
        self._read_any = self._read_any or read.text + self._pending.text != whole.text
        return self._reader.feed(read)

    def finish(self, when: int) -> list[Found]:
        read, self._pending = unescape(self._pending, last=True)
        return [*self._reader.feed(read), *self._reader.finish(when)]

    def fork(self, depth: int) -> _Unescaped | None:
        if depth < 0:
            return None
        twin = copy(self)
        twin._reader = self._reader.fork(depth)
        return twin

    def reads_as(self, reader: _Reader) -> bool:
        """Whether it reads the text as `reader` does, and will go on so."""
        return not self._pending.text and (not self._read_any or self._reader.as_at_rest(reader))

    def clear(self) -> int:
        clear = self._reader.clear()
        return min(clear, self._pending.starts[0]) if self._pending.text else clear


class _Look:
    """One text on its way through all its views, in chunks: what comes before character `safe` is cleared."""

    def __init__(self, matcher: Matcher, decode: frozenset[str], every: bool) -> None:
        encodings = tuple(encoding for encoding in ENCODINGS if encoding.name in decode)
        escapes = ESCAPES in decode
        self.safe = 0
        self._fed = 0
        self._reader = _Reader(_Sight(matcher, every, encodings, escapes), DEPTH if encodings or escapes else 0)

    def _feed(self, text: str) -> list[Found]:
        found = self._reader.feed(Piece.plain(text, self._fed))
        self._fed += len(text)
        clear = self._reader.clear()
        if clear > self.safe:
            self.safe = clear
        return found

    def _finish(self) -> list[Found]:
        self.safe = self._fed
        return self._reader.finish(self._fed + 1)


class FirstLook(_Look):
    """Looks for the phrase that can be told first, as a Watch does."""

    def __init__(self, matcher: Matcher, decode: frozenset[str] = NONE) -> None:
        super().__init__(matcher, decode, every=False)

    def feed(self, text: str) -> int | None:
        """The rule of the first phrase, where it can be told in this chunk; after that, nothing more may be fed."""
        return _first(self._feed(text))

    def finish(self) -> int | None:
        """The text has ended: the rule of the phrase that its end completes, if any."""
        return _first(self._finish())


class FullLook(_Look):
    """Finds every phrase, as a Scan does; one that is encoded is found as the whole run, or window, that says it."""

    def __init__(self, matcher: Matcher, decode: frozenset[str] = NONE) -> None:
        super().__init__(matcher, decode, every=True)

    def feed(self, text: str) -> list[Hit]:
        return _in_order(self._feed(text))

    def finish(self) -> list[Hit]:
        return _in_order(self._finish())


def first_in(matcher: Matcher, text: str, decode: frozenset[str]) -> int | None:
    """The rule of the phrase in a whole text that can be told first."""
    look = FirstLook(matcher, decode)
    rule = look.feed(text)
    return look.finish() if rule is None else rule


def _first(found: Sequence[Found]) -> int | None:
    """Of those told first, the rule that is listed first: so it doesn't matter how the text was cut into chunks."""
    return min((one.when, one.hit.rule) for one in found)[1] if found else None


def _in_order(found: Iterable[Found]) -> list[Hit]:
    return sorted((one.hit for one in found), key=lambda hit: (hit.end, hit.start))
