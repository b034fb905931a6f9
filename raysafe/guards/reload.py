"""A policy file that may change while a service runs: the new policy is taken whole, or refused and the old one stays.

A change counts once the file has been the same at two looks, ends with its mark (policy_text.py), is valid, all its
guards could be built, and the change could be recorded. Then one reference is replaced: what is under way ends under
the policy it began with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from raysafe.errors import ConfigError, RaySafeError, raised_at
from raysafe.guards.in_force import InForce
from raysafe.guards.policy import Policy, default_policy
from raysafe.guards.policy_text import END, check_seal, read_policy
from raysafe.guards.settings import NOTHING, Resources

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Accepted:
    """A new policy is about to be in force."""

    old: Policy
    new: Policy

    def record(self) -> dict[str, Any]:
        return {"accepted": True, "from": self.old.label, "to": self.new.label, "sha256": self.new.digest}


@dataclass(frozen=True)
class Refused:
    """A policy file was refused; `reason` may quote it, and so is for those who may read it."""

    in_force: Policy
    reason: str

    def record(self) -> dict[str, Any]:
        return {"accepted": False, "in_force": self.in_force.label, "reason": self.reason}


OnChange = Callable[[Accepted | Refused], None]
"""Called before a change takes effect, in the thread that looked. Where it raises, the change doesn't happen."""


class PolicySource(Protocol):
    """Where a gateway gets the policy for each new exchange."""

    @property
    def refusal(self) -> Refused | None:
        """Why the file as it is now isn't in force; None where it is."""
        ...

    def current(self) -> InForce:
        """What is in force now: no more than reading a reference, so that it may be asked at every request."""
        ...

    def start(self, on_change: OnChange) -> None: ...

    def stop(self) -> None: ...


class FixedPolicy:
    """A policy that stays."""

    refusal = None

    def __init__(self, policy: Policy, resources: Resources = NOTHING) -> None:
        self._in_force = InForce(policy, resources)

    def current(self) -> InForce:
        return self._in_force

    def start(self, on_change: OnChange) -> None:
        return None

    def stop(self) -> None:
        return None


@dataclass(frozen=True)
class _Seen:
    """What a look found: bytes, and when they were written, or why they can't be read."""

    raw: bytes | None
    changed_ns: int
    problem: str = ""


_NOTHING = _Seen(None, 0)


class PolicyFile:
    """The policy in a file, watched by a thread between `start` and `stop`, or by whoever calls `look`."""

    def __init__(
        self, path: str | Path, resources: Resources = NOTHING, every_s: float = 0.25, *, only: str | None = None
    ) -> None:
        """Read the first policy, which needs no mark; raises RaySafeError where it can't be in force.

        every_s: seconds between looks of the thread; a change is in force after one to two of them.
        only: digest of the one policy that may be in force, whatever its layout; None for any.
        """
        self._path, self._resources, self._every_s, self._only = Path(path), resources, every_s, only
        self._on_change: OnChange = lambda change: None
        raw = read_policy(path)
        self._sealed = check_seal(raw, str(path))[1]
        self._in_force = InForce(self._parse(raw), resources)
        self._raw = raw
        self._last = self._tried = _NOTHING
        self._built: InForce | None = None
        self._built_of = b""
        self.refusal: Refused | None = None
        self._looking = threading.Lock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def current(self) -> InForce:
        return self._in_force

    def start(self, on_change: OnChange) -> None:
        """Watch the file; `on_change` is told of each change that is accepted or refused, once."""
        self._on_change = on_change
        self._ending.clear()
        self._thread = threading.Thread(target=self._watch, name="policy", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watching; returns once no change can happen any more."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def look(self) -> Accepted | Refused | None:
        """Look at the file once: what became of a change that two looks have found the same; None without one."""
        with self._looking:
            seen = self._see()
            settled, self._last = seen == self._last, seen
            if seen.raw == self._raw:
                # as before, or as before again
                self.refusal, self._tried = None, seen
                return None
            if not settled or seen == self._tried:
                return None
            self._tried = seen
            if seen.raw is None:
                return self._refuse(seen.problem)
            return self._take(seen.raw)

    def _watch(self) -> None:
        while not self._ending.wait(self._every_s):
            self.look()

    def _see(self) -> _Seen:
        try:
            raw = read_policy(self._path)
            return _Seen(raw, self._path.stat().st_mtime_ns)
        except OSError as error:
            return _Seen(None, 0, f"can't read {self._path}: {error.strerror}")
        except ConfigError as error:
            return _Seen(None, 0, str(error))

    def _take(self, raw: bytes) -> Accepted | Refused | None:
        old = self._in_force
        try:
            sealed = self._check_whole(raw)
            new = self._built if self._built and self._built_of == raw else self._build(raw)
        except RaySafeError as error:
            return self._refuse(str(error))
        except Exception as error:
            # whatever a guard's construction raises: the service must go on under the policy it has
            return self._refuse(f"{type(error).__name__} at {raised_at(error)}")
        change = Accepted(old.policy, new.policy)
        if new.policy != old.policy:
            try:
                self._on_change(change)
            except Exception as error:
                # kept as it is built, and tried again at the next looks
                self._built, self._built_of, self._tried = new, raw, _NOTHING
                return self._refuse(f"the change can't be recorded: {type(error).__name__} at {raised_at(error)}")
        self._in_force, self._raw, self._sealed = new, raw, sealed
        self._built, self._built_of, self.refusal = None, b"", None
        return change if new.policy != old.policy else None

    def _build(self, raw: bytes) -> InForce:
        return InForce(self._parse(raw), self._resources, self._in_force)

    def _parse(self, raw: bytes) -> Policy:
        policy = Policy.from_bytes(raw, str(self._path))
        if self._only not in (None, policy.digest):
            raise ConfigError(
                f"{self._path} holds the policy {policy.label}, and the model is approved under {str(self._only)[:8]} "
                "alone: submit it for review with this one, by `raysafe committee submit`"
            )
        return policy

    def _check_whole(self, raw: bytes) -> bool:
        """Whether the text is sealed; raises ConfigError where it may be part of one."""
        marked, sealed = check_seal(raw, str(self._path))
        if not marked:
            raise ConfigError(
                f"{self._path} doesn't end with the line '{END}', which tells a whole policy from part of one: add it"
            )
        if self._sealed and not sealed:
            raise ConfigError(f"{self._path} isn't sealed, but the policy in force is: seal it, or restart the service")
        return sealed

    def _refuse(self, reason: str) -> Refused | None:
        """Keep the refusal, and tell of it unless it stands already."""
        if self.refusal is not None and self.refusal.reason == reason:
            return None
        refused = self.refusal = Refused(self._in_force.policy, reason)
        try:
            self._on_change(refused)
        except Exception as error:
            logger.error("a refused policy can't be recorded: %s at %s", type(error).__name__, raised_at(error))
        return refused


def policy_source(path: str | Path | None, resources: Resources = NOTHING) -> PolicySource:
    """A watched file, or the packaged policy where no path is given; raises RaySafeError."""
    return FixedPolicy(default_policy(), resources) if path is None else PolicyFile(path, resources)
