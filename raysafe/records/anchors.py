"""Anchors: signed heads of audit chains, kept in a second place that the chains' writer can be kept from changing."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pyarrow import fs

from raysafe.errors import StorageError

PUBLIC_KEY = "public-key.pem"


class Anchors:
    """`<place>/<writer>/<seq>.json`, one file per anchor, none ever rewritten."""

    def __init__(self, folder: Path, place: str | None = None) -> None:
        """folder: the audit log's. place: a folder or pyarrow filesystem URI; RAYSAFE_AUDIT_ANCHORS by default."""
        self.folder = folder
        default = str(folder.absolute().parent / f"{folder.name}-anchors")
        self.place = place or os.environ.get("RAYSAFE_AUDIT_ANCHORS") or default
        try:
            self.fs, self.path = (
                fs.FileSystem.from_uri(self.place)
                if "://" in self.place
                else (fs.LocalFileSystem(), str(Path(self.place).absolute()))
            )
        except (ValueError, OSError) as error:
            raise StorageError(f"can't open the anchors at {self.place}: {error}") from None
        self._key: Ed25519PrivateKey | None = None

    def add(self, writer: str, seq: int, head: str) -> None:
        """Sign and store the head of a chain."""
        key = self._private_key()
        statement = {"writer": writer, "seq": seq, "hash": head, "time": datetime.now(UTC).isoformat()}
        signature = key.sign(_bytes(statement)).hex()
        self._write(f"{writer}/{seq:012d}.json", json.dumps({**statement, "signature": signature}).encode())

    def writers(self) -> list[str]:
        """Chains that have anchors."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        return sorted(i.base_name for i in self.fs.get_file_info(selector) if i.type == fs.FileType.Directory)

    def of(self, writer: str) -> list[dict[str, Any]]:
        """A chain's anchors in order; each has `problem`, None where its signature is right."""
        selector = fs.FileSelector(f"{self.path}/{writer}", allow_not_found=True)
        found = []
        for info in sorted(self.fs.get_file_info(selector), key=lambda i: i.path):
            found.append(self._checked(writer, info))
        return found

    def _checked(self, writer: str, info: fs.FileInfo) -> dict[str, Any]:
        try:
            with self.fs.open_input_stream(info.path) as stream:
                anchor = json.loads(stream.read())
            statement = {name: anchor[name] for name in ("writer", "seq", "hash", "time")}
            self._public_key().verify(bytes.fromhex(anchor["signature"]), _bytes(statement))
        except (ValueError, KeyError, TypeError, InvalidSignature) as error:
            return {
                "seq": -1,
                "hash": "",
                "problem": f"anchor {info.base_name} is forged or damaged ({type(error).__name__})",
            }
        right = anchor["writer"] == writer and info.base_name == f"{anchor['seq']:012d}.json"
        return anchor | {"problem": None if right else f"anchor {info.base_name} was moved from another place"}

    @property
    def key_path(self) -> Path:
        """The private key's file: RAYSAFE_AUDIT_KEY, or audit-key.pem beside the log's folder."""
        return Path(os.environ.get("RAYSAFE_AUDIT_KEY") or self.folder.absolute().parent / "audit-key.pem")

    def _private_key(self) -> Ed25519PrivateKey:
        if self._key is None:
            if not self.key_path.exists():
                self._create_key()
            key = serialization.load_pem_private_key(self.key_path.read_bytes(), password=None)
            if not isinstance(key, Ed25519PrivateKey):
                raise StorageError(f"{self.key_path} is no Ed25519 key: move it away, and a new one is made")
            self._key = key
            self._publish(key)
        return self._key

    def _create_key(self) -> None:
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # written beside and linked, so that of two processes that begin at once one wins and both use its key
        temporary = self.key_path.with_name(f".{self.key_path.name}.{os.getpid()}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        try:
            os.link(temporary, self.key_path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()

    def _publish(self, key: Ed25519PrivateKey) -> None:
        pem = _public_pem(key.public_key())
        if self.fs.get_file_info(f"{self.path}/{PUBLIC_KEY}").type == fs.FileType.NotFound:
            self._write(PUBLIC_KEY, pem)

    def _public_key(self) -> Ed25519PublicKey:
        """The published key; the local private key, where there is one, must match it."""
        with self.fs.open_input_stream(f"{self.path}/{PUBLIC_KEY}") as stream:
            pem = stream.read()
        key = serialization.load_pem_public_key(pem)
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("the published key is no Ed25519 key")
        if self.key_path.exists():
            own = serialization.load_pem_private_key(self.key_path.read_bytes(), password=None)
            if isinstance(own, Ed25519PrivateKey) and _public_pem(own.public_key()) != pem:
                raise ValueError("the published key is not that of the log")
        return key

    def _write(self, name: str, content: bytes) -> None:
        target = f"{self.path}/{name}"
        self.fs.create_dir(os.path.dirname(target), recursive=True)
        with self.fs.open_output_stream(target) as stream:
            stream.write(content)


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _bytes(statement: dict[str, Any]) -> bytes:
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
