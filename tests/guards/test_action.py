"""The shield of a policy: what it forbids, what it puts in its place, and that what it can't read closes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.errors import ConfigError, ModelError
from raysafe.guards.guard import ACT, Exchange, Message, ToolCall, Verdict
from raysafe.guards.policy import Policy
from raysafe.models.mlp import DiscreteHead, Mlp, MlpConfig
from raysafe.rl.policy import BoxSpace, DiscreteSpace, ObservedRange, PolicyCard, save_policy
from raysafe.rl.policy import Policy as ActingPolicy

EDGE = {"name": "edge", "when": [{"feature": 0, "at_least": 2.0}], "forbid": [1]}


def exchange(observations: list[Any], actions: list[Any], scores: Any = ()) -> Exchange:
    made = Exchange(
        "act-1", "key", "m", tuple(Message("user", json.dumps(each)) for each in observations), endpoint=ACT
    )
    made.tool_calls = tuple(ToolCall(str(i), ACT, json.dumps({"action": each})) for i, each in enumerate(actions))
    made.scores = scores
    return made


def judged(made: Exchange, stage: Any = "tool_call", **settings: Any) -> Verdict:
    """The verdict as a pipeline of the policy file gives it."""
    pipeline = Policy.parse({"guards": [{"kind": "action", **settings}]}).build()
    pipeline.check(made, stage)
    return made.verdicts[-1]


def test_an_action_is_forbidden_only_where_its_rules_conditions_hold() -> None:
    assert judged(exchange([[1.9]], [1]), rules=[EDGE]).action == "allow"
    assert judged(exchange([[2.0]], [0]), rules=[EDGE]).action == "allow"
    stopped = judged(exchange([[0.0], [2.0]], [1, 1]), rules=[EDGE])
    assert (stopped.action, stopped.reason) == ("block", "1 of 2 actions forbidden by the rule edge")
    assert judged(exchange([[2.0]], [1]), rules=[EDGE], action="hold").action == "hold"


def test_the_best_allowed_action_takes_a_forbidden_ones_place() -> None:
    made = exchange([[0.0], [3.0]], [1, 1], ((0.1, 0.8, 0.1), (0.2, 0.5, 0.3)))
    verdict = judged(made, rules=[EDGE], action="modify")
    assert verdict.action == "modify"
    assert [json.loads(text)["action"] for text in made.texts("tool_call")] == [1, 2]


@given(
    st.lists(st.floats(-9, 9), min_size=4, max_size=4),
    st.sets(st.integers(0, 3), max_size=4),
    st.one_of(st.none(), st.sets(st.integers(0, 3), min_size=1)),
)
def test_what_a_mask_leaves_is_the_best_of_exactly_the_allowed(
    scores: list[float], forbid: set[int], allow: set[int] | None
) -> None:
    taken = max(range(4), key=scores.__getitem__)
    allowed = [each for each in range(4) if each not in forbid and (allow is None or each in allow)]
    rules = [{"forbid": sorted(forbid)}] if forbid else []
    rules += [] if allow is None else [{"allow": sorted(allow)}]
    made = exchange([[0.0]], [taken], (tuple(scores),))
    verdict = judged(made, rules=rules or [{"forbid": [9]}], action="modify")
    if not allowed:
        assert verdict.action == "block"
    else:
        assert json.loads(made.texts("tool_call")[0])["action"] == max(allowed, key=scores.__getitem__)
        assert verdict.action == ("allow" if taken in allowed else "modify")


def test_a_continuous_action_is_brought_to_the_nearest_allowed_one() -> None:
    rules = [{"low": [-1.0, None], "high": [1.0, None]}, {"when": [{"feature": 0, "at_most": 0}], "high": [0.5, 2.0]}]
    made = exchange([[-1.0], [1.0]], [[3.0, 9.0], [3.0, 9.0]])
    assert judged(made, rules=rules, action="modify").action == "modify"
    assert [json.loads(text)["action"] for text in made.texts("tool_call")] == [[0.5, 2.0], [1.0, 9.0]]


def test_what_no_allowed_action_is_known_for_is_blocked() -> None:
    unknown = judged(exchange([[3.0]], [1]), rules=[EDGE], action="modify")
    assert unknown.action == "block" and "no allowed action" in unknown.reason
    nothing = [{"low": [1.0]}, {"high": [0.0]}]
    assert judged(exchange([[0.0]], [[0.5]]), rules=nothing, action="modify").action == "block"


@pytest.mark.parametrize(
    ("observation", "action"),
    [([], 1), ("text", 1), ([2.0], [0.5]), ([2.0], "left"), ([2.0], True), ([2.0], None)],
)
def test_what_it_cannot_read_closes(observation: Any, action: Any) -> None:
    verdict = judged(exchange([observation], [action]), rules=[EDGE])
    assert verdict.action == "block" and verdict.category == "error" and verdict.error


def test_an_observation_outside_the_range_is_not_acted_at() -> None:
    bounds = {"low": [-1.0, 0.0], "high": [1.0, 4.0]}
    inside, outside = exchange([[1.0, 0.0]], []), exchange([[0.0, 0.0], [0.0, 4.5]], [])
    assert judged(inside, "input", range=bounds).action == "allow"
    verdict = judged(outside, "input", range=bounds, outside="hold")
    assert verdict.action == "hold" and "number 1" in verdict.reason and "4.5" not in verdict.reason
    assert judged(exchange([[0.0, 4.5]], []), "input", range=bounds, slack=0.2).action == "allow"
    other = judged(exchange([[0.0]], []), "input", range=bounds)
    assert other.action == "block" and other.reason == "an observation has 1 numbers, and the range 2"


def test_the_range_is_that_of_the_policys_card(tmp_path: Path) -> None:
    card = PolicyCard(
        env="x", algorithm="PPO", distribution="categorical", actions=DiscreteSpace(n=2),
        observations=BoxSpace(shape=(1,), low=(None,), high=(None,)),
        observed=ObservedRange(low=(-1.0,), high=(2.0,), observations=100),
    )  # fmt: skip
    network = Mlp(MlpConfig(inputs=1, head=DiscreteHead(actions=2)))
    save_policy(ActingPolicy(network, card), tmp_path)
    assert judged(exchange([[2.0]], []), "input", range_of=str(tmp_path)).action == "allow"
    assert judged(exchange([[2.1]], []), "input", range_of=str(tmp_path)).action == "block"
    save_policy(ActingPolicy(network, card.model_copy(update={"observed": None})), tmp_path)
    with pytest.raises(ConfigError, match="doesn't say what it observed"):
        judged(exchange([[2.0]], []), "input", range_of=str(tmp_path))
    with pytest.raises(ModelError, match="can't read"):
        judged(exchange([[2.0]], []), "input", range_of=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs rules, range or range_of"),
        ({"rules": [{}]}, "forbid or allow"),
        ({"rules": [{"forbid": [1], "low": [0.0]}]}, "forbid or allow"),
        ({"rules": [{"when": [{"feature": 0}], "forbid": [1]}]}, "at_least or at_most"),
        ({"range": {"low": [1.0], "high": [0.0]}}, "low below high"),
        ({"range": {"low": [0.0], "high": [1.0]}, "range_of": "x"}, "leave one out"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Policy.parse({"guards": [{"kind": "action", **settings}]})


def test_other_endpoints_are_none_of_its_business() -> None:
    chat = Exchange("chatcmpl-1", "key", "m", (Message("user", "hello"),))
    chat.tool_calls = (ToolCall("1", ACT, '{"action": 1}'),)
    assert judged(chat, rules=[EDGE]).action == "allow"
