"""Checking what a job left against its caller's schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from raysafe.control.sandbox.result import OutputRefused, Result
from raysafe.guards.json_schema import JsonSchema, NotJson, read_json

STDOUT = "stdout"


def validated(result: Result, schema: type[BaseModel] | Mapping[str, Any], output: str) -> Any:
    """The value of the JSON in stdout, or in a file; raises OutputRefused where it isn't there or doesn't fit."""
    try:
        text = result.stdout if output == STDOUT else result.files[output].decode()
        value = read_json(text)
        if isinstance(schema, Mapping):
            fault = JsonSchema(dict(schema)).fault(value)
        else:
            return schema.model_validate(value)
    except KeyError:
        raise OutputRefused(f"the code left no file '{output}'{_why(result)}", result) from None
    except UnicodeDecodeError:
        raise OutputRefused(f"{output} isn't UTF-8", result) from None
    except NotJson as error:
        raise OutputRefused(f"{output} isn't JSON that can be used: {error}{_why(result)}", result) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the value"
        raise OutputRefused(f"{output} doesn't fit the schema: {where}: {first['msg']}", result) from None
    if fault is not None:
        raise OutputRefused(f"{output} doesn't fit the schema: {fault}", result)
    return value


def _why(result: Result) -> str:
    if result.limit_hit is not None:
        return f" (it was ended by its {result.limit_hit} limit)"
    return f" (exit code {result.exit_code})" if result.exit_code else ""
