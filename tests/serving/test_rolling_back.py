"""A service follows roll backs: the version that is wanted by the store and the audit log, checked as at a start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from raysafe.control.intervention import InterventionOrder
from raysafe.control.intervention_orders import apply, revert
from raysafe.errors import NotApproved
from raysafe.records.store import Store, open_store
from raysafe.serving.beside import Beside
from raysafe.serving.deploy import Deployment
from raysafe.serving.rolling_back import RollBacks

NAMES = frozenset({"shop", "m", "m:3"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/raysafe.db") as opened:
        yield opened


def roll_back(store: Store, away_from: str, to: str, target: str = "shop") -> str:
    order = InterventionOrder(kind="roll_back", target=target, away_from=away_from, to=to)
    return apply(store, order, by="ada", reason="r")[0].id


def test_a_second_roll_back_goes_on_from_the_first_and_reverting_returns(store: Store) -> None:
    follows = RollBacks(store, "m:3", NAMES)
    assert follows.wanted() == "m:3"
    first = roll_back(store, "m:3", "m:2")
    assert follows.wanted() == "m:2"
    second = roll_back(store, "m:2", "m:1")
    assert follows.wanted() == "m:1"
    revert(store, second, by="bo", reason="r")
    revert(store, first, by="bo", reason="r")
    assert follows.wanted() == "m:3"


def test_roll_backs_of_other_services_are_theirs(store: Store) -> None:
    roll_back(store, "m:3", "m:2", "other")
    assert RollBacks(store, "m:3", NAMES).wanted() == "m:3"


class Deployed:
    """Takes note of what it is replaced by."""

    def __init__(self) -> None:
        self.applications: list[Any] = []

    def replace(self, application: Any) -> None:
        self.applications.append(application)


def beside(tmp_path: Path, application_of: Any) -> Beside:
    return Beside(f"sqlite:///{tmp_path}/raysafe.db", "m:3", NAMES, application_of, None)


def test_a_service_is_replaced_once_and_again_when_it_is_reverted(store: Store, tmp_path: Path) -> None:
    deployed, follows = Deployed(), beside(tmp_path, lambda label: label)
    follows.look(deployed)  # type: ignore[arg-type]
    made = roll_back(store, "m:3", "m:2")
    for _ in range(3):
        follows.look(deployed)  # type: ignore[arg-type]
    revert(store, made, by="bo", reason="r")
    follows.look(deployed)  # type: ignore[arg-type]
    assert deployed.applications == ["m:2", "m:3"]
    follows.stop()


def test_a_version_that_may_not_be_served_is_not(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(label: str) -> Any:
        raise NotApproved(f"{label} was rejected")

    deployed, follows = Deployed(), beside(tmp_path, refuse)
    roll_back(store, "m:3", "m:2")
    for _ in range(3):
        follows.look(deployed)  # type: ignore[arg-type]
    assert deployed.applications == []
    assert caplog.text.count("m:2 was rejected") == 1
    follows.stop()


def test_the_model_is_replaced_before_the_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a gateway that the roll back doesn't close would ask the version that it leads away from."""
    started: list[Any] = []
    monkeypatch.setattr("ray.serve.run_many", lambda targets: started.append(targets))
    monkeypatch.setattr("raysafe.serving.deploy.targets", lambda application, placement: ["gateways", "model"])
    deployment = Deployment(Named("m"), None, "http://x", None, False, False)  # type: ignore[arg-type]
    deployment.replace(Named("m"))  # type: ignore[arg-type]
    assert started == [["model"], ["gateways"]]


class Named(NamedTuple):
    name: str
