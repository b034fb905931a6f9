"""What a sandbox said to the network: a record of each request, and the limits over all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from raysafe.control.sandbox.proxy.http_head import Refused
from raysafe.control.sandbox.proxy.rules import NetworkRules
from raysafe.control.sandbox.proxy.token_bucket import TokenBucket

ALLOWED = "allowed"


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


@dataclass
class Traffic:
    """A sandbox's: requests in their order, and how many more there were than are kept."""

    rules: NetworkRules
    requests: list[NetworkRequest] = field(default_factory=list)
    unrecorded: int = 0
    open: int = 0
    _bytes: int = 0

    def __post_init__(self) -> None:
        self._bucket = TokenBucket(self.rules.bytes_per_s, self.rules.burst_bytes)

    def begin(self) -> NetworkRequest | None:
        """A record of one more request; None where there were too many to keep or to answer."""
        if len(self.requests) >= self.rules.requests:
            self.unrecorded += 1
            return None
        request = NetworkRequest()
        self.requests.append(request)
        return request

    async def passing(self, size: int) -> None:
        """Wait until so many bytes may pass; raises Refused where they are too many."""
        if self._bytes + size > self.rules.total_bytes:
            raise Refused(403, f"more than {self.rules.total_bytes:,} bytes in all")
        self._bytes += size
        if (wait_s := self._bucket.take(size)) > 0:
            await asyncio.sleep(wait_s)
