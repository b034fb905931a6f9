"""The request's wire format: what is taken, what is refused, and at what cost."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from raysafe.serving.wire.chat import ChatRequest
from raysafe.serving.wire.errors import ApiError
from raysafe.serving.wire.parsing import parse_body

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def refused(**change: Any) -> dict[str, Any]:
    """The error of a request with these changes."""
    with pytest.raises(ApiError) as caught:
        parse_body(ChatRequest, json.dumps(HELLO | change).encode())
    assert caught.value.status == 400
    return caught.value.body["error"]


@pytest.mark.parametrize(
    "change",
    [
        lambda count: {"messages": [{}] * count},
        lambda count: {"messages": [{"role": "user", "content": [{}] * count}]},
        lambda count: {"messages": [{"role": "user", "content": [3] * count}]},
        lambda count: {"stop": [3] * count},
    ],
    ids=["messages", "parts", "numbers for parts", "stop"],
)
def test_a_body_of_many_mistakes_is_read_to_its_first(change: Any) -> None:
    def mistakes(count: int) -> int:
        with pytest.raises(ValidationError) as caught:
            ChatRequest.model_validate_json(json.dumps(HELLO | change(count)))
        return caught.value.error_count()

    assert mistakes(10) == mistakes(20) == mistakes(1000) <= 5


def test_the_first_mistake_is_named() -> None:
    good, bad = {"role": "user", "content": "hi"}, {"role": "user"}
    assert refused(messages=[good, bad, {}])["param"] == "messages.1"


@pytest.mark.parametrize("options", [None, {}, {"include_usage": None}, {"include_obfuscation": None}])
def test_stream_options_may_be_null(options: Any) -> None:
    parse_body(ChatRequest, json.dumps(HELLO | {"stream": True, "stream_options": options}).encode())


def test_padding_that_is_asked_for_is_refused_for_it_is_not_done() -> None:
    error = refused(stream=True, stream_options={"include_obfuscation": True})
    assert error["param"] == "stream_options.include_obfuscation"
    assert "aren't padded" in error["message"]


@pytest.mark.parametrize("stream", [False, None])
def test_stream_options_without_a_stream_are_refused(stream: bool | None) -> None:
    error = refused(stream=stream, stream_options={"include_usage": True})
    assert error["param"] == "stream_options"
    assert error["message"] == 'stream_options: only allowed together with "stream": true'


def test_stream_options_of_null_need_no_stream() -> None:
    assert parse_body(ChatRequest, json.dumps(HELLO | {"stream_options": None}).encode()).stream_options is None
