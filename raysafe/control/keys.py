"""API keys: random secrets shown once, known afterwards by their SHA-256 digests alone."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from raysafe.config import Config

PREFIX = "rs-"
NAME = r"^\w[\w.@-]*$"
Scope = Literal["user", "reviewer", "operator"]
HOUSE = "default"
"""The tenant of who runs the service: keys that name no other are its own."""


class Key(Config):
    """A key as it is kept: never the secret itself."""

    id: str = Field(pattern=NAME, max_length=64, description="Names the key in audit rows and budgets.")
    sha256: str = Field(min_length=64, max_length=64)
    tenant: str = Field(
        default=HOUSE, pattern=NAME, max_length=64, description="Whose key it is; budgets and policies go by it."
    )
    scopes: tuple[Scope, ...] = Field(
        default=("user",), min_length=1, description="user asks the model, reviewer decides, operator runs the service."
    )
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    expires: AwareDatetime | None = Field(default=None, description="From then on it opens nothing; none: never.")

    def reviews(self, tenant: str) -> bool:
        """Whether it sees and decides what concerns a tenant: operators do for all, reviewers for their own."""
        return "operator" in self.scopes or ("reviewer" in self.scopes and self.tenant == tenant)

    @property
    def reviews_all(self) -> bool:
        """Whether it decides what concerns every tenant, such as whether a model is served: operators, and reviewers
        of the house's own tenant."""
        return self.reviews(HOUSE)


def new_key(
    key_id: str, tenant: str = HOUSE, scopes: Sequence[Scope] = ("user",), expires: datetime | None = None
) -> tuple[Key, str]:
    """(what is kept, the secret). The secret has 256 random bits, so that one round of SHA-256 hides it."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return Key(id=key_id, sha256=_digest(secret), tenant=tenant, scopes=tuple(scopes), expires=expires), secret


class KeyRing:
    """Finds the key that a secret belongs to, comparing with every key in constant time. Any thread may use it."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """From now on these keys open, and no others."""
        self._keys = tuple(keys)

    def identify(self, secret: str) -> Key | None:
        """The secret's key, or None, also where it has expired."""
        return self.with_digest(_digest(secret))

    def with_digest(self, digest: str) -> Key | None:
        """The key that is kept as this digest of its secret, or None, also where it has expired."""
        found = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.sha256):
                found = key
        if found is not None and found.expires is not None and found.expires <= datetime.now(UTC):
            return None
        return found


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
