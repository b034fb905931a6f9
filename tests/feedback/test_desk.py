"""Judgements and who is handed what: kept for good, undone without loss, one a rater and item."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from raysafe.errors import ConfigError, DataError, StorageError
from raysafe.feedback.items import read_items
from raysafe.feedback.judgements import AlreadyJudged
from raysafe.feedback.project import ProjectSettings, load_settings, make_project, open_judgements, parse_scale
from tests.feedback.conftest import Project, pair, write_items

Make = Callable[..., Project]
PAIRS = [pair(index) for index in range(6)]


def test_a_judgement_is_kept_with_the_order_that_was_shown(make: Make) -> None:
    project = make(PAIRS)
    project.rater("ann")
    turn = project.desk.turn("ann")
    assert turn.item is not None
    project.desk.judge("ann", turn.item.name, "tie", None, 2.5)
    (kept,) = project.judgements.all()
    assert (kept.rater, kept.item, kept.choice, kept.seconds) == ("ann", turn.item.name, "tie", 2.5)
    assert kept.first == turn.sides[0] and kept.time.tzinfo is not None


def test_either_side_is_kept_as_the_first_where_it_was_shown_first(make: Make) -> None:
    project = make(PAIRS)
    project.rater("ann")
    shown = {}
    while (turn := project.desk.turn("ann")).item is not None:
        shown[turn.item.name] = turn.sides[0]
        project.desk.judge("ann", turn.item.name, "tie", None, 1)
    assert {j.item: j.first for j in project.judgements.all()} == shown
    assert set(shown.values()) == {"a", "b"}


def test_an_undone_judgement_stays_and_its_item_comes_back(make: Make) -> None:
    project = make(PAIRS)
    project.rater("ann")
    for choice in ("a", "b"):
        item = project.desk.turn("ann").item
        assert item is not None
        project.desk.judge("ann", item.name, choice, None, 1)
    assert project.desk.undo("ann")
    again = project.desk.turn("ann").item
    assert again is not None and again.name == item.name
    project.desk.judge("ann", again.name, "tie", None, 1)
    assert [(j.choice, j.undone is None) for j in project.judgements.all(undone=True)] == [
        ("a", True),
        ("b", False),
        ("tie", True),
    ]


def test_nobody_undoes_anothers_judgement(make: Make) -> None:
    project = make(PAIRS)
    project.rater("ann")
    project.rater("bob")
    project.desk.judge("ann", "q0", "a", None, 1)
    assert not project.desk.undo("bob")
    assert project.judgements.counts() == {"q0": 1}


def test_a_second_judgement_of_an_item_is_refused_also_when_both_come_at_once(make: Make) -> None:
    project = make(PAIRS)
    project.rater("ann")

    def judge(_: int) -> bool:
        try:
            project.desk.judge("ann", "q0", "a", None, 1)
        except AlreadyJudged:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(judge, range(8))) == 1
    assert project.judgements.counts() == {"q0": 1}


def test_the_database_itself_holds_one_live_judgement_a_rater_and_item(make: Make) -> None:
    project = make(PAIRS)
    project.rater("ann")
    project.desk.judge("ann", "q0", "a", None, 1)
    copy = (
        "INSERT INTO feedback_judgements (item_id, rater_id, choice, seconds, time) SELECT item_id, rater_id, 'b', 1, "
    )
    with pytest.raises(StorageError, match="UNIQUE"), project.store.session() as session:
        session.execute(text(copy + "time FROM feedback_judgements"))


def test_two_raters_share_the_overlap_and_divide_the_rest(make: Make) -> None:
    project = make([pair(index) for index in range(20)], overlap=0.25)
    project.rater("ann")
    project.rater("bob")
    turns = {name: project.desk.turn(name) for name in ("ann", "bob")}
    while any(turn.item for turn in turns.values()):
        for name, turn in turns.items():
            if turn.item:
                project.desk.judge(name, turn.item.name, "a", None, 1)
                turns[name] = project.desk.turn(name)
    counts = sorted(project.judgements.counts().values())
    # the last item may be in both raters' hands
    assert counts in ([1] * 15 + [2] * 5, [1] * 14 + [2] * 6)


def test_a_rater_keeps_an_item_until_it_is_judged(make: Make) -> None:
    project = make(PAIRS, overlap=0)
    project.rater("ann")
    project.rater("bob")
    first = project.desk.turn("ann").item
    assert project.desk.turn("ann").item == first != project.desk.turn("bob").item


def test_a_skip_is_done_for_the_rater_and_left_for_the_others(make: Make) -> None:
    project = make([pair(0)], overlap=0)
    project.rater("ann")
    project.rater("bob")
    project.desk.judge("ann", "q0", "skip", None, 1)
    assert project.desk.turn("ann").item is None
    assert project.desk.turn("bob").item is not None


def test_items_are_added_later_and_none_may_change(make: Make, tmp_path: Path) -> None:
    project = make(PAIRS)
    more = read_items(write_items(tmp_path / "more", [pair(6), pair(0)]))
    assert project.judgements.add_items(more) == 1
    assert [item.name for item in project.judgements.items()] == [f"q{i}" for i in range(7)]
    changed = read_items(write_items(tmp_path / "other", [pair(7), pair(0, a="something else")]))
    with pytest.raises(DataError, match="item 'q0' was something else"):
        project.judgements.add_items(changed)
    assert len(project.judgements.items()) == 7


def test_a_token_opens_its_rater_and_only_a_digest_is_kept(make: Make) -> None:
    project = make(PAIRS)
    token = project.judgements.add_rater("ann")
    assert token and project.judgements.identify(token) == "ann"
    assert project.judgements.identify(token + "x") is None and project.judgements.identify("") is None
    project.store.close()
    assert all(token.encode() not in file.read_bytes() for file in project.folder.iterdir() if file.is_file())


def test_a_renewed_token_replaces_the_old_one(make: Make) -> None:
    project = make(PAIRS)
    old = project.judgements.add_rater("ann")
    assert project.judgements.add_rater("ann") is None
    new = project.judgements.add_rater("ann", renew=True)
    assert old and new and (project.judgements.identify(old), project.judgements.identify(new)) == (None, "ann")


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "<b>", "a/b"])
def test_a_raters_name_is_plain(make: Make, name: str) -> None:
    with pytest.raises(ConfigError, match="a rater's name has"):
        make(PAIRS).judgements.add_rater(name)


def test_a_folder_keeps_its_settings(tmp_path: Path) -> None:
    make_project(tmp_path / "p", ProjectSettings(low=0, high=10))
    make_project(tmp_path / "p", ProjectSettings(low=0, high=10))
    with pytest.raises(ConfigError, match=r"high is 10 in .*feedback.yaml, got 5"):
        make_project(tmp_path / "p", ProjectSettings(low=0, high=5))
    assert load_settings(tmp_path / "p").high == 10
    assert (tmp_path / "p").stat().st_mode & 0o077 == 0


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match="holds other files"):
        make_project(tmp_path, ProjectSettings())
    with pytest.raises(StorageError, match="is no feedback folder"):
        load_settings(tmp_path)


@pytest.mark.parametrize("scale", ["five", "1", "1-", "1-5-9", "0.5-2"])
def test_a_scale_is_two_whole_numbers(scale: str) -> None:
    with pytest.raises(ConfigError, match="scale must be two whole numbers"):
        parse_scale(scale)


@pytest.mark.parametrize(("low", "high"), [(5, 1), (1, 1), (0, 21)])
def test_a_scale_has_steps_that_a_page_can_show(low: int, high: int) -> None:
    with pytest.raises(ConfigError, match="2 to 21 steps"):
        ProjectSettings(low=low, high=high)
    assert parse_scale("-2 - 2") == (-2, 2)


def test_two_stores_on_one_folder_see_each_others_judgements(make: Make) -> None:
    project = make(PAIRS)
    project.rater("ann")
    store, other = open_judgements(project.folder)
    with store:
        project.desk.judge("ann", "q0", "a", None, 1)
        assert other.counts() == {"q0": 1} and other.done("ann") == {"q0"}
