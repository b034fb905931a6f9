"""From a request's body to its model, or to an error that names the parameter."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from raysafe.serving.wire.errors import ApiError

Body = TypeVar("Body", bound=BaseModel)


class Wire(BaseModel):
    """A part of a request. A parameter that would change nothing here is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def parse_body(model: type[Body], body: bytes) -> Body:
    """The request in a body; raises ApiError 400 naming the parameter."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        param = ".".join(str(part) for part in problem["loc"]) or None
        if problem["type"] == "extra_forbidden":
            raise ApiError(400, f"'{param}' isn't supported here", code="unsupported_parameter", param=param) from None
        message = f"{param}: {problem['msg']}" if param else f"the body isn't a JSON request: {problem['msg']}"
        raise ApiError(400, message, code="invalid_value", param=param) from None
