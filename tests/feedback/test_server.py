"""The API: who may ask, what is taken, what is shown, and the headers that keep the page to itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from raysafe.errors import StorageError
from raysafe.feedback.order import first_side
from raysafe.feedback.server import BODY_BYTES, STATIC
from tests.feedback.conftest import Project, pair, png

pytestmark = pytest.mark.serve

Make = Callable[..., Project]
PAIRS = [pair(index) for index in range(4)]


def judge(client: TestClient, item: str, **answer: Any):
    return client.post("/api/judgements", json={"item": item, "seconds": 1.5} | answer)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/turn"), ("POST", "/api/judgements"), ("POST", "/api/undo"), ("GET", "/api/frame")],
)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic abc", "Bearer " + "x" * 5000])
def test_nothing_is_told_without_a_raters_token(make: Make, method: str, path: str, header: str | None) -> None:
    project = make(PAIRS)
    project.rater("ann")
    headers = {} if header is None else {"Authorization": header}
    query = {"item": "q0", "side": "0", "index": "0"}
    said = TestClient(project.app).request(method, path, headers=headers, params=query)
    assert said.status_code == 401 and "token" in said.json()["error"]


def test_the_choice_is_kept_by_the_sides_own_name_whatever_stood_first(make: Make) -> None:
    project = make([pair(index) for index in range(12)], overlap=1)
    client = project.rater("ann")
    for index in range(12):
        shown = client.get("/api/turn").json()["item"]
        good = [side["parts"][0] for side in shown["sides"]].index(f"good {index}")
        assert judge(client, shown["name"], choice=("first", "second")[good]).status_code == 200
    kept = project.judgements.all()
    assert {j.choice for j in kept} == {"a"}
    assert [j.first for j in kept] == [first_side(0, "ann", j.item) for j in kept] and {j.first for j in kept} == {
        "a",
        "b",
    }


def test_the_page_is_not_told_which_side_is_which(make: Make) -> None:
    row = pair(0, rewards_a=[1, 2], rewards_b=[3, 4])
    shown = make([row]).rater("ann").get("/api/turn").json()["item"]
    assert set(shown) == {"name", "kind", "prompt", "sides", "scale"}
    assert [set(side) for side in shown["sides"]] == [{"parts"}, {"parts"}]


def test_a_judgement_is_answered_with_the_next_turn(make: Make) -> None:
    client = make(PAIRS).rater("ann")
    said = judge(client, "q0", choice="tie").json()
    assert (said["done"], said["left"], said["item"]["name"]) == (1, 3, "q1")


def test_the_end_is_an_item_of_none(make: Make) -> None:
    said = judge(make([pair(0)]).rater("ann"), "q0", choice="skip").json()
    assert said == {"done": 1, "left": 0, "item": None}


def test_undo_shows_the_item_again_and_is_refused_with_nothing_to_undo(make: Make) -> None:
    client = make(PAIRS).rater("ann")
    assert client.post("/api/undo").status_code == 409
    judge(client, "q0", choice="tie")
    said = client.post("/api/undo").json()
    assert (said["item"]["name"], said["done"]) == ("q0", 0)


def test_a_second_judgement_is_a_conflict_and_changes_nothing(make: Make) -> None:
    project = make(PAIRS)
    client = project.rater("ann")
    judge(client, "q0", choice="tie")
    assert judge(client, "q0", choice="skip").status_code == 409
    assert [j.choice for j in project.judgements.all()] == ["tie"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choice": "third"},
        {"choice": "a"},
        {"rating": 3},
        {"choice": "tie", "rating": 3},
        {"choice": "tie", "seconds": -1},
        {"choice": "tie", "seconds": "1"},
        {"choice": "tie", "seconds": 1e9},
        {"choice": "tie", "first": "a"},
    ],
)
def test_an_answer_that_makes_no_sense_is_refused_and_not_kept(make: Make, answer: dict[str, Any]) -> None:
    project = make(PAIRS)
    said = judge(project.rater("ann"), "q0", **answer)
    assert said.status_code == 422 and said.json()["error"]
    assert project.judgements.all() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"item": "q0", "choice": "tie", "seconds": NaN}'])
def test_a_body_that_is_no_answer_is_refused(make: Make, body: bytes) -> None:
    assert make(PAIRS).rater("ann").post("/api/judgements", content=body).status_code == 422


def test_a_body_over_the_limit_is_refused(make: Make) -> None:
    said = make(PAIRS).rater("ann").post("/api/judgements", content=b" " * (BODY_BYTES + 1))
    assert said.status_code == 413


@pytest.mark.parametrize(("rating", "status"), [(0, 200), (10, 200), (-1, 422), (11, 422), (2.5, 422), (True, 422)])
def test_a_rating_is_a_step_of_the_scale(make: Make, rating: Any, status: int) -> None:
    project = make([{"id": "r", "prompt": "p", "answer": "x"}], low=0, high=10)
    client = project.rater("ann")
    assert client.get("/api/turn").json()["item"]["scale"] == [0, 10]
    assert judge(client, "r", rating=rating).status_code == status
    assert [j.rating for j in project.judgements.all()] == ([rating] if status == 200 else [])


def test_an_unknown_item_is_not_found(make: Make) -> None:
    assert judge(make(PAIRS).rater("ann"), "nothing", choice="tie").status_code == 404


@pytest.fixture
def trajectories(make: Make, tmp_path) -> Project:
    folder = tmp_path / "project-0"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.png").write_bytes(png(index))
    return make([{"id": "f/../é", "frames_a": ["0.png", "1.png"], "frames_b": ["2.png"]}])


def test_frames_come_by_the_place_at_which_the_rater_sees_their_side(trajectories: Project) -> None:
    client = trajectories.rater("ann")
    assert client.get("/api/turn").json()["item"]["sides"] in (
        [{"frames": 2}, {"frames": 1}],
        [{"frames": 1}, {"frames": 2}],
    )
    side_a = 0 if first_side(0, "ann", "f/../é") == "a" else 1
    for side, index, shade in ((side_a, 0, 0), (side_a, 1, 1), (1 - side_a, 0, 2)):
        said = client.get("/api/frame", params={"item": "f/../é", "side": side, "index": index})
        assert (said.content, said.headers["content-type"]) == (png(shade), "image/png")


@pytest.mark.parametrize(
    ("side", "index", "status"),
    [("2", "0", 404), ("-1", "0", 404), ("0", "9", 404), ("0", "-1", 404), ("0", "../items.jsonl", 422)],
)
def test_no_other_file_is_reached_through_a_frame(trajectories: Project, side: str, index: str, status: int) -> None:
    query = {"item": "f/../é", "side": side, "index": index}
    assert trajectories.rater("ann").get("/api/frame", params=query).status_code == status


def test_a_frame_that_became_a_link_is_not_served(trajectories: Project) -> None:
    client = trajectories.rater("ann")
    for name in ("0.png", "2.png"):
        frame = trajectories.file.parent / name
        frame.unlink()
        frame.symlink_to("/etc/hostname")
    assert client.get("/api/frame", params={"item": "f/../é", "side": 0, "index": 0}).status_code == 404


@pytest.mark.parametrize("path", ["/", "/page.js", "/player.js", "/page.css", "/api/turn", "/nowhere"])
def test_every_response_forbids_what_comes_from_elsewhere(make: Make, path: str) -> None:
    headers = make(PAIRS).rater("ann").get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"] and policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"


def test_the_page_loads_only_its_own_files_and_never_makes_html_of_a_text() -> None:
    sources = {file.name: file.read_text() for file in STATIC.iterdir()}
    assert set(sources) == {"index.html", "page.css", "page.js", "player.js"}
    for name, source in sources.items():
        assert not re.search(r"https?://|@import|\burl\(['\"\w]*[:/]", source), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(", source), (
            name
        )
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", sources["index.html"])


@pytest.mark.parametrize("path", ["/../server.py", "/%2e%2e/server.py", "/static/page.js", "/docs", "/openapi.json"])
def test_there_are_no_other_pages(make: Make, path: str) -> None:
    assert make(PAIRS).rater("ann").get(path).status_code == 404


def test_a_store_that_fails_is_told_and_nothing_is_acknowledged(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(PAIRS)
    client = project.rater("ann")

    def fail(judgement: object) -> None:
        raise StorageError("can't use the store: the disk is full")

    monkeypatch.setattr(project.judgements, "add", fail)
    said = judge(client, "q0", choice="tie")
    assert said.status_code == 503 and "nothing was kept" in said.json()["error"]
