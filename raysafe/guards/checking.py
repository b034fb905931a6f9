"""What a policy file says, for people: its guards, what lets text past, and what differs for each tenant."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raysafe.errors import ModelError, StorageError
from raysafe.guards.entry import Entry
from raysafe.guards.guard import Message
from raysafe.guards.in_force import InForce
from raysafe.guards.policy import Policy, default_policy
from raysafe.guards.policy_text import END, check_seal, decoded, read_policy, seal
from raysafe.guards.settings import GuardConfig, Resources

GUARD_HEADINGS = ("guard", "kind", "stages", "mode", "sample", "timeout", "where it fails", "runs", "tenants may")
TENANT_HEADINGS = ("tenant", "guard", "what differs")
Row = tuple[str, ...]


@dataclass(frozen=True)
class PolicyCheck:
    """A valid policy: rows under GUARD_HEADINGS and TENANT_HEADINGS, and remarks on what a reader should know."""

    label: str
    digest: str
    guards: Sequence[Row]
    tenants: Sequence[Row]
    remarks: Sequence[str]


def check_policy(path: str | Path | None) -> PolicyCheck:
    """Validate a policy file, the packaged policy where no path is given, and build all its guards, whose models are
    loaded; raises RaySafeError."""
    return _checked(default_policy()) if path is None else _checked_text(read_policy(path), str(path))


def seal_policy(path: str | Path) -> PolicyCheck:
    """Check a policy file, and write its mark and digest as its last line in place of those that it has; raises
    RaySafeError, and leaves the file as it was."""
    from raysafe.data.cache import written_whole

    real = Path(path).resolve()
    raw = seal(decoded(read_policy(path), str(path))).encode()
    check = _checked_text(raw, str(path))
    try:
        with written_whole(real) as written:
            written.write_bytes(raw)
            shutil.copymode(real, written)
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}") from None
    return check


def _checked_text(raw: bytes, source: str) -> PolicyCheck:
    marked, sealed = check_seal(raw, source)
    remarks = []
    if not marked:
        remarks.append(f"{source} doesn't end with the line '{END}': a running service won't take up a change of it")
    elif not sealed:
        remarks.append(f"{source} isn't sealed: a running service can't tell a damaged line of it from a meant one")
    return _checked(Policy.from_bytes(raw, source), remarks)


def _checked(policy: Policy, remarks: Sequence[str] = ()) -> PolicyCheck:
    in_force = InForce(policy, Resources(upstream=_never_asked))
    guards = list(zip(policy.guards, in_force.pipeline().entries, strict=True))
    tenants = [row for tenant in policy.tenants for row in _differences(policy, tenant)]
    rows = [_row(*each) for each in guards]
    return PolicyCheck(policy.label, policy.digest, rows, tenants, [*_remarks(guards), *remarks])


def _row(config: GuardConfig, entry: Entry) -> Row:
    runs = "at once" if entry.guard.inline else "in a thread"
    if entry.beside and not entry.guard.inline:
        runs = "beside the model"
    return (
        config.name,
        config.kind,
        ", ".join(sorted(entry.guard.stages)),
        config.mode,
        f"{config.sample:g}",
        f"{config.timeout_s:g} s",
        "closes" if config.on_error == "closed" else "lets text past",
        runs,
        "loosen or remove it" if config.overridable else "tighten it",
    )


def _differences(policy: Policy, tenant: str) -> Iterator[Row]:
    before = {guard.name: guard for guard in policy.guards}
    after = {guard.name: guard for guard in policy.for_tenant(tenant).guards}
    for name in before:
        if name not in after:
            yield tenant, name, "removed"
        elif before[name] != after[name]:
            yield tenant, name, "; ".join(_changes(before[name], after[name]))
    for name, guard in after.items():
        if name not in before:
            yield tenant, name, f"added ({guard.kind})"


def _changes(before: GuardConfig, after: GuardConfig) -> Iterator[str]:
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name}: {old} -> {new}"


def _remarks(guards: Sequence[tuple[GuardConfig, Entry]]) -> Iterator[str]:
    if not guards:
        yield "no guard: everything is let through"
    for config, entry in guards:
        if config.mode == "shadow":
            yield f"{config.name} is in shadow mode: it is recorded, and stops nothing"
        elif config.on_error == "open":
            yield f"{config.name} lets text past where it fails or takes longer than {config.timeout_s:g} s"
        if config.sample < 1:
            yield f"{config.name} is asked about {config.sample:.1%} of exchanges only"
        if config.beside and entry.guard.inline:
            yield f"{config.name} runs before the model, for it takes no time worth saving beside it"


def _never_asked(messages: Sequence[Message]) -> str:
    raise ModelError("a policy is being checked: there is no model to ask")
