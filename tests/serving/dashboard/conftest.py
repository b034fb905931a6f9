"""A gateway with a dashboard in this process, over a store and a log of its own, and people who sign in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from raysafe.control.holds import Holds
from raysafe.control.keys import KeyRing, Scope, new_key
from raysafe.guards.policy import Policy
from raysafe.records.audit import AuditLog
from raysafe.records.audit_read import newest_rows, wanted
from raysafe.records.monitor_tables import AlertRow
from raysafe.records.store import Store, open_store, store_now
from raysafe.serving.control_room import ControlRoom, Records
from raysafe.serving.gateway import Gateway
from raysafe.serving.settings import GatewaySettings
from tests.serving.conftest import Scripted
from tests.serving.test_door import Switch

PEOPLE: dict[str, tuple[str, Scope]] = {
    "ann": ("default", "user"),
    "rita": ("default", "reviewer"),
    "otto": ("default", "operator"),
    "olga": ("default", "operator"),
    "eve": ("evil", "reviewer"),
    "mallory": ("evil", "user"),
}


def rule(phrase: str, action: str, *stages: str) -> dict[str, Any]:
    rules = [{"name": "weapons", "phrases": [phrase]}]
    return {"kind": "patterns", "name": f"{action}s {phrase}", "action": action, "stages": list(stages), "rules": rules}


@dataclass
class House:
    """A gateway, the secrets of its people, and what it wrote."""

    folder: Path
    backend: Any = field(default_factory=Scripted)

    def __post_init__(self) -> None:
        self.store = open_store(f"sqlite:///{self.folder}/store.db")
        self.audit_folder = self.folder / "audit"
        self.audit = AuditLog(self.audit_folder, "gateway-m")
        self.holds = Holds(self.store, self.audit_folder)
        self.switch = Switch()
        made = {name: new_key(name, tenant, (scope,)) for name, (tenant, scope) in PEOPLE.items()}
        self.keys = {name: key for name, (key, _) in made.items()}
        self.secrets = {name: secret for name, (_, secret) in made.items()}
        self.switch.keys = KeyRing(self.keys.values())
        guards = [rule("bomb", "hold", "input"), rule("gun", "block", "input")]
        policy = Policy.parse({"name": "house", "record_text": True, "stream_window": 1, "guards": guards})
        records = Records(self.store, self.audit_folder)
        room = ControlRoom(self.audit, self.switch, None, self.holds, records=records)
        self.app = Gateway(GatewaySettings(model="m", policy=policy), self.backend, room).app()

    def browser(self, **headers: str) -> Browser:
        transport = httpx.ASGITransport(self.app)
        return Browser(httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers))

    async def signed_in(self, who: str) -> Browser:
        browser = self.browser()
        answer = await browser.sign_in(self.secrets[who])
        assert answer.status_code == 303, answer.text
        return browser

    async def ask(self, text: str, who: str = "ann") -> httpx.Response:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://gateway") as client:
            headers = {"Authorization": f"Bearer {self.secrets[who]}"}
            return await client.post("/v1/chat/completions", json=body, headers=headers)

    def rows(self, kind: str = "") -> list[dict[str, Any]]:
        return [found.row for found in newest_rows(self.audit_folder) if wanted(kind)(found)]


@dataclass
class Browser:
    """A client that keeps cookies and sends forms with the token of the page that it read last."""

    client: httpx.AsyncClient

    async def get(self, path: str = "/", **headers: str) -> httpx.Response:
        return await self.client.get(f"/dashboard{path}", headers=headers)

    async def post(self, path: str, /, **fields: Any) -> httpx.Response:
        """Send a form as the page at `path` would."""
        page = await self.get(path)
        return await self.client.post(f"/dashboard{path}", data={"form_token": token_of(page), **fields})

    async def sign_in(self, secret: str, **fields: str) -> httpx.Response:
        return await self.post("/sign-in", key=secret, **fields)


def token_of(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', page.text)
    return found[1] if found else ""


def add_alert(store: Store, **given: Any) -> str:
    """An open alert, as a monitor writes it; its id."""
    values: dict[str, Any] = {"id": "al-1", "rule": "refusals", "service": "m", "alert_group": "refusals"}
    values |= {"severity": "critical", "metric": "behaviour.refusals", "summary": "refusals rise", "value": 0.5}
    with store.session() as session:
        now = store_now(session)
        session.add(AlertRow(**(values | {"detections": 3, "level": 1, "opened": now, "updated": now} | given)))
    return (values | given)["id"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.audit.close()
    made.store.close()
