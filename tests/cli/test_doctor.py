"""`raysafe doctor`: true findings, and remedies for what is missing."""

from __future__ import annotations

import json
import socket
import time

import pytest

from raysafe.cli import doctor
from raysafe.cli.main import main


def findings(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, dict[str, str]]:
    assert main(["doctor", "--json"]) == code
    return {f["what"]: f for f in json.loads(capsys.readouterr().out)}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAYSAFE_STORE", f"sqlite:///{tmp_path}/raysafe.db")


def test_what_is_installed_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(capsys)
    assert found["Python"]["status"] == found["torch"]["status"] == found["ray"]["status"] == "ok"
    assert found["ray"]["found"].startswith("2.60")


def test_a_port_in_use_is_a_warning_with_a_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert doctor._port(taken.getsockname()[1], "a test").status == "warn"


def test_something_needed_that_is_missing_ends_in_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = doctor.util.find_spec
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None if name == "ray" else real(name))
    found = findings(capsys, code=1)
    assert (found["ray"]["status"], found["ray"]["remedy"]) == ("missing", "pip install ray")


def test_an_extra_that_is_missing_names_its_install_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor._package("extra x", "no_such_module", needed=False, extra="x").remedy == "pip install 'raysafe[x]'"


def sandbox_lines() -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor._sandbox()}


def test_a_sandbox_is_tried_and_what_bounds_it_is_told() -> None:
    found = sandbox_lines()
    assert found["sandbox"].status == "ok"
    limits = found["sandbox limits"]
    assert (limits.status == "ok") == limits.found.startswith("cgroup v")


def test_a_watchdog_in_place_of_control_groups_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysafe.control.sandbox.sandbox.find_places", lambda: None)
    limits = sandbox_lines()["sandbox limits"]
    assert (limits.status, "watchdog" in limits.found, "control group" in limits.remedy) == ("warn", True, True)


def test_no_bubblewrap_is_a_warning_and_the_only_line_on_it(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("raysafe.control.sandbox.bubblewrap.bubblewrap", lambda: str(tmp_path / "none"))
    (only,) = list(doctor._sandbox())
    assert (only.what, only.status) == ("sandbox", "warn")


@pytest.mark.parametrize("form", ["127.0.0.1:{port}", "http://127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_a_cluster_where_nobody_listens_is_a_warning_at_once(form: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = form.format(port=probe.getsockname()[1])
    began = time.monotonic()
    finding = doctor._cluster(address)
    assert time.monotonic() - began < 5
    assert (finding.status, finding.found) == ("warn", f"nothing answers at {address}")


def test_a_token_that_is_switched_off_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert doctor._token().status == "warn"


def test_a_store_whose_folder_cannot_be_written_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda folder, mode: False)
    finding = doctor._store()
    assert (finding.status, finding.found) == ("warn", f"{tmp_path} can't be written")
