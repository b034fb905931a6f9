"""Which exchanges a guard with `sample` below 1 is asked about: a keyed hash of the request's id decides.

Each guard draws by itself, and gets the same answer at every stage of an exchange. Clients can't foresee it, for the
key is made at the start of the process and ids are made by the gateway.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b

_KEY = secrets.token_bytes(32)


def is_sampled(request_id: str, guard: str, fraction: float, key: bytes = _KEY) -> bool:
    """Whether a guard is asked about an exchange; true for `fraction` of all request ids."""
    if fraction >= 1:
        return True
    named = f"{guard}\0{request_id}".encode("utf-8", "surrogatepass")
    drawn = int.from_bytes(blake2b(named, digest_size=8, key=key).digest())
    return drawn < fraction * 2.0**64
