"""The tool `python` as a model is told of it, and a service that offers it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import SandboxUnavailable
from raysafe.errors import ConfigError
from raysafe.serving.python_tool import PythonToolSettings, definition, read_code, result_text
from raysafe.serving.service import ServiceConfig, plan_service
from tests.serving.programs import Ran

pytestmark = pytest.mark.serve


def test_the_model_is_told_the_sandbox_s_limits() -> None:
    policy = Policy(wall_seconds=5, memory_bytes=1 << 29, domains=("pypi.org",))
    text = definition(PythonToolSettings(policy=policy)).definition
    assert "5 s" in text and "536,870,912" in text and "pypi.org" in text
    assert "There is no network" in definition(PythonToolSettings()).definition


@pytest.mark.parametrize(
    "arguments", ["", "[]", "3", '{"code": 3}', '{"code": "1", "x": 2}', "{}", '{"code": "\\ud800"}']
)
def test_only_a_program_is_one(arguments: str) -> None:
    assert read_code(arguments) is None


def test_a_long_output_is_cut_in_its_middle() -> None:
    text = result_text(Ran("a" * 500 + "end", "oops", 1, "memory"), 100)
    assert text.startswith("exit code 1, stopped at its limit of memory\nstdout:\naaaa")
    assert "403 characters are left out" in text and text.endswith("end\nstderr:\noops")


def service(tmp_path: Path, **fields: Any) -> ServiceConfig:
    caps = tmp_path / "capabilities.yaml"
    caps.write_text("tools: [python]\nautonomy: 3\n")
    given = {
        "upstream": "http://127.0.0.1:1/v1",
        "upstream_model": "big",
        "unreviewed_upstream": True,
        "upstream_capabilities": str(caps),
        "name": "guarded",
        "store": f"sqlite:///{tmp_path}/store.db",
    }
    return ServiceConfig(**given | fields)


@pytest.mark.usefixtures("isolation")
def test_a_service_with_the_tool_has_its_sandboxes(tmp_path: Path) -> None:
    policy = tmp_path / "sandbox.yaml"
    policy.write_text("memory_bytes: 100000000\ndisk_bytes: 2000000\n")
    plan = plan_service(service(tmp_path, python_tool=True, sandbox_policy=str(policy), python_calls=2))
    tool = plan.application.gateway.python_tool
    assert tool is not None and (tool.policy.memory_bytes, tool.calls) == (100_000_000, 2)


def test_without_isolation_a_service_with_the_tool_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "sandbox.yaml"
    policy.write_text("backend: gvisor\n")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxUnavailable, match="no runsc"):
        plan_service(service(tmp_path, python_tool=True, sandbox_policy=str(policy)))


@pytest.mark.parametrize("fields", [{"sandbox_policy": "x.yaml"}, {"python_calls": 3}])
def test_settings_of_a_tool_that_is_not_there_are_refused(tmp_path: Path, fields: Any) -> None:
    with pytest.raises(ConfigError, match="has no effect without python_tool"):
        plan_service(service(tmp_path, **fields))
