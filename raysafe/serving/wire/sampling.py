"""What chat and plain completions ask for alike: how the text is drawn, and whether it is streamed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from raysafe.serving.wire.parsing import Wire


class StreamOptions(Wire):
    """`include_obfuscation` asks for padding against eavesdroppers who measure the pieces. It isn't done here, so false
    and null, which ask for none, are taken and true is refused: who counts on the padding must know."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None

    @field_validator("include_obfuscation")
    @classmethod
    def _no_padding(cls, wanted: bool | None) -> bool | None:
        if wanted:
            raise PydanticCustomError("unsupported", "streams aren't padded here; leave it out or send false")
        return wanted


class SampledRequest(Wire):
    """Settings of a written answer. Penalties and log-probabilities are taken where they ask for nothing."""

    model: str
    max_tokens: int | None = Field(default=None, ge=1, le=1 << 31)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop: tuple[str, ...] = Field((), max_length=4, fail_fast=True)
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    n: Literal[1] = 1
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(
        default=None, description="Accepted for compatibility; requests are told apart by their key."
    )

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, stop: Any) -> Any:
        return (stop,) if isinstance(stop, str) else stop or ()

    @field_validator("temperature", "top_p", "n", "stream", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        return cls.model_fields[info.field_name].default if value is None else value

    @field_validator("stream_options")
    @classmethod
    def _only_of_a_stream(cls, options: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if options is not None and info.data.get("stream") is False:
            raise PydanticCustomError("not_streamed", 'only allowed together with "stream": true')
        return options

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)
