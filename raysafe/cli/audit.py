"""`raysafe audit verify | show | anchor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from raysafe.cli.arguments import AsJson
from raysafe.cli.output import print_json, print_table
from raysafe.errors import StorageError
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.audit_chain import SUFFIX
from raysafe.records.audit_read import search, wanted
from raysafe.records.audit_verify import verify as verify_folder

Folder = Annotated[str | None, tyro.conf.arg(help="Folder of the log; RAYSAFE_AUDIT or audit/ beside the store.")]
Place = Annotated[str | None, tyro.conf.arg(help="Where anchors are; RAYSAFE_AUDIT_ANCHORS or <folder>-anchors.")]
STORE = tyro.conf.arg(help="Store whose decisions must be the log's; the default one where this is its log.")


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {"verify": verify, "show": show, "anchor": anchor}
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe audit", description=__doc__)


def verify(
    *, folder: Folder = None, anchors: Place = None, store: Annotated[str | None, STORE] = None, as_json: AsJson = False
) -> int:
    """Find any row changed, removed, moved, or cut off since the last anchor, and decisions that the store and the log
    don't agree on; exit code 1 where there is one."""
    root = _folder(folder, store)
    reports = verify_folder(root, anchors)
    url = store or _store_of(root)
    compared, objections = _compare(url, root) if url else (None, [])
    if as_json:
        chains = [r._asdict() | {"uncovered": r.uncovered} for r in reports]
        print_json({"chains": chains, "store": compared, "decisions": objections})
    else:
        rows = [
            (r.writer, r.rows, r.anchored, r.uncovered, "; ".join(r.problems) or r.note or "whole") for r in reports
        ]
        print_table(("chain", "rows", "anchored to", "covered by no anchor", "result"), rows)
        whole = "the store's decisions are those of the log" if compared else "no store to compare decisions with"
        print("\n".join(objections) or whole)
    return 1 if objections or any(r.problems for r in reports) else 0


def show(
    *,
    last: int = 20,
    writer: str | None = None,
    kind: Annotated[str | None, tyro.conf.arg(help="Rows of this kind alone, such as verdict or killed.")] = None,
    subject: Annotated[str | None, tyro.conf.arg(help="Rows on this request, model or key alone.")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> int:
    """The latest rows of all chains, or of one."""
    keep = wanted(kind or "", subject or "")
    found = search(_folder(folder), keep, most=last, pattern=writer or "*", looks=sys.maxsize)
    shown = [{"chain": each.chain} | each.row for each in reversed(found.rows)]
    if as_json:
        print_json(shown)
        return 0
    rows = [(r["time"][:19], r["chain"], r["seq"], r["kind"], r["actor"], r["subject"], r["details"]) for r in shown]
    print_table(("time", "chain", "row", "kind", "actor", "subject", "details"), rows)
    return 0


def anchor(*, folder: Folder = None, anchors: Place = None) -> int:
    """Sign and anchor the head of every chain that no process holds now."""
    root = _folder(folder)
    for path in _chains(root, None):
        name = path.name.removesuffix(SUFFIX)
        try:
            with AuditLog(root, name, anchors=anchors) as log:
                print(f"{name}: anchored to row {log.anchor_now()}")
        except StorageError as error:
            print(f"{name}: skipped, {error}")
    return 0


def _compare(url: str, root: Path) -> tuple[str, list[str]]:
    """The store's URL, less its password, and what its decisions and kill orders, and the log's, don't agree on."""
    from raysafe.control.kill_log import KillLog
    from raysafe.control.kill_orders import in_force, read_orders
    from raysafe.oversight.decisions import DecisionLog, newest_decisions
    from raysafe.records.store import open_store

    with open_store(url) as opened, opened.reading() as session:
        orders = in_force(read_orders(session), KillLog(root))
        disputed = [str(order) for order in orders if order.note]
        return opened.url, [*DecisionLog(root).objections(newest_decisions(session)), *disputed]


def _store_of(root: Path) -> str | None:
    """The default store where this is its log and it is there; opening a SQLite store would make it."""
    from raysafe.records.store import default_url, parse_url

    url = default_url()
    if audit_folder(url).resolve() != root.resolve():
        return None
    parsed = parse_url(url)
    return None if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file() else url


def _folder(given: str | None, store: str | None = None) -> Path:
    from raysafe.records.store import default_url

    folder = Path(given) if given else audit_folder(store or default_url())
    if not folder.is_dir():
        raise StorageError(f"there is no audit log in {folder}: give --folder, or set RAYSAFE_AUDIT")
    return folder


def _chains(folder: Path, writer: str | None) -> list[Path]:
    return sorted(folder.glob(f"{writer or '*'}{SUFFIX}"))
