"""The same matrix with curl against a real socket: what the shell prints is what left."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from raysafe.guards import kinds
from tests.serving.planted import CUT, MARKER, OUTCOMES, PLACES, Outcome, Where
from tests.serving.test_matrix import BODIES, CELLS, PATHS, Case, meets

pytestmark = [
    pytest.mark.serve,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


class Houses:
    """Many gateways behind one socket: /N/v1/... goes to the N-th."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            _, number, rest = scope["path"].split("/", 2)
            await self.cases[int(number)].app({**scope, "path": f"/{rest}"}, receive, send)


@pytest.fixture(scope="module")
def houses() -> Iterator[tuple[Houses, str]]:
    houses = Houses()
    server = uvicorn.Server(uvicorn.Config(houses, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield houses, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def curl(url: str, secret: str, body: dict[str, Any]) -> tuple[int, str]:
    """(status, body)"""
    command = ["curl", "-sN", "--max-time", "10", "-w", "\n%{http_code}", url, "-d", json.dumps(body)]
    command += ["-H", f"Authorization: Bearer {secret}", "-H", "Content-Type: application/json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    text, _, status = printed.rpartition("\n")
    return int(status), text


@pytest.mark.parametrize(("endpoint", "stream"), CELLS, ids=lambda value: str(value))
def test_no_unguarded_byte_reaches_curl(
    endpoint: str, stream: bool, houses: tuple[Houses, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kinds.KINDS, "planted", "tests.serving.planted:PlantedConfig")
    path, body = PATHS.get(endpoint, endpoint), BODIES[endpoint]
    extra = {"stream": True} if stream else {}
    for where in PLACES:
        for outcome in OUTCOMES:
            case = Case(where, outcome)
            houses[0].cases.append(case)
            url = f"{houses[1]}/{len(houses[0].cases) - 1}/v1/{path}"
            status, text = curl(url, case.secret, {"model": "m", **body, **extra})
            check(endpoint, where, outcome, stream, status, text)


def check(endpoint: str, where: Where, outcome: Outcome, stream: bool, status: int, text: str) -> None:
    seen, passes = meets(endpoint, where), outcome in ("allow", "modify")
    what = (endpoint, where, outcome, status, text)
    if not seen or passes:
        assert status == 200, what
        if seen and outcome == "modify" and where != "input":
            assert CUT in text and MARKER not in text, what
        return
    assert MARKER not in text, what
    if outcome in ("error", "timeout"):
        # a stream whose first words have left ends with an error instead
        assert "guard_failed" in text and (status == 503 or (stream and status == 200)), what
    elif where == "input":
        assert status == 400, what
    elif endpoint == "predict":
        assert status == 403, what
    else:
        assert status == 200 and '"content_filter"' in text, what
