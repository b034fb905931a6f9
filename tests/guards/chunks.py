"""What every streaming guard owes: chunks change neither the decision nor any character that leaves."""

from __future__ import annotations

from hypothesis import strategies as st

from raysafe.guards.guard import Exchange, Guard
from raysafe.guards.pipeline import Pipeline


@st.composite
def chunked(draw: st.DrawFn, pieces: list[str]) -> list[str]:
    """A text of some of the pieces, cut anywhere."""
    text = draw(st.lists(st.sampled_from(pieces), max_size=14).map("".join))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def answering(output: str = "", state: dict[str, object] | None = None) -> Exchange:
    return Exchange("r", "k", "m", (), output=output, state=dict(state or {}))


def streamed(guard: Guard, chunks: list[str], state: dict[str, object] | None = None) -> tuple[str, str, str]:
    """(action, reason, what left) of an answer that comes in chunks."""
    gate = Pipeline([guard]).stream(answering(state=state))
    left = "".join(map(gate.feed, chunks)) + gate.finish()
    assert gate.decision is not None
    [verdict] = gate.decision.verdicts
    assert verdict.error is None
    return verdict.action, verdict.reason, left


def whole(guard: Guard, text: str, state: dict[str, object] | None = None) -> tuple[str, str, str]:
    """(action, reason, what leaves) of an answer that is judged whole."""
    exchange = answering(text, state)
    [verdict] = Pipeline([guard]).check(exchange, "output").verdicts
    assert verdict.error is None
    return verdict.action, verdict.reason, "" if verdict.stops else exchange.texts("output")[0]


def assert_chunks_change_nothing(guard: Guard, chunks: list[str], state: dict[str, object] | None = None) -> None:
    """The invariant; of a text that is stopped, what left before is a beginning of it."""
    text = "".join(chunks)
    by_chunks, at_once = streamed(guard, chunks, state), whole(guard, text, state)
    assert by_chunks[:2] == at_once[:2]
    if at_once[0] in ("allow", "modify"):
        assert by_chunks[2] == at_once[2]
    else:
        assert text.startswith(by_chunks[2])
