"""The README's measured blocks, and how a verification rewrites them.

A block is what stands between `<!-- measured: NAME -->` and `<!-- /measured -->`. `make verify` sets RAYSAFE_VERIFY;
without it, a slow test measures and asserts as it does there, and prints its block instead of writing it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BLOCK = re.compile(r"<!-- measured: (?P<name>[\w-]+) -->\n(?P<text>.*?)<!-- /measured -->", re.DOTALL)


def blocks(text: str) -> dict[str, str]:
    """The measured blocks of a README by name."""
    return {found["name"]: found["text"] for found in BLOCK.finditer(text)}


def replaced(text: str, name: str, block: str) -> str:
    """The README with one block's text replaced; raises KeyError where it has no such block."""
    if name not in blocks(text):
        raise KeyError(f"README.md has no block 'measured: {name}'")
    whole = f"<!-- measured: {name} -->\n{block.rstrip()}\n<!-- /measured -->"
    return BLOCK.sub(lambda found: whole if found["name"] == name else found[0], text)


def publish(name: str, block: str) -> None:
    """Write a block into the README, or print it where this is no verification."""
    text = replaced(README.read_text(encoding="utf-8"), name, block)
    if os.environ.get("RAYSAFE_VERIFY"):
        README.write_text(text, encoding="utf-8")
    print(f"\n{name}:\n{block}")
