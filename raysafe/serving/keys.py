"""API keys: random secrets shown once, kept as SHA-256 digests in a file that only its owner can read."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from raysafe.config import Config
from raysafe.errors import StorageError

PREFIX = "rs-"


class Key(Config):
    """A key as it is kept: never the secret itself."""

    id: str = Field(description="Names the key in audit rows and rate limits.")
    sha256: str = Field(min_length=64, max_length=64)
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))


def new_key(key_id: str) -> tuple[Key, str]:
    """(what is kept, the secret). The secret has 256 random bits, so that one round of SHA-256 hides it."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return Key(id=key_id, sha256=_digest(secret)), secret


class KeyRing:
    """Finds the key that a secret belongs to, comparing with every key in constant time."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = [(key.id, key.sha256) for key in keys]

    def identify(self, secret: str) -> str | None:
        """The id of the secret's key, or None."""
        digest, found = _digest(secret), None
        for key_id, kept in self._keys:
            if hmac.compare_digest(digest, kept):
                found = key_id
        return found


class KeyFile:
    """The keys of this store, as JSON."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def read(self) -> list[Key]:
        """The keys; none where there is no file yet. Raises StorageError where it can't be read."""
        try:
            return [Key.model_validate(item) for item in json.loads(self.path.read_text())]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"can't read the API keys in {self.path}: {error.strerror}") from None
        except (ValueError, TypeError, ValidationError):
            raise StorageError(
                f"{self.path} holds no API keys; move it away and `raysafe serve` makes a new one"
            ) from None

    def make(self, key_id: str) -> tuple[Key, str]:
        """A new key and its secret, not kept yet; raises StorageError where the name is taken."""
        if any(key.id == key_id for key in self.read()):
            raise StorageError(
                f"there is a key called '{key_id}' in {self.path} already; give the new one another name"
            )
        return new_key(key_id)

    def keep(self, key: Key) -> None:
        """Add a key to the file, which is replaced whole."""
        text = json.dumps([item.model_dump(mode="json") for item in [*self.read(), key]], indent=2)
        partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        except OSError as error:
            raise StorageError(f"can't write the API keys to {self.path}: {error.strerror}") from None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
