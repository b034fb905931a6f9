"""The form of an answer: it must match a regular expression, or be JSON that a JSON schema allows.

- kind: output_schema
  json_schema:
    type: object
    required: [label]
    properties: {label: {enum: [good, bad]}}
    additionalProperties: false
  tools:
    send_mail: {type: object, properties: {to: {pattern: "@example\\.org$"}}, required: [to]}

An answer is judged whole, so a stream is held to its end. Where the client offers tools, an answer may be empty, for it
may consist of calls.
"""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from raysafe.errors import ConfigError
from raysafe.guards.guard import Exchange, Stage, Verdict
from raysafe.guards.json_schema import JsonSchema, NotJson, read_json
from raysafe.guards.linear_regex import LinearRegex
from raysafe.guards.settings import NOTHING, GuardConfig, Resources

_FENCE = re.compile(r"^```(?:json)?[ \t]*$", re.MULTILINE | re.IGNORECASE)


class SchemaConfig(GuardConfig):
    """`kind: output_schema` of a policy."""

    kind: Literal["output_schema"] = "output_schema"
    name: str = Field(default="output-schema", min_length=1)
    action: Literal["block", "hold"] = Field(default="block", description="What is done to an answer of another form.")
    regex: str | None = Field(
        default=None,
        description="The whole answer must match it: RE2's syntax, with at most {0,1000} repetitions, and "
        "(?s) lets a dot be a new line.",
    )
    json_schema: dict[str, Any] | None = Field(
        default=None, description="The answer must be JSON that this schema allows (a part of draft 2020-12)."
    )
    fenced: bool = Field(
        default=False, description="The JSON stands in the answer's one ```json block, with any text around it."
    )
    tools: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="JSON schemas of the arguments of tool calls, by the tool's name."
    )
    other_tools: bool = Field(default=True, description="Tools that aren't named in `tools` may be called.")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.regex is None and self.json_schema is None and not self.tools:
            raise ValueError("an output_schema guard needs one of regex, json_schema or tools")
        if self.fenced and self.json_schema is None:
            raise ValueError("fenced says where the JSON stands: give a json_schema too, or leave it out")
        try:
            SchemaGuard(self)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def build(self, resources: Resources = NOTHING) -> SchemaGuard:
        return SchemaGuard(self)


class SchemaGuard:
    """Linear: RE2, and a validator that looks at each value once a subschema."""

    inline = True
    stages: frozenset[Stage] = frozenset({"output"})

    def __init__(self, config: SchemaConfig) -> None:
        """Raises ConfigError where the pattern or a schema can't be used."""
        self.config, self.name = config, config.name
        self.regex = None if config.regex is None else LinearRegex(rf"\A(?:{config.regex})\z")
        self.schema = None if config.json_schema is None else JsonSchema(config.json_schema)
        self.tools = {name: JsonSchema(schema) for name, schema in config.tools.items()}

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        if stage == "tool_call":
            calls = zip(exchange.tool_calls, exchange.texts("tool_call"), strict=True)
            faults = (self._call_fault(call.name, arguments) for call, arguments in calls)
            fault = next((fault for fault in faults if fault), None)
        else:
            [text] = exchange.texts("output")
            # an answer that only calls tools has no text, and the calls aren't known yet
            fault = None if not text and exchange.tools else self._fault(text)
        if fault is None:
            return Verdict(self.name, stage, "allow")
        return Verdict(self.name, stage, self.config.action, fault, 1.0)

    def _fault(self, text: str) -> str | None:
        if self.regex is not None and not self.regex.search(text):
            return "the answer doesn't match the regular expression"
        if self.schema is None:
            return None
        if self.config.fenced:
            fences = list(_FENCE.finditer(text))
            if len(fences) != 2:
                return "the answer has no single block of JSON"
            text = text[fences[0].end() : fences[1].start()]
        return _fault_of(self.schema, text, "the answer")

    def _call_fault(self, name: str, arguments: str) -> str | None:
        if name in self.tools:
            return _fault_of(self.tools[name], arguments, "a tool's arguments")
        if not self.config.other_tools:
            return "a tool is called that no schema is given for"
        return None


def _fault_of(schema: JsonSchema, text: str, what: str) -> str | None:
    """What is wrong with a JSON text; it quotes nothing of the text."""
    try:
        fault = schema.fault(read_json(text))
    except NotJson as error:
        return f"{what} {error}"
    return f"{what} breaks the schema's '{fault}'" if fault else None
