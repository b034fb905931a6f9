"""Forms as browsers send them, and what their fields must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qs

from starlette.requests import Request

from raysafe.errors import ConfigError
from raysafe.serving.incoming import read_body
from raysafe.serving.wire.errors import ApiError

BODY_BYTES, BODY_S, MOST_FIELDS = 64 << 10, 10.0, 64
LONGEST_NOTE = 10_000

Choice = TypeVar("Choice", bound=str)


class Form(NamedTuple):
    """A form's fields, or an address's query; each may stand there several times."""

    fields: Mapping[str, list[str]]

    def get(self, name: str, default: str = "") -> str:
        return self.fields.get(name, [default])[0]

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(self.fields.get(name, ()))

    def one_of(self, name: str, *choices: Choice) -> Choice:
        """The field, which must be one of these; raises ConfigError."""
        value = self.get(name)
        for choice in choices:
            if choice == value:
                return choice
        raise ConfigError(f"choose one of {', '.join(choices)}; '{value[:40]}' is none of them")

    def note(self, name: str = "note") -> str:
        """A person's reason; raises ConfigError where there is none, or it is none that every store can keep."""
        value = self.get(name).strip().replace("\r\n", "\n")
        if not value:
            raise ConfigError("a reason is needed: it is kept with the decision and in the audit log")
        if len(value) > LONGEST_NOTE or "\x00" in value:
            raise ConfigError(f"a reason has at most {LONGEST_NOTE:,} characters, and no NUL; shorten it")
        return value


EMPTY = Form({})


async def read_form(request: Request) -> Form:
    """The form in a request's body; raises ApiError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise ApiError(415, "a form is sent as application/x-www-form-urlencoded", code="not_a_form")
    body = await read_body(request, most_bytes=BODY_BYTES, limit_s=BODY_S)
    return parse_form(body.decode("utf-8", "replace"))


def parse_form(text: str) -> Form:
    """The fields of an encoded form or query; raises ApiError where there are too many."""
    try:
        return Form(parse_qs(text, keep_blank_values=True, errors="replace", max_num_fields=MOST_FIELDS))
    except ValueError:
        raise ApiError(400, f"a form has at most {MOST_FIELDS} fields", code="too_many_fields") from None
