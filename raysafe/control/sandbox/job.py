"""What a sandbox is asked to do: Python source or a program, and the files that it starts with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Self

from raysafe.control.sandbox.policy import Policy
from raysafe.errors import ConfigError

MAX_CODE_BYTES = 8 << 20


@dataclass(frozen=True)
class Job:
    """Python source (`code` is a str) or a program with its arguments (`code` is a tuple)."""

    code: str | tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(
        cls, code_or_argv: str | list[str] | tuple[str, ...], files: Mapping[str, bytes | str] | None = None
    ) -> Self:
        """Raises ConfigError for what is neither source nor a program, and for files that don't belong in a folder."""
        if isinstance(code_or_argv, str):
            code: str | tuple[str, ...] = code_or_argv
        elif isinstance(code_or_argv, list | tuple) and code_or_argv:
            code = tuple(code_or_argv)
        else:
            raise ConfigError(f"a sandbox runs a str of Python or a list of arguments, got {code_or_argv!r:.80}")
        words = (code,) if isinstance(code, str) else code
        for word in words:
            if not isinstance(word, str) or "\0" in word or not _encodes(word):
                raise ConfigError("code and arguments for a sandbox must be text without NUL and lone surrogates")
        given = {name: text.encode() if isinstance(text, str) else bytes(text) for name, text in (files or {}).items()}
        return cls(code, given)

    def check(self, policy: Policy) -> None:
        """Raise ConfigError for what the policy has no room for."""
        size = sum(len(word.encode()) for word in ((self.code,) if isinstance(self.code, str) else self.code))
        if size > MAX_CODE_BYTES:
            raise ConfigError(f"the code has {size} bytes; more than {MAX_CODE_BYTES} belong into files")
        for name in self.files:
            pure = PurePosixPath(name)
            if not name.isprintable() or pure.is_absolute() or ".." in pure.parts or str(pure) != name or name == ".":
                raise ConfigError(
                    f"file {name!r:.80} must be a plain path inside the sandbox's folder, as 'data/in.csv'"
                )
            if any(parent in self.files for parent in map(str, pure.parents)):
                raise ConfigError(f"file '{name}' lies in a folder that is a file as well")
        total = sum(map(len, self.files.values()))
        if total > policy.disk_bytes or len(self.files) > policy.inodes:
            raise ConfigError(
                f"{len(self.files)} files of {total} bytes are more than the policy's disk_bytes "
                f"({policy.disk_bytes}) and inodes ({policy.inodes}) hold: raise those, or give less"
            )

    def order(self) -> dict[str, Any]:
        """The message that process 1 takes; the files' bytes follow it."""
        files = [[name, len(content)] for name, content in self.files.items()]
        return {"files": files} | ({"source": self.code} if isinstance(self.code, str) else {"argv": list(self.code)})


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
