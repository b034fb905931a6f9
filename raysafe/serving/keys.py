"""API keys: random secrets shown once, kept as SHA-256 digests in a file that only its owner can read."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
        self._check_name(key_id, self.read())
        return new_key(key_id)

    def keep(self, key: Key) -> None:
        """Add a key to the file; raises StorageError where that fails, or its name was taken in the meantime."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                kept = self.read()
                self._check_name(key.id, kept)
                self._replace([*kept, key])
        except OSError as error:
            raise StorageError(f"can't write the API keys to {self.path}: {error.strerror}") from None

    def _check_name(self, key_id: str, kept: list[Key]) -> None:
        if any(key.id == key_id for key in kept):
            raise StorageError(
                f"there is a key called '{key_id}' in {self.path} already; give the new one another name"
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One start at a time, or two that keep at once would each write back the file without the other's key."""
        # the lock has a file of its own: the keys' file is replaced, and its lock would go with it
        lock = self.path.with_name(f".{self.path.name}.lock")
        with open(os.open(lock, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _replace(self, keys: list[Key]) -> None:
        """Write the file anew and put it in the old one's place, whole."""
        text = json.dumps([key.model_dump(mode="json") for key in keys], indent=2)
        partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
