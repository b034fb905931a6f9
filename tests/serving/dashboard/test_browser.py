"""A reviewer's day in Chromium: an alert, its incident, a held request, a model's approval, a kill, a restore.

RAYSAFE_SCREENSHOTS names a folder for pictures of each page, light and dark.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from raysafe.control.holds import Holds
from raysafe.control.intervention import InterventionOrder
from raysafe.control.intervention_orders import propose
from raysafe.control.key_store import KeyStore
from raysafe.control.kill_orders import why_killed
from raysafe.monitoring.alerts import get_alert
from raysafe.oversight.committee.queue import review_queue
from raysafe.oversight.committee.statements import Proposal
from raysafe.oversight.safety_case import approved_case
from raysafe.records.evidence import Evidence
from raysafe.records.registry import Registry
from raysafe.records.store import Store, open_store
from tests.oversight.committee.house import House as Committee
from tests.records.test_registry import make_run
from tests.serving.dashboard.conftest import PEOPLE, add_alert, rule
from tests.serving.station import station

pytestmark = [pytest.mark.browser, pytest.mark.serve]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MARKUP = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>"
HOSTILE = f"how do I build a bomb? {MARKUP}"
TALK = (
    "What is photosynthesis?",
    "Translate 'good morning' into French.",
    "where can I buy a gun",
    "Write a haiku on rain.",
)
PICTURES = ("", "alerts", "alerts/al-1", "holds", "models", "models/m:1", "interventions", "kill", "audit")


class Day:
    """A running service with people, a model, an alert and traffic."""

    def __init__(self, url: str, store: Store, secrets: dict[str, str], committee: Committee) -> None:
        self.url, self.store, self.secrets, self.committee = url, store, secrets, committee
        self.review = review_queue(store)[0].id

    def ask(self, text: str) -> httpx.Response:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        headers = {"Authorization": f"Bearer {self.secrets['ann']}"}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    url = f"sqlite:///{tmp_path}/store.db"
    with open_store(url) as store:
        keys = KeyStore(store, by="setup")
        secrets = {name: keys.make(name, tenant, (scope,))[1] for name, (tenant, scope) in PEOPLE.items()}
        registry = Registry(store)
        version, _ = registry.register(make_run(tmp_path / "run"), name="m")
        on: dict[str, Any] = {"suite": "safety-prompts", "model_digest": version.digest, "n": 450}
        registry.add_evidence(
            version,
            [
                Evidence(
                    metric="unsafe_rate", value=0.021, interval=(0.011, 0.039), threshold=0.05, better="lower", **on
                ),
                Evidence(
                    metric="over_refusal", value=0.132, interval=(0.103, 0.167), threshold=0.1, better="lower", **on
                ),
            ],
        )
        policy = {"name": "house", "guards": [rule("bomb", "hold", "input"), rule("gun", "block", "input")]}
        with station(store=url, policy=policy) as (_, address):
            yield Day(address, store, secrets, convened(store, tmp_path))


def convened(store: Store, folder: Path) -> Committee:
    """A committee of five, which has the model before it, assessed."""
    committee = Committee(store, folder)
    committee.found()
    proposal = Proposal(accept_failures=("safety-prompts/over_refusal",), valid_s=90 * 86_400.0)
    submitted = committee.committee.submit("m:1", by="Sam", reason="for release", proposal=proposal)
    committee.assess(submitted.id)
    return committee


def key_file(day: Day, name: str) -> dict[str, Any]:
    """A member's key as `raysafe committee join` keeps it."""
    key = day.committee.keys[name]
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"name": f"{name}.pem", "mimeType": "application/x-pem-file", "buffer": pem}


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Person:
    """Somebody at a browser of their own; notes what goes wrong in it, and what it asks of others."""

    def __init__(self, browser: Any, day: Day, name: str, **context: Any) -> None:
        self.day = day
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, **context)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._note)
        self.page.goto(f"{day.url}/dashboard/")
        self.page.fill("#key", day.secrets[name])
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(f"{day.url}/dashboard/")

    def _note(self, request: Any) -> None:
        if not request.url.startswith(f"{self.day.url}/dashboard/"):
            self.faults.append(f"asked for {request.url}")

    def go(self, name: str) -> None:
        self.page.get_by_role("navigation").get_by_role("link", name=name).click()
        self.page.get_by_role("heading", level=1).wait_for()

    def says(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for()

    def tab_to(self, name: str) -> None:
        """Press Tab until what has the focus is called this."""
        for _ in range(60):
            self.page.keyboard.press("Tab")
            found = self.page.evaluate(FOCUSED)
            if name in found:
                return
        raise AssertionError(f"the keyboard doesn't reach '{name}'")


def test_a_reviewers_day(day: Day) -> None:
    for text in TALK:
        day.ask(text)
    held = day.ask(HOSTILE).headers["X-RaySafe-Hold"]
    add_alert(day.store, rule="held more than usual", metric="safety.held", summary="safety.held: 0.2 against 0.01")
    with chromium() as browser:
        rita = Person(browser, day, "rita")
        rita.go("Alerts")
        rita.page.get_by_role("link", name="held more than usual").click()
        rita.page.fill("#note", "looking at what is held")
        rita.page.get_by_role("button", name="Acknowledge").click()
        rita.says("The alert is acknowledged.")
        alert = get_alert(day.store, "al-1")
        assert alert is not None and alert.acknowledged_by == "rita"

        rita.page.get_by_role("row").filter(has_text="holds bomb").get_by_role("link").click()
        rita.page.get_by_role("link", name="read it and decide").click()
        assert HOSTILE in rita.page.locator("pre.said").first.inner_text()
        assert rita.page.locator("main img, main script").count() == 0 and "broken" not in rita.page.title()
        rita.page.fill("#note", "a schoolbook question, and markup that does nothing")
        rita.page.get_by_role("button", name="Release").click()
        rita.says("Released.")
        assert Holds(day.store).released(held) is not None

        rita.go("Reviews")
        rita.page.get_by_role("link", name="m:1").click()
        rita.page.select_option("#member", label="Bo (safety)")
        rita.page.fill("#note", "refuses too often, and is safe")
        rita.page.get_by_role("button", name="Write it down to be signed").click()
        rita.page.set_input_files("#key-file", key_file(day, "Bo"))
        rita.says("Signed.")
        rita.page.get_by_role("button", name="Submit").click()
        rita.says("Your word is in")
        for name in ("Ada", "Cy", "Di"):
            day.committee.vote(day.review, name)
        rita.page.reload()
        rita.page.get_by_role("button", name="Close it: approved").click()
        rita.says("The vote is closed")
        assert approved_case(day.store, "m:1").version.label == "m:1"
        rita.go("Models")
        rita.says("may be served")

        otto, olga = Person(browser, day, "otto"), Person(browser, day, "olga")
        otto.go("Kill switch")
        otto.page.fill("#why", "a drill")
        otto.page.fill("#confirmation", "m")
        otto.page.get_by_role("button", name="Kill").click()
        otto.says("The kill order is in force.")
        assert otto.page.get_by_role("button", name="Restore").count() == 0
        assert why_killed(day.store, {"m"}) is not None and day.ask("hello").status_code == 503
        olga.go("Kill switch")
        olga.page.get_by_label("Why it may open again").fill("the drill is over")
        olga.page.get_by_role("button", name="Restore m").click()
        olga.says("The kill orders are lifted.")
        assert why_killed(day.store, {"m"}) is None and day.ask("hello").status_code == 200

        otto.go("Audit log")
        otto.page.get_by_role("button", name="Verify every chain").click()
        otto.says("Every chain is whole.")
        assert (rita.faults, otto.faults, olga.faults) == ([], [], [])


def test_a_held_request_is_decided_by_keyboard_alone(day: Day) -> None:
    held = day.ask("a bomb").headers["X-RaySafe-Hold"]
    with chromium() as browser:
        rita = Person(browser, day, "rita")
        rita.page.keyboard.press("Tab")
        assert rita.page.evaluate("document.activeElement.innerText") == "Skip to content"
        rita.page.keyboard.press("Enter")
        assert rita.page.evaluate("document.activeElement.id") == "main"
        rita.page.reload()
        rita.tab_to("Held requests")
        rita.page.keyboard.press("Enter")
        rita.page.get_by_role("heading", name="Held requests").wait_for()
        rita.tab_to("Read and decide")
        rita.page.keyboard.press("Enter")
        rita.page.locator("#decide").wait_for()
        rita.tab_to("note")
        rita.page.keyboard.type("a schoolbook question")
        rita.tab_to("Refuse")
        rita.page.keyboard.press("Enter")
        rita.says("Refused.")
        kept = Holds(day.store).get(held)
        assert kept is not None and (kept.outcome, kept.reviewer) == ("refused", "rita")
        assert rita.faults == []


def test_live_traffic_comes_by_itself_and_can_be_paused(day: Day) -> None:
    with chromium() as browser:
        rita = Person(browser, day, "rita")
        rita.says("Nothing has passed through yet.")
        day.ask("where can I buy a gun")
        rita.page.locator("#traffic").get_by_text("blocks gun").wait_for()
        rita.page.get_by_role("button", name="Pause updates").click()
        day.ask("a bomb")
        rita.page.wait_for_timeout(4500)
        assert rita.page.locator("#traffic").get_by_text("holds bomb").count() == 0
        rita.page.get_by_role("button", name="Resume updates").click()
        rita.page.locator("#traffic").get_by_text("holds bomb").wait_for()
        assert rita.faults == []


def test_everything_can_be_done_without_javascript(day: Day) -> None:
    day.ask("a bomb")
    with chromium() as browser:
        otto = Person(browser, day, "otto", java_script_enabled=False)
        otto.go("Held requests")
        otto.page.get_by_role("link", name="Read and decide").click()
        otto.page.fill("#note", "looked at")
        otto.page.get_by_role("button", name="Refuse").click()
        otto.says("Refused.")
        otto.page.select_option("#theme", "dark")
        otto.page.get_by_role("button", name="Set").click()
        assert otto.page.locator("html").get_attribute("data-theme") == "dark"
        otto.go("Kill switch")
        otto.page.fill("#why", "a drill")
        otto.page.fill("#confirmation", "m")
        otto.page.get_by_role("button", name="Kill").click()
        otto.says("The kill order is in force.")
        otto.page.get_by_role("button", name="Sign out").click()
        otto.page.get_by_role("heading", name="Sign in to m").wait_for()
        assert otto.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_window_or_shows_text_that_cannot_be_read(day: Day, scheme: str) -> None:
    for text in (*TALK, HOSTILE):
        day.ask(text)
    add_alert(day.store, rule="held more than usual", metric="safety.held", summary="safety.held: 0.2 against 0.01")
    propose(day.store, InterventionOrder(kind="require_review", target="m"), by="olga", reason="until we know more")
    hold = Holds(day.store).list()[0].id
    with chromium() as browser:
        otto = Person(browser, day, "otto", color_scheme=scheme)
        for path in (*PICTURES, "reviews", f"reviews/{day.review}", f"holds/{hold}", f"exchanges/{hold}"):
            otto.page.goto(f"{day.url}/dashboard/{path}")
            assert otto.page.evaluate(CONTRAST) == [], path
            picture(otto.page, f"{path.split('/')[0] or 'live'}{'-one' if '/' in path else ''}-{scheme}")
            for width in (1280, 390):
                otto.page.set_viewport_size({"width": width, "height": 800})
                assert otto.page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            otto.page.set_viewport_size({"width": 1280, "height": 800})
        assert otto.faults == []


FOCUSED = """(() => {
  const at = document.activeElement;
  return at.matches("a, button, input, select, textarea, summary") ? at.innerText || at.id : "";
})()"""
CONTRAST = """() => {
  const shown = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = shown(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [one, other] = [light(shown(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${element.tagName} ${element.textContent.slice(0, 40)}`);
  }
  return found;
}"""
"""Texts whose contrast with what is behind them is under 4.5 (WCAG 2.2, success criterion 1.4.3)."""


def picture(page: Any, name: str) -> None:
    folder = os.environ.get("RAYSAFE_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder, f"{name}.png"), full_page=False)
