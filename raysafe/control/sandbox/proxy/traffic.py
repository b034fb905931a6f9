"""What a sandbox said to the network: a record of each request, and the limits over all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from raysafe.control.sandbox.proxy.http_head import Refused
from raysafe.control.sandbox.proxy.rules import NetworkRules
from raysafe.control.sandbox.proxy.token_bucket import TokenBucket

ALLOWED = "allowed"
LEAST_CHARGE = 512
"""Bytes that the smallest piece counts as, so that a stream of single bytes costs this machine no more than others."""


@dataclass
class NetworkRequest:
    """One request: whom it was for (empty where that couldn't be read), how much passed, and what became of it."""

    host: str = ""
    port: int = 0
    method: str = ""
    sent_bytes: int = 0
    received_bytes: int = 0
    verdict: str = ALLOWED
    """allowed, or why it was refused or cut off."""


class Traffic:
    """A sandbox's requests in their order, and how many bytes passed."""

    def __init__(self, rules: NetworkRules) -> None:
        self.rules = rules
        self.requests: list[NetworkRequest] = []
        self._bytes = 0
        self._bucket = TokenBucket(rules.bytes_per_s, rules.burst_bytes)

    def begin(self) -> NetworkRequest:
        """A record of one more request."""
        self.requests.append(NetworkRequest())
        return self.requests[-1]

    async def passing(self, size: int) -> None:
        """Wait until so many bytes may pass; raises Refused where they are too many."""
        if self._bytes + size > self.rules.total_bytes:
            raise Refused(403, f"more than {self.rules.total_bytes:,} bytes in all")
        self._bytes += size
        if (wait_s := self._bucket.take(max(size, LEAST_CHARGE))) > 0:
            await asyncio.sleep(wait_s)
