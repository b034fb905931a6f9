"""The page in a browser: by keys and by clicks, with what is judged shown as text and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raysafe.feedback.judgements import Judgement
from raysafe.feedback.project import open_judgements
from tests.feedback.browser import Browser
from tests.feedback.conftest import pair, png, write_items
from tests.feedback.serving import Server

pytestmark = [pytest.mark.browser, pytest.mark.serve]
HOSTILE = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script><b>bold</b>"
PROGRESS = "document.getElementById('progress-text').textContent"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    for index in range(4):
        (folder / f"{index}.png").write_bytes(png(index))
    rows = [
        pair(0, prompt=HOSTILE, a=HOSTILE, b=f"{HOSTILE} b"),
        {"id": "r", "prompt": "p", "answer": HOSTILE},
        {"id": "f", "frames_a": ["0.png", "1.png", "2.png"], "frames_b": ["3.png"]},
        {"id": "s", "steps_a": [HOSTILE, "go"], "steps_b": ["stay"]},
    ]
    with Server(write_items(folder, rows), folder / "out", "--raters", "ann", "bob", "--overlap", "1") as started:
        yield started


def judged(server: Server, rater: str) -> list[Judgement]:
    flag = server.process.args.index("--out")  # type: ignore[union-attr]
    store, judgements = open_judgements(server.process.args[flag + 1])  # type: ignore[index,arg-type]
    with store:
        return [j for j in judgements.all(undone=True) if j.rater == rater]


def test_a_rater_judges_everything_with_the_keyboard(server: Server, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        browser.open(f"{server.url}#token={server.tokens['ann']}")
        browser.until(f"{PROGRESS} === '0 of 4'")
        assert "token" not in browser.run("location.href")
        for done, key in enumerate(("2", "4")):
            browser.press(key)
            browser.until(f"{PROGRESS} === '{done + 1} of 4'")
        browser.until("[...document.images].length === 2 && [...document.images].every((i) => i.naturalWidth === 2)")
        browser.press(" ")
        browser.until("document.getElementById('position-text').textContent === '3 of 3'")
        browser.press("t")
        browser.until(f"{PROGRESS} === '3 of 4'")
        browser.press("u")
        browser.until(f"{PROGRESS} === '2 of 4'")
        for done, key in ((3, "1"), (4, "s")):
            browser.press(key)
            browser.until(f"{PROGRESS} === '{done} of 4'")
        browser.until("document.body.innerText.includes('All done')")
        assert browser.run("document.title") == "Feedback"
    kept = judged(server, "ann")
    assert [(j.item, j.undone is not None) for j in kept] == [
        ("q0", False),
        ("r", False),
        ("f", True),
        ("f", False),
        ("s", False),
    ]
    assert kept[0].choice == ("b" if kept[0].first == "a" else "a")
    assert (kept[1].rating, kept[2].choice, kept[3].choice, kept[4].choice) == (4, "tie", kept[3].first, "skip")
    assert all(0 < j.seconds < 120 for j in kept)


def test_what_is_judged_is_shown_as_text(server: Server, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        browser.open(f"{server.url}#token={server.tokens['bob']}")
        browser.until("document.querySelectorAll('.side').length === 2")
        texts = browser.run("[...document.querySelectorAll('.text')].map((element) => element.textContent)")
        assert sorted(texts) == sorted([HOSTILE, HOSTILE, f"{HOSTILE} b"])
        assert browser.run("document.querySelectorAll('main img, main script, main b').length") == 0
        browser.click("#choices button:first-child")
        browser.until(f"{PROGRESS} === '1 of 4'")
        browser.run("location.reload()")
        browser.until(f"{PROGRESS} === '1 of 4'")
        assert browser.run("document.title") == "Feedback"
    (kept,) = judged(server, "bob")
    assert (kept.item, kept.choice) == ("q0", kept.first)


def test_every_control_has_a_name_and_a_phone_shows_no_sideways_scroll(server: Server, tmp_path: Path) -> None:
    with Browser(tmp_path, width=360, height=640, dark=True) as browser:
        browser.open(f"{server.url}#token={server.tokens['bob']}")
        browser.until("document.querySelectorAll('#choices button').length > 2")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        unnamed = (
            "[...document.querySelectorAll('button, input')].filter((e) => !(e.ariaLabel || e.textContent.trim()))"
        )
        assert browser.run(f"{unnamed}.length") == 0
        small = (
            "[...document.querySelectorAll('#choices button')].filter((e) => e.offsetHeight < 44 || e.offsetWidth < 44)"
        )
        assert browser.run(f"{small}.length") == 0
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"


def test_a_link_without_a_token_says_so(server: Server, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        browser.open(server.url)
        browser.until("document.body.innerText.includes('Open the link that you were given')")
        browser.open(f"{server.url}?again#token=wrong")
        browser.until("document.body.innerText.includes('token is not known')")
