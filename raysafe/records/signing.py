"""Ed25519 keys (RFC 8032) in files that only their owner reads."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from raysafe.errors import StorageError


def create_key(path: Path, owner: str) -> bool:
    """Write a new private key; False where one is there already, which is left alone. Raises StorageError.

    It is written beside and linked, so that of several that begin at once one wins and all use its key.
    """
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(f"can't write {owner} key {path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return True


def load_key(path: Path, owner: str, remedy: str) -> Ed25519PrivateKey:
    """The private key in a file; raises StorageError."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(f"can't read {owner} key {path}: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise StorageError(f"{path} is no Ed25519 key: {remedy}")
    return key


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public key's 32 bytes, as hex."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def signed_by(public_key: str, message: bytes, signature: str) -> bool:
    """Whether the signature (hex) of these bytes is by the public key (hex)."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), message)
    except (ValueError, InvalidSignature):
        return False
    return True
