"""`raysafe capabilities show`, approvals that grant, and `raysafe holds`, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysafe.control.held import Held, digest_of
from raysafe.control.holds import Holds
from raysafe.guards.guard import Exchange, Message
from raysafe.records.store import open_store
from tests.cli.test_review import BY_ADA, Capture, run, shop

__all__ = ["shop"]
GRANT = "tools: [search, mail]\ndomains: ['*.example.org']\nautonomy: 3\nscope: tenant\nrecipients: 5\n"
POLICY = """
guards:
  - kind: capabilities
    allowed: {tools: [mail, shell], domains: [www.example.org], autonomy: 1, scope: public, recipients: 2}
    budgets: [{subject: key, resource: requests, window: day, limit: 1000}]
"""


def test_what_is_in_effect_is_the_minimum_of_case_and_policy(shop: Path, capsys: Capture) -> None:
    (shop / "grant.yaml").write_text(GRANT)
    (shop / "policy.yaml").write_text(POLICY)
    assert run(capsys, "review", "approve", "tiny", *BY_ADA, "--capabilities", str(shop / "grant.yaml"))[0] == 0
    code, printed = run(capsys, "capabilities", "show", "tiny", "--policy", str(shop / "policy.yaml"), "--json")
    effective = json.loads(printed)["effective"]
    assert code == 0
    assert (effective["tools"], effective["domains"]) == (["mail"], ["www.example.org"])
    assert (effective["autonomy"], effective["scope"], effective["recipients"]) == (1, "tenant", 2)
    shown = run(capsys, "capabilities", "show", "tiny", "--policy", str(shop / "policy.yaml"))[1]
    assert "1: act after approval" in shown and "1,000" in shown


def test_without_a_decision_nothing_is_granted(shop: Path, capsys: Capture) -> None:
    assert "nothing is granted" in run(capsys, "capabilities", "show", "tiny")[1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("tool: [x]\n", "did you mean 'tools'"), ("autonomy: 7\n", "autonomy"), ("paths: [a/b]\n", "absolute and plain")],
)
def test_a_grant_that_cannot_be_read_is_one_sentence(shop: Path, capsys: Capture, text: str, sentence: str) -> None:
    (shop / "grant.yaml").write_text(text)
    code, printed = run(capsys, "review", "approve", "tiny", *BY_ADA, "--capabilities", str(shop / "grant.yaml"))
    assert code == 2 and sentence in printed and "Traceback" not in printed


def hold(text: str) -> str:
    """Something that waits for a decision; its id."""
    exchange = Exchange("chatcmpl-1", "ann", "tiny", (Message("user", text),))
    with open_store() as store:
        Holds(store).put(
            exchange.request_id,
            service="tiny",
            tenant="default",
            key_id="ann",
            stage="input",
            guard="g",
            reason="why",
            digest=digest_of(exchange, "input"),
            held=Held.of(exchange, "input"),
        )
    return exchange.request_id


def test_a_hold_is_read_and_released(shop: Path, capsys: Capture) -> None:
    hold_id = hold("what is \x1b[2Jthis?")
    assert json.loads(run(capsys, "holds", "list", "--json")[1])[0]["state"] == "pending"
    shown = run(capsys, "holds", "show", hold_id)[1]
    assert "what is \\x1b[2Jthis?" in shown and "\x1b[2J" not in shown
    assert run(capsys, "holds", "release", hold_id, "--note", "fine", "--reviewer", "Ada") == (
        0,
        f"{hold_id} released by Ada\n",
    )
    with open_store() as store:
        assert Holds(store).released(hold_id) is not None
    assert run(capsys, "audit", "verify")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nothing", "--note", "x", "--reviewer", "Ada"), "nothing is held as 'nothing'"),
        (("chatcmpl-1", "--note", " ", "--reviewer", "Ada"), "needs a reason"),
        (("chatcmpl-1", "--note", "x", "--reviewer", "ANN"), "somebody else decides"),
    ],
)
def test_a_decision_that_cannot_be_made_is_one_sentence(
    shop: Path, capsys: Capture, arguments: tuple[str, ...], sentence: str
) -> None:
    hold("hello")
    code, printed = run(capsys, "holds", "refuse", *arguments)
    assert code == 2 and sentence in printed and "Traceback" not in printed
