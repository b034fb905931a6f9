"""Sinks: whom the monitor tells, and how. A webhook is signed as Standard Webhooks 1.0 says (webhook-signature: v1,…).

The signature is HMAC-SHA256 over id.timestamp.body, so that a receiver can tell a forged, changed or replayed message;
the id is the same however often a message is sent, which is at least once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import httpx
from pydantic import Field, field_validator, model_validator

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.judges.spec import safe_url

logger = logging.getLogger("raysafe.alerts")
_PREFIX = "whsec_"


class NotTaken(Exception):
    """The sink didn't take a message; it is sent again."""


class LogSink(Config):
    """`kind: log`: a line in the monitor's own log."""

    kind: Literal["log"] = "log"
    name: str = Field(default="log", min_length=1)

    def send(self, delivery_id: str, body: dict[str, Any]) -> None:
        for event in body["events"]:
            logger.warning("%s", sentence(event))


class FileSink(Config):
    """`kind: file`: a line of JSON for each message, on disk before it counts as told."""

    kind: Literal["file"] = "file"
    name: str = Field(default="file", min_length=1)
    path: Path = Field(description="It is made, and added to.")

    def send(self, delivery_id: str, body: dict[str, Any]) -> None:
        line = json.dumps({"id": delivery_id, **body}, ensure_ascii=False, separators=(",", ":")) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NotTaken(f"can't write {self.path}: {error.strerror}") from None


class WebhookSink(Config):
    """`kind: webhook`: a signed POST of JSON."""

    kind: Literal["webhook"] = "webhook"
    name: str = Field(default="webhook", min_length=1)
    url: str = Field(description="https, or http on this machine.")
    secret_env: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable of the monitor with the secret: whsec_ and base64 of 24 to 64 bytes.",
    )
    timeout_s: float = Field(default=10.0, gt=0, le=60)

    @field_validator("url")
    @classmethod
    def _safe(cls, url: str) -> str:
        return safe_url(url)

    @model_validator(mode="after")
    def _needs_its_secret(self) -> Self:
        self.secret()
        return self

    def secret(self) -> bytes:
        """Raises ConfigError where the variable holds none; its value is never shown."""
        text = os.environ.get(self.secret_env, "")
        try:
            secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            secret = b""
        if not text.startswith(_PREFIX) or not 24 <= len(secret) <= 64:
            raise ConfigError(
                f"the sink '{self.name}' signs with the secret in ${self.secret_env}, which must be whsec_ and base64 "
                "of 24 to 64 bytes: python -c \"import secrets, base64; print('whsec_' + "
                'base64.b64encode(secrets.token_bytes(32)).decode())"'
            )
        return secret

    def send(self, delivery_id: str, body: dict[str, Any]) -> None:
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        sent = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery_id,
            "webhook-timestamp": str(sent),
            "webhook-signature": signature(self.secret(), delivery_id, sent, content),
        }
        try:
            answer = httpx.post(self.url, content=content, headers=headers, timeout=self.timeout_s)
        except httpx.HTTPError as error:
            raise NotTaken(f"{type(error).__name__} from the webhook '{self.name}'") from None
        if not answer.is_success:
            raise NotTaken(f"the webhook '{self.name}' answered {answer.status_code}")


Sink = Annotated[LogSink | FileSink | WebhookSink, Field(discriminator="kind")]


def signature(secret: bytes, delivery_id: str, timestamp: int, content: bytes) -> str:
    """v1 of Standard Webhooks: base64 of HMAC-SHA256 over id.timestamp.content."""
    signed = hmac.new(secret, f"{delivery_id}.{timestamp}.".encode() + content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def sentence(event: dict[str, Any]) -> str:
    """An event for people."""
    what = f"{event['severity']} alert {event['id']} {event['event']}"
    return f"{what}: {event['rule']} of {event['service']}: {event['summary']}"
