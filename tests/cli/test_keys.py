"""`raysafe keys`: secrets are shown once, and what they open is what the commands said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from raysafe.cli.keys import main as keys
from raysafe.cli.keys import moment, span
from raysafe.cli.main import guarded
from raysafe.control.watch import ControlPlane
from raysafe.errors import ConfigError
from raysafe.records.store import open_store

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    url = f"sqlite:///{tmp_path}/raysafe.db"
    monkeypatch.setenv("RAYSAFE_STORE", url)
    monkeypatch.delenv("RAYSAFE_AUDIT", raising=False)
    open_store(url).close()
    monkeypatch.setattr("raysafe.control.watch.RENEW_S", 0.05)
    made = ControlPlane(url, "m")
    made.start(30)
    yield made
    made.stop()


def run(capsys: Capture, *argv: str) -> tuple[int, list[str]]:
    capsys.readouterr()
    code = guarded(lambda: keys(list(argv)))
    printed = capsys.readouterr()
    return code, (printed.out + printed.err).splitlines()


def listed(capsys: Capture) -> list[dict]:
    return json.loads("\n".join(run(capsys, "list", "--json")[1]))


def test_a_made_key_has_what_was_asked_for_and_its_secret_is_shown_once(capsys: Capture) -> None:
    code, lines = run(capsys, "make", "app", "--tenant", "acme", "--scope", "user", "operator", "--expires", "90d")
    assert (code, lines[-1][:3]) == (0, "rs-")
    (key,) = listed(capsys)
    assert (key["id"], key["tenant"], key["scopes"], key["state"]) == ("app", "acme", ["user", "operator"], "live")
    assert datetime.fromisoformat(key["expires"]) - datetime.now(UTC) > timedelta(days=89)
    assert lines[-1] not in "\n".join(run(capsys, "list")[1])


def test_a_rotated_keys_old_secret_lives_through_its_grace(plane: ControlPlane, capsys: Capture) -> None:
    old = run(capsys, "make", "app")[1][-1]
    new = run(capsys, "rotate", "app", "--grace", "1h")[1][-1]
    run(capsys, "make", "last")
    assert run(capsys, "revoke", "last", "--reason", "r")[0] == 0
    found = [plane.keys.identify(secret) for secret in (old, new)]
    assert [key.id for key in found if key] == ["app", "app"]


def test_a_revoked_key_opens_nothing_when_the_command_ends(plane: ControlPlane, capsys: Capture) -> None:
    secret = run(capsys, "make", "app")[1][-1]
    code, lines = run(capsys, "revoke", "app", "--reason", "leaked")
    assert (code, lines[0]) == (0, "key 'app' is revoked")
    assert "refuses it" in "\n".join(lines)
    assert plane.keys.identify(secret) is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["revoke", "app", "--reason", "r"], "no live key is called 'app'; live: none"),
        (["make", "a b"], "id: "),
        (["make", "app", "--expires", "soon"], "'soon' is no time"),
        (["make", "app", "--expires", "2001-01-01"], "would have expired"),
        (["rotate", "app", "--grace", "1"], "'1' is no length of time"),
    ],
)
def test_a_command_that_makes_no_sense_is_one_sentence(capsys: Capture, argv: list[str], message: str) -> None:
    code, lines = run(capsys, *argv)
    assert (code, len(lines), message in lines[0]) == (2, 1, True)


@pytest.mark.parametrize(("said", "seconds"), [("0s", 0), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("2d", 172_800)])
def test_lengths_of_time(said: str, seconds: int) -> None:
    assert span(said) == timedelta(seconds=seconds)


@pytest.mark.parametrize("said", ["", "h", "1.5h", "-1h", "1w", "1h30m"])
def test_what_is_no_length_of_time_is_refused(said: str) -> None:
    with pytest.raises(ConfigError):
        span(said)


def test_dates_are_utc_unless_they_say_otherwise() -> None:
    assert moment("2027-01-31") == datetime(2027, 1, 31, tzinfo=UTC)
    assert moment("2027-01-31T12:00:00+02:00") == datetime(2027, 1, 31, 10, tzinfo=UTC)
