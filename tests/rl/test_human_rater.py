"""People compare fragments on the real page, over HTTP; a question that was answered isn't put again."""

from __future__ import annotations

import io
import re
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from raysafe.data.comparisons import Comparison
from raysafe.errors import ConfigError
from raysafe.rl.environment import EnvMaker
from raysafe.rl.human_rater import HumanRater
from raysafe.rl.watching import Watched, watch

GRID = EnvMaker("tests.bench.preference_tasks:ColourGrid")
LINK = re.compile(r"(http://\S+/)#token=(\S+)")


def act(obs_ND: np.ndarray) -> np.ndarray:
    return np.full(len(obs_ND), int(obs_ND.argmax()) % 5)


def watched(count: int, seed: int = 0) -> list[Watched]:
    return watch(GRID, act, length=4, count=count, look="text", seed=seed)


def test_each_state_of_a_fragment_is_seen() -> None:
    found = watched(15)
    assert len(found) == 15
    for one in found:
        assert len(one.views) == len(one.fragment) + 1 == 5
        assert one.fragment.obs_T1D is not None
        for state, view in zip(one.fragment.obs_T1D.argmax(axis=1), one.views, strict=True):
            cells = [place for place, kind in enumerate(str(view).replace("\n", "")) if kind != "#"]
            assert str(view).replace("\n", "")[cells[state]] == "A"


def test_what_cant_be_drawn_is_said() -> None:
    with pytest.raises(ConfigError, match=r"look is frames, which needs the render mode rgb_array; .* has ansi"):
        watch(GRID, act, length=4, count=1, look="frames", seed=0)


def answer(told: io.StringIO, choices: list[str], seen: list[dict]) -> None:
    """A person who answers what the page shows, in turn."""
    ends = time.monotonic() + 60
    while not (found := LINK.search(told.getvalue())):
        assert time.monotonic() < ends, f"no link was told: {told.getvalue()!r}"
        time.sleep(0.05)
    with httpx.Client(base_url=found[1], headers={"authorization": f"Bearer {found[2]}"}) as page:
        turn = page.get("/api/turn").json()
        for choice in choices:
            seen.append(turn["item"])
            body = {"item": turn["item"]["name"], "choice": choice, "seconds": 1.0}
            turn = page.post("/api/judgements", json=body).raise_for_status().json()


@pytest.mark.serve
def test_answers_become_comparisons_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three pairs: one answered, one tied, one skipped; asked again, nobody is needed."""
    some = watched(6)
    pairs = list(zip(some[:3], some[3:], strict=True))
    rater = HumanRater(folder=str(tmp_path / "people"), look="text", port=0)
    seen: list[dict] = []
    told = io.StringIO()
    monkeypatch.setattr("sys.stderr", told)
    person = threading.Thread(target=answer, args=(told, ["first", "tie", "skip"], seen), daemon=True)
    person.start()
    found = rater.compare(pairs)
    person.join()
    assert len(seen) == 3 and len(found) == 2
    shown = {tuple(one.views): one for pair in pairs for one in pair}
    first = shown[tuple(seen[0]["sides"][0]["parts"])]
    (chosen,) = [one for one in found if one.preference != 0.5]
    assert (chosen.a if chosen.preference == 1.0 else chosen.b) is first.fragment
    again = rater.compare(pairs)
    assert [one.preference for one in again] == [one.preference for one in found]
    assert all(isinstance(one, Comparison) and one.rater == "rater" for one in again)
