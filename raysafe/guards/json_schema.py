"""JSON Schema in work linear in the text: a part of draft 2020-12; a keyword that isn't known is refused.

Each subschema is asked about each value at most once, patterns are RE2's, and only references into the schema itself
are followed. So no text and no schema can make it slow, as backtracking patterns or comparing all pairs would.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from raysafe.errors import ConfigError
from raysafe.guards.linear_regex import LinearRegex

MAX_DEPTH = 32
"""Lists and objects inside each other, at most."""
_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and value == math.floor(value),
}
_NOTES = frozenset(
    {"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated", "format"}
)
_NOTES |= {"$defs", "definitions", "readOnly", "writeOnly"}
_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: not _is_number(value) or value >= bound,
    "maximum": lambda value, bound: not _is_number(value) or value <= bound,
    "exclusiveMinimum": lambda value, bound: not _is_number(value) or value > bound,
    "exclusiveMaximum": lambda value, bound: not _is_number(value) or value < bound,
    "minLength": lambda value, bound: not isinstance(value, str) or len(value) >= bound,
    "maxLength": lambda value, bound: not isinstance(value, str) or len(value) <= bound,
    "minItems": lambda value, bound: not isinstance(value, list) or len(value) >= bound,
    "maxItems": lambda value, bound: not isinstance(value, list) or len(value) <= bound,
    "minProperties": lambda value, bound: not isinstance(value, dict) or len(value) >= bound,
    "maxProperties": lambda value, bound: not isinstance(value, dict) or len(value) <= bound,
}
_SCHEMAS = frozenset({"additionalProperties", "items", "not", "propertyNames"})
_SCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_OTHERS = frozenset({"type", "enum", "const", "properties", "required", "pattern", "uniqueItems", "$ref"})
KEYWORDS = _NOTES | _BOUNDS.keys() | _SCHEMAS | _SCHEMA_LISTS | _OTHERS


class NotJson(ValueError):
    """A text that is no JSON, or none that all readers read alike; the message quotes nothing of it."""


def read_json(text: str) -> Any:
    """The value in a JSON text; raises NotJson, also for a key that is there twice, NaN, and depth over MAX_DEPTH."""
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except NotJson:
        raise
    except (ValueError, RecursionError):
        raise NotJson("is not JSON") from None
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise NotJson(f"is JSON of more than {MAX_DEPTH} levels")
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list)))
        level = [part for values in inner for part in values]
    return value


class JsonSchema:
    """A schema that was checked. `work` counts the pairs of subschema and value that were looked at."""

    def __init__(self, schema: Any) -> None:
        """Raises ConfigError where the schema uses what isn't known, naming the place."""
        self.work = 0
        self._root = schema
        self._patterns: dict[str, LinearRegex] = {}
        self._targets: dict[str, Any] = {}
        self._check(schema, "#")

    def fault(self, value: Any) -> str | None:
        """Which keyword of the schema a value breaks, or None. It quotes the schema, never the value."""
        return _Visit(self).fault(self._root, value)

    def target(self, reference: str) -> Any:
        return self._targets[reference]

    def pattern(self, pattern: str) -> LinearRegex:
        return self._patterns[pattern]

    def _check(self, schema: Any, at: str) -> None:
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            raise ConfigError(f"the JSON schema at {at} must be an object or true or false, got {schema!r}")
        for keyword, given in schema.items():
            here = f"{at}/{keyword}"
            if keyword not in KEYWORDS:
                raise ConfigError(f"the JSON schema uses '{keyword}' at {at}, which is not known; known: {_known()}")
            if keyword in _SCHEMAS:
                self._check(given, here)
            elif keyword in _SCHEMA_LISTS:
                for number, each in enumerate(_given(given, list, here)):
                    self._check(each, f"{here}/{number}")
            elif keyword in ("properties", "$defs", "definitions"):
                for name, each in _given(given, dict, here).items():
                    self._check(each, f"{here}/{name}")
            elif keyword in _BOUNDS and not _is_number(given):
                raise ConfigError(f"the JSON schema needs a number at {here}, got {given!r}")
            elif keyword == "type":
                for name in given if isinstance(given, list) else [given]:
                    if name not in _TYPES:
                        raise ConfigError(f"the JSON schema names the type {name!r} at {here}; {', '.join(_TYPES)}")
            elif keyword in ("enum", "required"):
                _given(given, list, here)
            elif keyword == "pattern":
                self._patterns[_given(given, str, here)] = LinearRegex(given)
            elif keyword == "$ref":
                self._targets[_given(given, str, here)] = self._resolved(given, here)

    def _resolved(self, reference: str, here: str) -> Any:
        """What a reference into this schema points at (JSON Pointer, RFC 6901)."""
        found: Any = self._root
        if not reference.startswith("#"):
            raise ConfigError(f"the JSON schema refers to {reference!r} at {here}; only '#/...' is followed")
        for part in reference[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or key not in found:
                raise ConfigError(f"the JSON schema refers to {reference!r} at {here}, where there is nothing")
            found = found[key]
        return found


class _Visit:
    """One value against a schema, each pair of subschema and value once."""

    def __init__(self, schema: JsonSchema) -> None:
        self._schema = schema
        self._known: dict[tuple[int, int], str | None] = {}
        self._under_way: set[tuple[int, int]] = set()

    def fault(self, schema: Any, value: Any) -> str | None:
        if isinstance(schema, bool):
            return None if schema else "false"
        pair = (id(schema), id(value))
        if pair in self._known:
            return self._known[pair]
        if pair in self._under_way:
            # a reference that leads to itself says nothing
            return None
        self._under_way.add(pair)
        self._schema.work += 1
        found = next(
            (k for k, given in schema.items() if k not in _NOTES and not self._holds(schema, k, given, value)), None
        )
        self._under_way.discard(pair)
        self._known[pair] = found
        return found

    def _passes(self, schema: Any, value: Any) -> bool:
        return self.fault(schema, value) is None

    def _holds(self, schema: dict[str, Any], keyword: str, given: Any, value: Any) -> bool:
        if keyword in _BOUNDS:
            return _BOUNDS[keyword](value, given)
        return getattr(self, f"_{keyword.strip('$')}")(schema, given, value)

    def _type(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return any(_TYPES[name](value) for name in (given if isinstance(given, list) else [given]))

    def _enum(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        key = self._key(value)
        return any(key == self._key(each) for each in given)

    def _const(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return self._key(value) == self._key(given)

    def _ref(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return self._passes(self._schema.target(given), value)

    def _pattern(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return not isinstance(value, str) or self._schema.pattern(given).search(value)

    def _not(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return not self._passes(given, value)

    def _allOf(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return all(self._passes(each, value) for each in given)

    def _anyOf(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return any(self._passes(each, value) for each in given)

    def _oneOf(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return sum(self._passes(each, value) for each in given) == 1

    def _required(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return not isinstance(value, dict) or all(name in value for name in given)

    def _properties(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return not isinstance(value, dict) or all(self._passes(given[n], v) for n, v in value.items() if n in given)

    def _additionalProperties(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        known = schema.get("properties", {})
        return not isinstance(value, dict) or all(self._passes(given, v) for n, v in value.items() if n not in known)

    def _propertyNames(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return not isinstance(value, dict) or all(self._passes(given, name) for name in value)

    def _prefixItems(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return not isinstance(value, list) or all(map(self._passes, given, value))

    def _items(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        start = len(schema.get("prefixItems", ()))
        return not isinstance(value, list) or all(self._passes(given, each) for each in value[start:])

    def _uniqueItems(self, schema: dict[str, Any], given: Any, value: Any) -> bool:
        return not given or not isinstance(value, list) or len({self._key(each) for each in value}) == len(value)

    def _key(self, value: Any) -> Any:
        """Equal for values that JSON Schema holds equal: 1 and 1.0 are, 1 and true aren't."""
        if isinstance(value, bool) or value is None:
            return (str(value),)
        if isinstance(value, list):
            return ("list", *map(self._key, value))
        if isinstance(value, dict):
            return ("dict", frozenset((name, self._key(each)) for name, each in value.items()))
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise NotJson("is JSON with a key twice in one object")
    return values


def _no_constant(name: str) -> Any:
    raise NotJson("is JSON with NaN or Infinity, which JSON doesn't have")


def _given(given: Any, kind: type, here: str) -> Any:
    if not isinstance(given, kind):
        raise ConfigError(f"the JSON schema needs a {kind.__name__} at {here}, got {given!r}")
    return given


def _known() -> str:
    return ", ".join(sorted(KEYWORDS))
