"""Topics are told by how many of their phrases a text holds, whole and streamed."""

import pytest
from hypothesis import given, settings

from raysafe.errors import ConfigError
from raysafe.guards.guard import Exchange, Message
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.topics import Topic, TopicsConfig
from tests.examples import examples
from tests.guards.chunks import answering, assert_chunks_change_nothing, chunked, streamed, whole

MEDICINE = Topic(name="medicine", least=2, phrases=("diagnos*", "(tablet*|pill*) a day", "side effect*"))
BANKING = Topic(name="banking", phrases=("account*", "loan*", "(debit|credit) card*"))
DENYING = TopicsConfig(topics=(MEDICINE, BANKING), deny=("medicine",)).build()
ALLOWING = TopicsConfig(topics=(MEDICINE, BANKING), deny=("medicine",), allow=("banking",), free_words=3).build()


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("The diagnosis is clear and side effects are rare.", "block"),
        ("The d1agn0sis is clear and s.i.d.e effects are rare.", "block"),
        ("A diagnosis, and one more diagnosis.", "block"),
        ("The diagnosis is clear.", "allow"),
        ("Two loans and a debit card.", "allow"),
    ],
)
def test_a_denied_topic_takes_several_of_its_phrases(text: str, action: str) -> None:
    assert whole(DENYING, text)[0] == action
    assert streamed(DENYING, list(text))[0] == action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("How do I open an account with you?", "allow"),
        ("Tell me how volcanoes come about, please.", "block"),
        ("Thank you, bye!", "allow"),
        ("My account needs a diagnosis of side effects.", "block"),
    ],
)
def test_a_text_of_some_length_must_be_on_an_allowed_topic(text: str, action: str) -> None:
    assert whole(ALLOWING, text)[0] == action


def test_nothing_leaves_a_stream_before_it_is_known_to_be_on_topic() -> None:
    gate = Pipeline([ALLOWING]).stream(answering())
    assert gate.feed("Volcanoes come about where ") + gate.feed("plates meet.") + gate.finish() == ""
    assert gate.decision is not None and gate.decision.action == "block"


def test_the_last_message_of_the_user_is_judged() -> None:
    def action(*contents: str) -> str:
        messages = (Message("system", "no diagnosis, no side effects"), *(Message("user", text) for text in contents))
        return Pipeline([ALLOWING]).check(Exchange("r", "k", "m", messages), "input").action

    assert action("Tell me how volcanoes come about", "Is my account open now?") == "allow"
    assert action("Is my account open now?", "Tell me how volcanoes come about") == "block"


PIECES = [
    "diag",
    "nosis",
    " ",
    "side ",
    "eff",
    "ects",
    "pill",
    "s a ",
    "day",
    "account",
    "loan",
    "s",
    ". ",
    "x",
    "\u200b",
    "nice day ",
]


@settings(max_examples=examples(300), deadline=None)
@given(chunked(PIECES))
def test_chunks_change_nothing(chunks: list[str]) -> None:
    assert_chunks_change_nothing(DENYING, chunks)
    assert_chunks_change_nothing(ALLOWING, chunks)


@pytest.mark.parametrize("text", ["side ", "a", "diagnosis ", "side effect ", ". "])
def test_work_grows_linearly_with_the_text(text: str) -> None:
    def work(size: int) -> int:
        guard = TopicsConfig(topics=(MEDICINE, BANKING), deny=("banking",)).build()
        guard.check(answering((text * size)[:size]), "output")
        return guard.matcher.work + size

    assert work(40_000) <= 2.1 * work(20_000)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"deny": []}, "needs one of deny or allow"),
        ({"deny": ["sport"]}, "'sport' is no topic"),
        ({"allow": ["banking"], "deny": ["banking"]}, "both allowed and denied"),
        ({"topics": [{"name": "banking", "phrases": ["("]}]}, "topic 'banking'"),
        ({"topics": [{"name": "banking", "phrases": ["a"]}, {"name": "banking", "phrases": ["b"]}]}, "one name"),
    ],
)
def test_topics_that_cannot_be_meant_are_refused(changes: dict[str, object], complaint: str) -> None:
    values = {"topics": [{"name": "banking", "phrases": ["loan*"]}], "deny": ["banking"], **changes}
    with pytest.raises(ConfigError) as caught:
        TopicsConfig.parse(values, "p.yaml")
    assert complaint in str(caught.value)
