"""Data files of a Hugging Face dataset: `owner/name`, `owner/name:split`, `owner/name@revision:split`.

A split is a name in the files' paths (`test`, `harmless-base/test`), so only the files that are wanted are fetched.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from raysafe.errors import DataError

TIMEOUT_S = 10.0
_ID = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?(:(?P<split>[\w./-]+))?")
_NOT_A_WORD = "[!A-Za-z0-9_]"
logger = logging.getLogger(__name__)


class HubId(NamedTuple):
    """A dataset, and which of its revisions and files."""

    name: str
    revision: str | None
    split: str | None


def parse_hub_id(uri: str) -> HubId | None:
    """The dataset that `uri` names, or None where it can't be an id."""
    found = _ID.fullmatch(uri)
    return HubId(found["name"], found["revision"], found["split"]) if found else None


def split_patterns(split: str | None, suffixes: Iterable[str]) -> list[str]:
    """Globs of a split's files: `test` finds data/test-00000.parquet, but not latest.jsonl or test_prefs.parquet."""
    if split is None:
        return [f"*{suffix}" for suffix in suffixes]
    return [
        f"{before}{split}{after}{suffix}"
        for suffix in suffixes
        for before in ("", f"*{_NOT_A_WORD}")
        for after in ("", f"{_NOT_A_WORD}*")
    ]


def download(hub_id: HubId, suffixes: Iterable[str]) -> tuple[Path, list[str]]:
    """The folder of the fetched dataset and the names in it that are of the split; raises DataError.

    Where the hub can't be reached, a copy that was fetched whole before is used, and a warning says so.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    name, revision, split = hub_id
    patterns = split_patterns(split, suffixes)
    unreachable: Exception | None = None
    listed: list[str] = []
    try:
        # asked first because this call alone takes a timeout: snapshot_download waits for ever on a silent hub, 2.4
        info = HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_S)
        listed = [sibling.rfilename for sibling in info.siblings or []]
    except HfHubHTTPError as error:
        raise _unavailable(name, error) from error
    except Exception as error:  # no network: the client's errors, its HTTP library's and the system's come through
        unreachable = error
    if unreachable is None and not _matching(listed, patterns):
        wanted = f"of split '{split}'" if split else f"that ends in {', '.join(suffixes)}"
        shown = ", ".join(listed[:8]) + (", …" if len(listed) > 8 else "")
        raise DataError(f"the dataset {name} has no file {wanted}; its files: {shown or 'none'}")
    try:
        folder = snapshot_download(
            name,
            repo_type="dataset",
            revision=revision,
            allow_patterns=patterns,
            etag_timeout=TIMEOUT_S,
            local_files_only=unreachable is not None,
        )
    except Exception as error:
        raise _unavailable(name, unreachable or error) from error
    files = sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())
    chosen = _matching(files, patterns)
    if not chosen:
        raise _unavailable(name, unreachable or FileNotFoundError("no such file in the copy kept here"))
    if unreachable is not None:
        logger.warning("the hub can't be reached (%s): using the copy of %s kept here", _reason(unreachable), name)
    return Path(folder), chosen


def _matching(names: Iterable[str], patterns: list[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _unavailable(name: str, error: Exception) -> DataError:
    return DataError(
        f"'{name}' is no file here and can't be had from the Hugging Face hub ({_reason(error)}): "
        "check the path or the dataset id, or go online"
    )


def _reason(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return first[:200].rstrip(".:") or type(error).__name__
