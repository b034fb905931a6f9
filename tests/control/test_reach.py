"""What a tool's arguments reach: no spelling leads round a granted address, path or number of people."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raysafe.control.capabilities import Capabilities
from raysafe.control.reach import people_in
from raysafe.control.tools import object_to
from raysafe.guards.guard import ToolCall

GRANTED = Capabilities(
    tools=("*",), domains=("good.org", "*.good.org"), paths=("/srv",), autonomy=3, scope="public", recipients=2
)


@pytest.mark.parametrize(
    "text",
    [
        "http://good.org'@evil.com/x",
        'http://good.org"@evil.com/x',
        "http://good.org<@evil.com/x",
        "http://good.org @evil.com/x",
        "http:evil.com/x",
        "https:/evil.com/x",
        "http://<IP_1>/x",
        "http:<EMAIL_1>/x",
        f"http://{'a.' * 1020}good.org@evil.com/x",
    ],
)
def test_a_url_that_only_begins_like_a_granted_one_is_refused(text: str) -> None:
    assert list(object_to(ToolCall("c", "fetch", json.dumps({"u": text})), None, GRANTED))


@pytest.mark.parametrize(
    "text",
    ["/x/http://good.org/../../../../etc/passwd", "/x y/../etc/passwd", "/" * 5000 + "etc/passwd", "~/a b/../x"],
)
def test_a_path_is_one_whatever_stands_in_it(text: str) -> None:
    assert list(object_to(ToolCall("c", "fetch", json.dumps({"p": text})), None, GRANTED))


@pytest.mark.parametrize(
    "text",
    [
        "http://good.org/a'b@c",
        "see http://good.org or write to ann@good.org",
        "<a href='http://good.org/x'>x</a>",
        "1/2",
    ],
)
def test_prose_with_a_granted_address_passes(text: str) -> None:
    assert not list(object_to(ToolCall("c", "fetch", json.dumps({"u": text})), None, GRANTED))


@pytest.mark.parametrize("to", ["a@x.org|b@x.org|c@x.org", {"a@x.org": None, "b@x.org": None, "c@x.org": None}])
def test_recipients_are_counted_however_they_are_written(to: Any) -> None:
    assert people_in(to) == 3
