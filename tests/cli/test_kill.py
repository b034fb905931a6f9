"""`raysafe kill` and `raysafe restore`: what they change, what they refuse, and whom they report as not closed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from raysafe.cli import kill as kill_module
from raysafe.cli.kill import main as kill
from raysafe.cli.main import guarded
from raysafe.cli.restore import main as restore
from raysafe.control.leases import Holder
from raysafe.control.watch import ControlPlane
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from tests.records.test_registry import make_run

pytestmark = pytest.mark.serve
Capture = pytest.CaptureFixture[str]
ADA = ["--by", "ada", "--reason", "strange answers"]
BO = ["--by", "bo", "--reason", "fine again"]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    address = f"sqlite:///{tmp_path}/raysafe.db"
    monkeypatch.setenv("RAYSAFE_STORE", address)
    monkeypatch.delenv("RAYSAFE_AUDIT", raising=False)
    with open_store(address) as store:
        Registry(store).register(make_run(tmp_path / "run"), name="tiny")
    return address


@pytest.fixture
def plane(url: str) -> Iterator[ControlPlane]:
    made = ControlPlane(url, "assistant", names=["tiny", "tiny:1"])
    made.start(30)
    yield made
    made.stop()


def run(command: object, capsys: Capture, *argv: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    capsys.readouterr()
    code = guarded(lambda: command(list(argv)))  # type: ignore[operator]
    printed = capsys.readouterr()
    return code, printed.out + printed.err


@pytest.mark.parametrize("target", ["assistant", "tiny", "tiny:1", "--all"])
def test_a_kill_is_in_force_when_the_command_ends(plane: ControlPlane, capsys: Capture, target: str) -> None:
    code, printed = run(kill, capsys, target, *ADA)
    assert code == 0
    assert "closed" in printed and "NOT CONFIRMED" not in printed
    assert plane.closed


def test_a_second_person_opens_again(plane: ControlPlane, capsys: Capture) -> None:
    run(kill, capsys, "assistant", *ADA)
    assert run(restore, capsys, "assistant", "--by", "Ada", "--reason", "r") == (
        2,
        "raysafe: Ada killed 'assistant' and can't restore it: a second person must, with --by NAME\n",
    )
    assert plane.closed
    code, printed = run(restore, capsys, "assistant", *BO)
    assert (code, printed.splitlines()[0][:22]) == (0, "lifted by bo: 'assista")
    assert plane.closed is None


def test_what_stays_closed_is_said(url: str, capsys: Capture) -> None:
    run(kill, capsys, "tiny", *ADA)
    run(kill, capsys, "--all", *ADA)
    printed = run(restore, capsys, "--all", *BO)[1]
    assert "Still in force" in printed and "tiny" in printed


def test_a_gateway_that_has_not_seen_it_is_named_and_the_exit_code_is_1(
    url: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Holder("h", "assistant", ("tiny",), "there, process 7", 0, 1, True)
    monkeypatch.setattr(kill_module, "await_seen", lambda *arguments: [(holder, "waiting")])
    code, printed = run(kill, capsys, "tiny", *ADA)
    assert code == 1
    assert "there, process 7" in printed and "NOT CONFIRMED" in printed


def test_a_model_without_a_gateway_is_killed_beforehand(url: str, capsys: Capture) -> None:
    code, printed = run(kill, capsys, "tiny:1", *ADA)
    assert (code, "one that starts finds the order" in printed) == (0, True)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["tinny", *ADA], "called 'tinny'; did you mean 'tiny'?"),
        (["zzz", *ADA], "called 'zzz'; gateways serve nothing now (--all closes everything)"),
        (ADA, "Give the name of a model, or --all"),
        (["tiny", "--all", *ADA], "Give the name of a model, or --all"),
        (["tiny", "--by", "ada"], "a kill needs a reason"),
        (["tiny", "--by", "ada", "--reason", " "], "needs a name and a reason"),
    ],
)
def test_a_kill_that_would_hit_nothing_is_one_sentence(
    url: str, capsys: Capture, argv: list[str], message: str
) -> None:
    code, printed = run(kill, capsys, *argv)
    assert (code, message in printed, printed.count("\n")) == (2, True, 1)


def test_orders_and_gateways_are_listed_and_nothing_changes(plane: ControlPlane, capsys: Capture) -> None:
    code, printed = run(kill, capsys, "--list")
    assert code == 0
    assert "no kill order is in force" in printed and "open" in printed
    run(kill, capsys, "tiny", *ADA)
    listed = json.loads(run(kill, capsys, "--list", "--json")[1])
    assert [(order["target"], order["by"]) for order in listed["orders"]] == [("tiny", "ada")]
    assert [gateway["service"] for gateway in listed["gateways"]] == ["assistant"]


def test_who_gives_no_name_kills_as_the_account(url: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSAFE_REVIEWER", "cy")
    order = json.loads(run(kill, capsys, "tiny", "--reason", "r", "--json")[1])["order"]
    assert order["by"] == "cy"


def test_a_kill_whose_commit_fails_is_told_and_closes_what_starts(
    url: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Session) -> None:
        raise OSError("no commit")

    monkeypatch.setattr(Session, "add", lambda self, row: fail(self))
    with pytest.raises(OSError, match="no commit"):
        kill(["tiny", *ADA])
    monkeypatch.undo()
    monkeypatch.setenv("RAYSAFE_STORE", url)
    (order,) = json.loads(run(kill, capsys, "--list", "--json")[1])["orders"]
    assert "holds it, and the store doesn't" in order["note"]
