"""The launcher's files through Ray's own preparation and validation, offline, and what they must never open."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from raysafe.runtime.autoscaler import from_config
from tests.cluster.manifests import CLUSTER, documents

FILES = ("aws", "gcp", "onprem")
each = pytest.mark.parametrize("name", FILES)


def launcher(name: str) -> dict[str, Any]:
    (found,) = documents(CLUSTER / "launcher" / f"{name}.yaml")
    return found


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The config as `ray up` would use it, defaults filled in; raises what Ray raises."""
    ready = prepare_config(config)
    validate_config(ready)
    return ready


@each
def test_ray_takes_the_file(name: str) -> None:
    prepared(launcher(name))


@each
def test_ray_refuses_a_misspelt_field(name: str) -> None:
    config = launcher(name)
    config["idle_timeout"] = config.pop("idle_timeout_minutes")
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        prepared(config)


def test_ray_refuses_a_head_of_no_known_type() -> None:
    with pytest.raises(ValueError, match="head_node_type"):
        prepared(launcher("aws") | {"head_node_type": "main"})


@each
def test_ray_refuses_an_image_without_a_container(name: str) -> None:
    config = launcher(name)
    del config["docker"]["container_name"]
    with pytest.raises(AssertionError, match="container"):
        prepared(config)


@each
def test_nothing_is_installed_over_the_images(name: str) -> None:
    ready = prepared(launcher(name))
    kinds = ("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands")
    assert [command for kind in kinds for command in ready[kind]] == []


@each
def test_ray_starts_only_where_the_token_is(name: str) -> None:
    config = prepared(launcher(name))
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    for role in ("head", "worker"):
        commands = config[f"{role}_start_ray_commands"]
        starts = [i for i, command in enumerate(commands) if "ray start" in command]
        assert len(starts) == 1
        assert commands.index("test -s ~/.ray/auth_token") < starts[0]
        assert commands[starts[0]].startswith("RAY_AUTH_MODE=token ray start ")


@each
def test_the_head_takes_no_work_and_its_dashboard_stays_on_it(name: str) -> None:
    (start,) = [command for command in launcher(name)["head_start_ray_commands"] if "ray start" in command]
    assert "--num-cpus=0" in start
    assert "--num-gpus=0" in start
    assert "--dashboard-host=127.0.0.1" in start
    assert "0.0.0.0" not in start


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_the_autoscaler_may_add_cpu_and_gpu_machines(name: str) -> None:
    offered = {kind.name: (kind.cpus, kind.gpus, kind.most) for kind in from_config(prepared(launcher(name)))}
    assert offered == {"cpu": (8.0, 0.0, 8), "gpu": (48.0, 4.0, 4)}


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_gpu_machines_run_the_image_with_cuda(name: str) -> None:
    config = prepared(launcher(name))
    assert config["available_node_types"]["gpu"]["docker"]["worker_image"].startswith("raysafe-cuda:")
    assert config["docker"]["head_image"].startswith("raysafe-cpu:")


def test_on_aws_no_machine_gets_rays_own_security_group_which_opens_ssh_to_the_world() -> None:
    config = prepared(launcher("aws"))
    assert config["provider"]["use_internal_ips"] is True
    assert "security_group" not in config["provider"]
    for kind in config["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"]
        assert kind["node_config"]["SubnetIds"]
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_on_google_cloud_no_machine_gets_a_public_address() -> None:
    config = prepared(launcher("gcp"))
    assert config["provider"]["use_internal_ips"] is True
    for kind in config["available_node_types"].values():
        (interface,) = kind["node_config"]["networkInterfaces"]
        assert "accessConfigs" not in interface


@each
def test_containers_hold_no_privileges(name: str) -> None:
    options = launcher(name)["docker"]["run_options"]
    assert "--cap-drop ALL" in options
    assert "--security-opt no-new-privileges" in options
    assert not any(word in option for option in options for word in ("privileged ", "--privileged", "-p ", "--publish"))


def test_on_premises_every_machine_that_is_named_is_used() -> None:
    config = prepared(launcher("onprem"))
    (kind,) = config["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(config["provider"]["worker_ips"])
