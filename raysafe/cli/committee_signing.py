"""A member's key, and `raysafe committee sign`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import tyro
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raysafe.errors import ConfigError, StorageError
from raysafe.oversight.committee.statements import read_statement
from raysafe.records.signing import load_key

KeyFile = Annotated[
    str | None, tyro.conf.arg(help="Your private key; RAYSAFE_COMMITTEE_KEY or ~/.raysafe/committee-key.pem.")
]
Member = Annotated[str | None, tyro.conf.arg(help="Your name or id; whose key it is by default.")]


def key_path(given: str | None) -> Path:
    return Path(given or os.environ.get("RAYSAFE_COMMITTEE_KEY") or Path.home() / ".raysafe" / "committee-key.pem")


def read_key(given: str | None) -> Ed25519PrivateKey:
    """The private key; raises StorageError, also where others than its owner may read it."""
    path = key_path(given)
    if not path.exists():
        raise StorageError(f"there is no key {path}: give --key, or make one by `raysafe committee join`")
    if path.stat().st_mode & 0o077:
        raise StorageError(f"others than its owner may read the key {path}: run chmod 600 on it, or revoke it")
    return load_key(path, "the member's", "give --key with one")


def read_payload(file: str) -> str:
    """What is to be signed, or was, as a file holds it (- for standard input); raises ConfigError."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no statement: byte {error.start} is not UTF-8") from None
    return text.rstrip("\n")


def sign(file: tyro.conf.Positional[str], *, key: KeyFile = None) -> int:
    """Sign what `vote --payload` printed, or a page shows, in FILE (- for standard input); prints the signature.

    Says on standard error what it is that is signed. The store isn't asked: it may be done on another machine.
    """
    payload = read_payload(file)
    said = read_statement(payload).model_dump(mode="json")
    shown = {name: said[name] for name in ("kind", "review", "stage", "finding", "choice", "reason") if name in said}
    print(f"signing: {shown} on {said.get('bound', {}).get('model', 'the committee')}", file=sys.stderr)
    print(read_key(key).sign(payload.encode()).hex())
    return 0
