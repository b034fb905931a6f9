"""Tool calls against rules and grants: what passes, what each capability has against a call, and disguises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raysafe.control.capabilities import UNLIMITED, Capabilities
from raysafe.control.capability_guard import CapabilitiesConfig, CapabilityGuard
from raysafe.control.reach import UNREADABLE, domain_of, path_of, people_in
from raysafe.control.tools import ToolRule, object_to
from raysafe.guards.guard import Exchange, ToolCall
from raysafe.guards.pipeline import Pipeline

GRANTED = Capabilities(
    tools=("mail", "fetch", "read"),
    domains=("*.example.org", "example.org"),
    paths=("/srv/data",),
    data_classes=("public",),
    autonomy=3,
    scope="tenant",
    recipients=2,
)
MAIL = ToolRule.parse(
    {"scope": "tenant", "recipients": "to", "arguments": {"to": {"required": True}, "body": {"kind": "text"}}}
)


def against(name: str, arguments: Any, rule: ToolRule | None = None, granted: Capabilities = GRANTED) -> list[str]:
    """The capabilities that object to a call."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return [objection.capability for objection in object_to(ToolCall("c", name, text), rule, granted)]


def test_a_call_within_its_grants_passes() -> None:
    assert against("mail", {"to": ["a@x.org", "b@x.org"], "body": "hi"}, MAIL) == []
    assert against("fetch", {"url": "https://www.example.org/a?b=c"}) == []
    assert against("read", {"file": "/srv/data/notes.txt"}) == []


@pytest.mark.parametrize(
    ("name", "arguments", "rule", "capability"),
    [
        ("shell", {}, None, "actions"),
        ("mail", {"to": "a", "cc": "b"}, MAIL, "actions"),
        ("mail", {"body": "no one"}, MAIL, "actions"),
        ("mail", {"to": "a", "body": 3}, MAIL, "actions"),
        ("mail", '{"to": "a", "to": ["a", "b", "c"]}', MAIL, "actions"),
        ("mail", "not json", MAIL, "actions"),
        ("mail", '"a text"', MAIL, "actions"),
        ("mail", "[" * 100_000, MAIL, "actions"),
        ("mail", {"to": ["a", "b", "c"]}, MAIL, "influence"),
        ("mail", {"to": "a; b, c"}, MAIL, "influence"),
        ("mail", {"to": [["a", "b"], {"x": "c"}]}, MAIL, "influence"),
        ("mail", {"to": "a"}, MAIL.model_copy(update={"scope": "public"}), "influence"),
        ("read", {}, ToolRule(reads=("personal",)), "information"),
        ("fetch", {"url": "https://evil.org"}, None, "information"),
        ("fetch", {"note": "see https://evil.org/x for it"}, None, "information"),
        ("fetch", {"deep": [{"https://evil.org": 1}]}, None, "information"),
        ("read", {"file": "/etc/passwd"}, None, "information"),
        ("read", {"file": "/srv/data/../../etc/passwd"}, None, "information"),
        ("read", {"file": "~/.ssh/id_rsa"}, None, "information"),
        ("read", {"file": "file:///etc/passwd"}, None, "information"),
        ("read", {"file": "notes.txt"}, ToolRule.parse({"arguments": {"file": {"kind": "path"}}}), "information"),
    ],
)
def test_each_capability_objects_to_what_oversteps_it(
    name: str, arguments: Any, rule: ToolRule | None, capability: str
) -> None:
    assert capability in against(name, arguments, rule)


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://Example.ORG./x", "example.org"),
        ("example.org:443", "example.org"),
        ("https://127.0.0.1/", "127.0.0.1"),
        ("https://[::1]/", "::1"),
        ("https://b\u00fccher.example/", "xn--bcher-kva.example"),
        ("https://example.org@evil.org/", UNREADABLE),
        ("https://evil.org\\@example.org/", UNREADABLE),
        ("https://evil.org%2f.example.org/", UNREADABLE),
        ("https://2130706433/", UNREADABLE),
        ("https://0x7f.1/", UNREADABLE),
        ("https://exa mple.org/", UNREADABLE),
        ("https://example.org:port/", UNREADABLE),
        ("", UNREADABLE),
    ],
)
def test_a_domain_is_what_the_strictest_reader_sees(url: str, domain: str) -> None:
    assert domain_of(url) == domain


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/srv//data/./x", "/srv/data/x"),
        ("/srv/data/%2e%2e/etc", UNREADABLE),
        ("/srv/$HOME", UNREADABLE),
        ("/srv/`id`", UNREADABLE),
        ("//host/share", UNREADABLE),
        ("C:\\x", UNREADABLE),
        ("data/x", UNREADABLE),
        ("/srv/\x00x", UNREADABLE),
    ],
)
def test_a_path_is_plain_or_unreadable(text: str, path: str) -> None:
    assert path_of(text) == path


def test_recipients_are_counted_however_they_are_written() -> None:
    assert [people_in(v) for v in ("a,b;c d", ["a", ["b", "c"]], {"x": "a b"}, None, 7, "")] == [4, 3, 2, 0, 1, 0]


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"kind": "number", "at_most": 5}, [5, 1.5], [6, "5", True, None]),
        ({"one_of": [1, "x"]}, [1, "x"], [True, 1.0, "y"]),
        ({"kind": "text", "longest": 2}, ["ab", ""], ["abc", 3]),
        ({"kind": "truth"}, [True], [1, "true"]),
        ({"at_least": 0}, [0], [-1, "0", [1]]),
        ({"kind": "list", "longest": 1}, [[], [1]], [[1, 2], "a"]),
    ],
)
def test_argument_rules(rule: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    checked = ToolRule.parse({"arguments": {"x": rule}})
    assert all(against("mail", {"x": value}, checked) == [] for value in good)
    assert all(against("mail", {"x": value}, checked) == ["actions"] for value in bad)


def exchange(*calls: ToolCall, asked: Capabilities | None = None) -> Exchange:
    return Exchange("r", "k", "m", (), tool_calls=calls, asked=asked)


CALL = ToolCall("c", "mail", '{"to": "a"}')
OVER = ToolCall("c", "mail", '{"to": "a,b,c"}')


def decide(call: ToolCall, asked: Capabilities | None = None, **config: Any) -> tuple[str, str]:
    values = {"tools": {"mail": MAIL}, **config}
    pipeline = Pipeline([CapabilityGuard(CapabilitiesConfig(**values), GRANTED)])
    verdict = pipeline.check(exchange(call, asked=asked), "tool_call").verdicts[0]
    return verdict.action, verdict.reason


@pytest.mark.parametrize(("autonomy", "action"), [(0, "block"), (1, "hold"), (2, "allow"), (3, "allow")])
def test_autonomy_says_what_becomes_of_a_call_that_is_granted(autonomy: int, action: str) -> None:
    allowed = UNLIMITED.model_copy(update={"autonomy": autonomy})
    got, reason = decide(CALL, allowed=allowed)
    assert got == action
    assert ("reported" in reason) is (autonomy == 2)


@pytest.mark.parametrize(("level", "action"), [("strict", "block"), ("moderate", "hold"), ("minimal", "allow")])
def test_isolation_says_what_becomes_of_a_call_that_oversteps(level: str, action: str) -> None:
    got, reason = decide(OVER, isolation={"influence": level})
    assert got == action
    assert "recipients" in reason, "what is let through is reported"


def test_what_is_asked_narrows_and_never_widens() -> None:
    assert decide(CALL, UNLIMITED)[0] == "allow"
    assert decide(CALL, UNLIMITED.model_copy(update={"tools": ("fetch",)}))[0] == "block"
    assert decide(OVER, UNLIMITED)[0] == "block"


def test_the_reason_quotes_no_argument() -> None:
    call = ToolCall("c", "fetch", '{"url": "https://my-secret-host.net/x"}')
    assert "my-secret" not in decide(call)[1]
