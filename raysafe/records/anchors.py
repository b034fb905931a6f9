"""Anchors: signed heads of audit chains, kept in a second place that the chains' writer can be kept from changing.

Each names the sha256 of the one before it, so that one taken from among them is missed. Who holds the private key can
sign anything: keep it from those whom the log watches.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from raysafe.errors import StorageError
from raysafe.records.anchor_place import open_place
from raysafe.records.signing import create_key, load_key

PUBLIC_KEY = "public-key.pem"
FIRST = "0" * 64
_OWNER = "the audit log's"


class Anchors:
    """`<place>/<writer>/<seq>.json`, one file per anchor, none ever rewritten."""

    def __init__(self, folder: Path, place: str | None = None) -> None:
        """folder: the audit log's. place: a folder or pyarrow filesystem URI; RAYSAFE_AUDIT_ANCHORS by default."""
        self.folder = folder
        default = str(folder.absolute().parent / f"{folder.name}-anchors")
        self.place = place or os.environ.get("RAYSAFE_AUDIT_ANCHORS") or default
        self._files = open_place(self.place)
        self._key: Ed25519PrivateKey | None = None
        self._previous: dict[str, str] = {}

    def add(self, writer: str, seq: int, head: str) -> None:
        """Sign and store the head of a chain; raises StorageError."""
        key = self._private_key()
        # read anew unless the last write is known to have succeeded
        previous = self._previous.pop(writer, None) or self._last_digest(writer)
        statement = {"writer": writer, "seq": seq, "hash": head, "time": datetime.now(UTC).isoformat()}
        statement["previous"] = previous
        content = json.dumps({**statement, "signature": key.sign(_bytes(statement)).hex()}).encode()
        if not self._files.create(f"{writer}/{_name(seq)}", content):
            there = self.latest(writer)
            if not there or (there["seq"], there["hash"]) != (seq, head):
                raise StorageError(
                    f"{self.place} holds another anchor of row {seq} of '{writer}': another log uses the place, or "
                    "the chain was rewritten; `raysafe audit verify` tells"
                )
            return  # an earlier try succeeded though its answer was lost
        self._previous[writer] = sha256(content).hexdigest()

    def latest(self, writer: str) -> dict[str, Any] | None:
        """The last anchor whose signature is right; raises StorageError where the place can't be read."""
        key, _ = self.trusted_key()
        for name in reversed(self._names(writer)):
            anchor = self._read(writer, name, key)[0]
            if not anchor["problem"]:
                return anchor
        return None

    def writers(self) -> list[str]:
        """Chains that have anchors."""
        return [name for name, is_folder in self._files.list() if is_folder and self._names(name)]

    def of(self, writer: str, key: Ed25519PublicKey | None) -> Iterator[dict[str, Any]]:
        """A chain's anchors in order; each has `problem`, None where its signature and its predecessor are right."""
        before = FIRST
        for name in self._names(writer):
            anchor, digest = self._read(writer, name, key)
            # anchors of version 0.1.0's first logs name no predecessor
            if not anchor["problem"] and anchor.get("previous", before) != before:
                anchor["problem"] = f"an anchor before {name} was removed or replaced"
            before = digest
            yield anchor

    def trusted_key(self) -> tuple[Ed25519PublicKey | None, str | None]:
        """The key that signatures are checked with, and what is wrong with the published one.

        It is the public half of the log's own private key where that is at hand, else the published one.
        """
        published = self._files.read(PUBLIC_KEY)
        if self.key_path.exists():
            own = self._load_key().public_key()
            if published == _public_pem(own):
                return own, None
            return (
                own,
                f"the published key {PUBLIC_KEY} is {'missing' if published is None else 'another'}, not the log's own",
            )
        try:
            key = serialization.load_pem_public_key(published or b"")
        except ValueError:
            key = None
        if isinstance(key, Ed25519PublicKey):
            return key, None
        return None, f"the published key {PUBLIC_KEY} is missing or damaged: no anchor can be checked"

    @property
    def key_path(self) -> Path:
        """The private key's file: RAYSAFE_AUDIT_KEY, or audit-key.pem beside the log's folder."""
        return Path(os.environ.get("RAYSAFE_AUDIT_KEY") or self.folder.absolute().parent / "audit-key.pem")

    def _names(self, writer: str) -> list[str]:
        return [name for name, is_folder in self._files.list(writer) if name.endswith(".json") and not is_folder]

    def _last_digest(self, writer: str) -> str:
        names = self._names(writer)
        return sha256(self._files.read(f"{writer}/{names[-1]}") or b"").hexdigest() if names else FIRST

    def _read(self, writer: str, name: str, key: Ed25519PublicKey | None) -> tuple[dict[str, Any], str]:
        """An anchor, and the sha256 of its file."""
        content = self._files.read(f"{writer}/{name}") or b""
        digest = sha256(content).hexdigest()
        try:
            if key is None:
                raise ValueError("no key")
            anchor = json.loads(content)
            statement = {field: value for field, value in dict(anchor).items() if field != "signature"}
            key.verify(bytes.fromhex(anchor["signature"]), _bytes(statement))
            right = anchor["writer"] == writer and name == _name(anchor["seq"]) and isinstance(anchor["hash"], str)
        except (ValueError, KeyError, TypeError, RecursionError, InvalidSignature) as error:
            problem = f"anchor {name} is forged or damaged ({type(error).__name__})"
            return {"seq": -1, "hash": "", "problem": problem}, digest
        if not right:
            return {"seq": -1, "hash": "", "problem": f"anchor {name} was moved from another place"}, digest
        return statement | {"problem": None}, digest

    def _load_key(self) -> Ed25519PrivateKey:
        return load_key(self.key_path, _OWNER, "set RAYSAFE_AUDIT_KEY to one")

    def _private_key(self) -> Ed25519PrivateKey:
        if self._key is None:
            # looked at before the key: whoever publishes has made its key first
            published = self._files.read(PUBLIC_KEY)
            if not self.key_path.exists():
                if published is not None:
                    raise StorageError(
                        f"{self.place} holds anchors of a key that is gone from {self.key_path}: restore it, "
                        "set RAYSAFE_AUDIT_KEY, or anchor in another place"
                    )
                create_key(self.key_path, _OWNER)
            key = self._load_key()
            pem = _public_pem(key.public_key())
            if published is None and not self._files.create(PUBLIC_KEY, pem):
                published = self._files.read(PUBLIC_KEY)
            if published not in (None, pem):
                raise StorageError(
                    f"{self.place} holds anchors of another key than {self.key_path}: set RAYSAFE_AUDIT_KEY to theirs, "
                    "or anchor in another place"
                )
            self._key = key
        return self._key


def _name(seq: int) -> str:
    return f"{seq:012d}.json"


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _bytes(statement: dict[str, Any]) -> bytes:
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
