"""Who gets in, for how long, and what leaves a trace."""

from __future__ import annotations

import logging
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import update

from raysafe.control.keys import KeyRing
from raysafe.records.session_table import SessionRow
from raysafe.records.store import store_now
from raysafe.serving.dashboard.limiter import OF_ALL, OF_ONE, WINDOW_S, Limiter
from raysafe.serving.dashboard.sessions import IDLE_S, LONGEST_S
from tests.serving.dashboard.conftest import House, token_of

pytestmark = [pytest.mark.anyio]
PATHS = ("/", "/alerts", "/holds", "/holds/x", "/models", "/interventions", "/kill", "/audit", "/exchanges/x")


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_sees_a_page_without_signing_in(house: House, path: str) -> None:
    answer = await house.browser().get(path)
    assert answer.status_code == 303 and answer.headers["location"].startswith("/dashboard/sign-in?next=/dashboard")


@pytest.mark.parametrize(("who", "status"), [("rita", 303), ("otto", 303), ("eve", 303), ("ann", 403)])
async def test_reviewers_and_operators_get_in_and_users_do_not(house: House, who: str, status: int) -> None:
    browser = house.browser()
    assert (await browser.sign_in(house.secrets[who])).status_code == status
    assert (await browser.get("/")).status_code == (200 if status == 303 else 303)


async def test_a_wrong_key_opens_nothing_and_is_recorded(house: House) -> None:
    answer = await house.browser().sign_in("rs-wrong")
    assert answer.status_code == 401 and "raysafe-session" not in answer.headers.get("set-cookie", "")
    assert [row["actor"] for row in house.rows("sign-in refused")] == ["nobody"]


async def test_a_session_cookie_is_no_scripts_and_no_other_sites(house: House) -> None:
    cookies = (await house.browser().sign_in(house.secrets["rita"])).headers.get_list("set-cookie")
    cookie = next(c for c in cookies if c.startswith("raysafe-session="))
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/dashboard"} <= attributes and "secure" not in attributes
    assert house.secrets["rita"] not in cookie


async def test_behind_tls_the_cookie_is_for_tls_alone(house: House) -> None:
    browser = house.browser(**{"X-Forwarded-Proto": "https"})
    page = await browser.get("/sign-in")
    assert "secure" in page.headers["set-cookie"].lower()


async def test_a_sign_in_form_of_another_site_is_refused(house: House) -> None:
    fields = {"form_token": "0" * 64, "key": house.secrets["rita"]}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url="http://gateway") as client:
        assert (await client.post("/dashboard/sign-in", data=fields)).status_code == 403


@pytest.mark.parametrize(
    "following", ["//evil.example/", "/\\evil", "https://evil.example", "/v1/models", "/dashboards"]
)
async def test_signing_in_leads_nowhere_else(house: House, following: str) -> None:
    browser = house.browser()
    page = await browser.get("/sign-in")
    fields = {"form_token": token_of(page), "key": house.secrets["rita"], "next": following}
    answer = await browser.client.post("/dashboard/sign-in", data=fields)
    assert answer.headers["location"] == "/dashboard/"


async def test_signing_in_leads_back_to_what_was_asked_for(house: House) -> None:
    browser = house.browser()
    asked = await browser.get("/audit?kind=killed")
    form = await browser.client.get(asked.headers["location"])
    fields = {"form_token": token_of(form), "key": house.secrets["rita"], "next": "/dashboard/audit?kind=killed"}
    assert 'value="/dashboard/audit?kind=killed"' in form.text
    answer = await browser.client.post("/dashboard/sign-in", data=fields)
    assert answer.headers["location"] == "/dashboard/audit?kind=killed"


async def test_signing_out_ends_the_session_and_not_only_the_cookie(house: House) -> None:
    browser = await house.signed_in("rita")
    kept = dict(browser.client.cookies)
    page = await browser.get("/")
    answer = await browser.client.post("/dashboard/sign-out", data={"form_token": token_of(page)})
    assert answer.headers["location"] == "/dashboard/sign-in"
    thief = house.browser()
    thief.client.cookies.update(kept)
    assert (await thief.get("/")).status_code == 303
    assert [row["actor"] for row in house.rows("signed out")] == ["rita"]


async def test_a_session_ends_with_its_key(house: House) -> None:
    browser = await house.signed_in("rita")
    house.switch.keys = KeyRing(key for name, key in house.keys.items() if name != "rita")
    assert (await browser.get("/")).status_code == 303


@pytest.mark.parametrize(("column", "seconds"), [("seen", IDLE_S), ("created", LONGEST_S)])
async def test_a_session_ends_by_itself(house: House, column: str, seconds: float) -> None:
    browser = await house.signed_in("rita")
    for ago, status in ((seconds - 60, 200), (seconds + 1, 303)):
        with house.store.session() as session:
            then = store_now(session) - timedelta(seconds=ago)
            session.execute(update(SessionRow).values({column: then}))
        assert (await browser.get("/", **{"X-RaySafe-Renewal": "1"})).status_code == status


async def test_a_page_that_renews_itself_keeps_nobody_signed_in(house: House) -> None:
    browser = await house.signed_in("rita")

    def since() -> float:
        with house.store.reading() as session:
            row = session.query(SessionRow).one()
            return (store_now(session) - row.seen).total_seconds()

    with house.store.session() as session:
        session.execute(update(SessionRow).values(seen=store_now(session) - timedelta(seconds=600)))
    await browser.get("/", **{"X-RaySafe-Renewal": "1"})
    assert since() > 500
    await browser.get("/")
    assert since() < 500


async def test_no_key_and_no_token_of_a_session_is_in_a_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        browser = await house.signed_in("otto")
        await house.browser().sign_in(house.secrets["ann"])
        await browser.get("/audit")
        await browser.get("/holds/nothing")
    written = caplog.text + "".join(path.read_text() for path in house.audit_folder.glob("*.jsonl"))
    token = browser.client.cookies["raysafe-session"]
    assert not [secret for secret in (*house.secrets.values(), token) if secret in written]
    assert token.encode() not in (house.folder / "store.db").read_bytes()


async def test_who_fails_often_must_wait(house: House) -> None:
    browser = house.browser()
    for _ in range(OF_ONE):
        await browser.sign_in("rs-guess")
    answer = await browser.sign_in(house.secrets["rita"])
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
    assert len(house.rows("sign-in refused")) == OF_ONE


def test_the_wait_ends_and_others_are_not_held_up() -> None:
    now = [0.0]
    limiter = Limiter(lambda: now[0])
    for _ in range(OF_ONE):
        limiter.failed("one")
    assert (limiter.wait_s("one"), limiter.wait_s("other")) == (WINDOW_S, 0.0)
    now[0] = WINDOW_S
    assert limiter.wait_s("one") == 0.0


def test_many_addresses_together_must_wait_too() -> None:
    limiter = Limiter(lambda: 0.0)
    for number in range(OF_ALL):
        limiter.failed(f"address {number}")
    assert limiter.wait_s("a new one") == WINDOW_S
