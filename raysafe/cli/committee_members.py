"""`raysafe committee members | join | admit | revoke | policy`."""

from __future__ import annotations

from typing import Annotated, Any

import tyro
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raysafe.cli.arguments import AsJson, Store
from raysafe.cli.committee_signing import KeyFile, key_path, read_key
from raysafe.cli.output import print_json, print_table
from raysafe.errors import ConfigError, StorageError
from raysafe.oversight.committee.book import Book
from raysafe.oversight.committee.committee import Committee
from raysafe.oversight.committee.policy import CommitteePolicy, Role
from raysafe.oversight.committee.statements import Admission, PolicySetting, Revocation
from raysafe.records.signing import create_key, public_hex
from raysafe.records.store import open_store


def members(*, store: Store = None, as_json: AsJson = False) -> int:
    """Who is a member, asked to be one, or was one."""
    with open_store(store) as opened:
        found = list(Committee(opened).book().members.values())
    if as_json:
        print_json([vars(m) | {"state": m.state} for m in found])
        return 0
    rows = [
        (m.id, m.name, ", ".join(m.roles), m.state, f"{m.requested:%Y-%m-%d %H:%M}", m.public_key[:16]) for m in found
    ]
    print_table(("id", "name", "roles", "state", "asked (UTC)", "key"), rows)
    return 0


def join(
    name: tyro.conf.Positional[str],
    *,
    role: Annotated[tyro.conf.UseAppendAction[tuple[Role, ...]], tyro.conf.arg(help="Such as safety; repeatable.")],
    key: KeyFile = None,
    store: Store = None,
) -> int:
    """Make a key (a file that only you may read) and ask to be a member; the first member founds the committee."""
    path = key_path(key)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make the folder {path.parent}: {error.strerror}") from None
    with open_store(store) as opened:
        made = create_key(path, "the member's")
        member = Committee(opened).join(name, role, read_key(str(path)))
    print(f"{name} is {member.id}, key {member.public_key[:16]} in {path}{'' if made else ' (which was there)'}")
    if member.state == "active":
        print("this founds the committee; next: raysafe committee policy FILE")
    else:
        print(f"next, by a chair: raysafe committee admit {member.id}")
    return 0


def admit(member: tyro.conf.Positional[str], *, key: KeyFile = None, store: Store = None) -> int:
    """Admit who has asked to join, by a chair's key. Compare the key's beginning with what the member was shown."""
    with open_store(store) as opened:
        committee, chair = Committee(opened), read_key(key)
        book = committee.book()
        asked = book.member(member)
        facts = {"candidate": asked.id, "name": asked.name, "roles": asked.roles, "public_key": asked.public_key}
        committee.sign(Admission(**_head(book, chair), **facts), chair)
    print(f"{asked.name} is a member: {', '.join(asked.roles)}, key {asked.public_key[:16]}")
    return 0


def revoke(
    member: tyro.conf.Positional[str],
    *,
    reason: Annotated[str, tyro.conf.arg(help="Why; kept in the audit log.")],
    key: KeyFile = None,
    store: Store = None,
) -> int:
    """End a membership and its key, by a chair's key or the member's own; votes on what is open count no more."""
    with open_store(store) as opened:
        committee, chair = Committee(opened), read_key(key)
        book = committee.book()
        gone = book.member(member)
        committee.sign(Revocation(**_head(book, chair), revoked=gone.id, reason=reason), chair)
    print(f"{gone.name} ({gone.id}) is no member any more")
    return 0


def policy(
    file: tyro.conf.Positional[str | None] = None, *, key: KeyFile = None, store: Store = None, as_json: AsJson = False
) -> int:
    """Show the standing policy, or set it from a YAML file, by a chair's key.

    A new policy asks for new reviews: what was approved under another is served no more.
    """
    with open_store(store) as opened:
        committee = Committee(opened)
        book = committee.book()
        if file is not None:
            chair = read_key(key)
            book = committee.sign(PolicySetting(**_head(book, chair), policy=CommitteePolicy.load(file)), chair)
    standing = book.policy
    if standing is None:
        print("no policy stands: a single reviewer decides, by `raysafe review`")
        return 0
    if as_json:
        print_json(standing.model_dump(mode="json") | {"digest": standing.digest})
        return 0
    print(f"the policy '{standing.name}' stands ({standing.digest[:8]})")
    print(standing.to_yaml(), end="")
    return 0


def _head(book: Book, key: Ed25519PrivateKey) -> dict[str, Any]:
    """What the statements of the member with this key begin with."""
    found = [m for m in book.members.values() if m.public_key == public_hex(key)]
    if not found or book.founding is None:
        raise ConfigError("no member has this key: give --key, or join first by `raysafe committee join`")
    member = found[0].id
    return {"committee": book.founding, "member": member, "sequence": book.next_sequence(member, book.founding)}
