"""Answers and arguments must have the form that was asked for; jsonschema is the oracle; no pattern can be slow."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.errors import ConfigError
from raysafe.guards.guard import Tool, ToolCall
from raysafe.guards.json_schema import MAX_DEPTH, JsonSchema, NotJson, read_json
from raysafe.guards.linear_regex import LinearRegex
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.schema import SchemaConfig
from tests.examples import examples
from tests.guards.chunks import answering, streamed, whole

LABEL = {"type": "object", "required": ["label"], "properties": {"label": {"enum": ["good", "bad"]}}}

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.5]) | st.text("ab", max_size=3)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.sampled_from("abc"), v, max_size=3), max_leaves=8
)
small = st.integers(0, 3)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(
                ["null", "boolean", "string", "array", "object", "number", "integer", ["string", "null"]]
            ),
            "enum": st.lists(values, min_size=1, max_size=3),
            "const": values,
            "minimum": small,
            "exclusiveMaximum": small,
            "minLength": small,
            "maxItems": small,
            "minProperties": small,
            "pattern": st.sampled_from(["^a", "b$", "a+b", "^$"]),
            "uniqueItems": st.booleans(),
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "additionalProperties": inner,
            "propertyNames": inner,
            "items": inner,
            "prefixItems": lists,
            "anyOf": lists,
            "allOf": lists,
            "oneOf": lists,
            "not": inner,
        },
    ).map(lambda schema: dict(list(schema.items())[:4]))


schemas = st.recursive(st.booleans() | st.just({}) | st.just({"type": "string"}), _schemas, max_leaves=6)


@settings(max_examples=examples(150), deadline=None)
@given(schemas, values)
def test_the_verdict_is_that_of_jsonschema(schema: Any, value: Any) -> None:
    expected = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (JsonSchema(schema).fault(read_json(json.dumps(value))) is None) == expected


def test_references_into_the_schema_are_followed() -> None:
    tree = {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}
    assert JsonSchema(tree).fault([[], [[]]]) is None
    assert JsonSchema(tree).fault([[], [1]]) == "$ref"


def test_a_reference_to_itself_ends() -> None:
    assert JsonSchema({"$ref": "#"}).fault(1) is None


def test_each_subschema_looks_at_each_value_once() -> None:
    """Without that, a chain of references that branch would take 2**40 steps."""
    doubling: dict[str, Any] = {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)}
    schema = JsonSchema({"$ref": "#/$defs/0", "$defs": {**doubling, "40": {"type": "string"}}})
    assert schema.fault("x") is None
    assert schema.work <= 200


def test_work_grows_linearly_with_the_value() -> None:
    def work(size: int) -> int:
        schema = JsonSchema({"uniqueItems": True, "items": {"anyOf": [{"type": "string"}, {"type": "array"}]}})
        schema.fault([[n] for n in range(size)])
        return schema.work

    assert work(2000) <= 2.1 * work(1000)


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"patternProperties": {}}, "patternProperties"),
        ({"type": "text"}, "'text'"),
        ({"pattern": "("}, "missing"),
        ({"pattern": "(?=a)"}, "look-around"),
        ({"$ref": "http://x.org/s"}, "only '#/...'"),
        ({"$ref": "#/$defs/a"}, "where there is nothing"),
        ({"properties": {"a": 3}}, "#/properties/a"),
        ({"minLength": "3"}, "#/minLength"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SchemaConfig.parse({"json_schema": schema}, "p.yaml")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "{", "{'a': 1}", '{"a": 1, "a": 2}', "NaN", "[1,]", "1" * 5000, "[" * 100_000, "[" * 40 + "]" * 40, "1 2"],
)
def test_what_readers_may_read_differently_is_no_json(text: str) -> None:
    with pytest.raises(NotJson) as caught:
        read_json(text)
    assert len(str(caught.value)) < 80


def test_the_depth_that_is_allowed_can_be_judged() -> None:
    nested = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"allOf": [{"type": "array", "items": {"$ref": "#/$defs/t"}}]}}}
    assert whole(SchemaConfig(json_schema=tree).build(), nested)[0] == "allow"


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ('{"label": "good"}', "allow"),
        ('{"label": "ugly"}', "block"),
        ("good", "block"),
        ('{"label": "good"} so', "block"),
    ],
)
def test_an_answer_must_fit_the_schema_whole_and_streamed(text: str, action: str) -> None:
    guard = SchemaConfig(json_schema=LABEL).build()
    assert whole(guard, text)[0] == action
    assert streamed(guard, list(text)) == whole(guard, text)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ('Here:\n```json\n{"label": "good"}\n```\nDone.', "allow"),
        ('```\n{"label": "bad"}\n```', "allow"),
        ('```json\n{"label": "bad"}\n```\n```json\n{"label": "good"}\n```', "block"),
        ('{"label": "good"}', "block"),
    ],
)
def test_json_may_stand_in_one_block(text: str, action: str) -> None:
    assert whole(SchemaConfig(json_schema=LABEL, fenced=True).build(), text)[0] == action


def test_a_reason_quotes_nothing_of_the_answer() -> None:
    _, reason, _ = whole(SchemaConfig(json_schema=LABEL).build(), '{"label": "s3cret"}')
    assert reason == "the answer breaks the schema's 'properties'"


@pytest.mark.parametrize(
    ("regex", "text", "action"),
    [
        ("yes|no", "yes", "allow"),
        ("yes|no", "yes.", "block"),
        ("yes|no", "no\n", "block"),
        (r"\d{1,3}", "042", "allow"),
    ],
)
def test_the_whole_answer_must_match_the_expression(regex: str, text: str, action: str) -> None:
    assert whole(SchemaConfig(regex=regex).build(), text)[0] == action


def test_an_expression_that_makes_others_backtrack_is_judged_on_a_megabyte() -> None:
    assert not LinearRegex(r"\A(?:(a*)*b)\z").search("a" * 2**20)


def test_lone_surrogates_are_judged() -> None:
    assert LinearRegex("^.$").search("\ud800")


def test_arguments_of_tools_must_fit_their_schema() -> None:
    guard = SchemaConfig(
        tools={"mail": {"properties": {"to": {"pattern": r"@example\.org$"}}}}, other_tools=False
    ).build()

    def action(name: str, arguments: str) -> str:
        exchange = answering()
        exchange.tool_calls = (ToolCall("c", name, arguments),)
        return Pipeline([guard]).check(exchange, "tool_call").action

    assert action("mail", '{"to": "a@example.org"}') == "allow"
    assert action("mail", '{"to": "a@example.com"}') == "block"
    assert action("mail", '{"to": "a@example.org", "to": "b@evil.example"}') == "block"
    assert action("search", "{}") == "block"


def test_an_answer_is_empty_only_where_there_are_tools_to_call() -> None:
    guard, exchange = SchemaConfig(json_schema=LABEL).build(), answering()
    assert guard.check(exchange, "output").action == "block"
    exchange.tools = (Tool("mail", "{}"),)
    assert guard.check(exchange, "output").action == "allow"


def test_a_guard_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs one of"):
        SchemaConfig()
