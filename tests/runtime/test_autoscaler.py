"""Node types that an autoscaler may add: as Ray derives them, and on a real head node with Ray's fake provider."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from raysafe.runtime.autoscaler import NodeType, from_config

RAY_CLUSTER = {
    "metadata": {"name": "raysafe", "namespace": "ml"},
    "spec": {
        "enableInTreeAutoscaling": True,
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "2"},
            "template": {"spec": {"containers": [{"name": "head", "resources": {"limits": {"cpu": "4"}}}]}},
        },
        "workerGroupSpecs": [
            {
                "groupName": "gpu",
                "minReplicas": 0,
                "maxReplicas": 3,
                "numOfHosts": 2,
                "rayStartParams": {},
                "template": {
                    "spec": {
                        "containers": [
                            {
                                "name": "w",
                                "resources": {"limits": {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "4"}},
                            }
                        ]
                    }
                },
            }
        ],
    },
}


def test_a_raycluster_offers_its_worker_groups_and_not_its_head() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    assert from_config(_derive_autoscaling_config_from_ray_cr(RAY_CLUSTER)) == [NodeType("gpu", 16, 4, 6)]


def test_a_launchers_file_is_limited_by_the_whole_clusters_maximum() -> None:
    config = {
        "max_workers": 5,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 8}},
            "small": {"resources": {"CPU": 4}, "max_workers": 2},
            "big": {"resources": {"CPU": 64, "GPU": 8}},
            "none": {"resources": {"CPU": 1}, "max_workers": 0},
        },
    }
    assert from_config(config) == [NodeType("small", 4, 0, 2), NodeType("big", 64, 8, 5)]


ASK = """
import json, sys
import ray
import raysafe
from raysafe.errors import ResourceError
from raysafe.runtime.cluster import Needs, connect
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
found = []
for needs in (Needs(workers=6, cpus=2, gpus=1), Needs(workers=7, cpus=2, gpus=1), Needs(workers=1, cpus=2, gpus=3)):
    try:
        connect(needs=needs)
        found.append(["held", ""])
    except ResourceError as error:
        found.append(["refused", str(error)])
print(json.dumps(found))
"""


@pytest.mark.ray
def test_a_joined_cluster_is_judged_with_what_its_autoscaler_may_add(tmp_path: Path) -> None:
    config = {
        "cluster_name": "fake",
        "max_workers": 8,
        "provider": {"type": "fake_multinode", "region": "x"},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "gpu": {"resources": {"CPU": 8, "GPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 3},
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1,
        "idle_timeout_minutes": 1,
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "cluster_synced_files": [],
        **{f"{kind}_commands": [] for kind in ("initialization", "setup", "head_setup", "worker_setup")},
        **{f"{kind}_start_ray_commands": [] for kind in ("head", "worker")},
    }
    file = tmp_path / "cluster.yaml"
    file.write_text(json.dumps(config))
    temporary = Path("/tmp") / f"rs-auto-{os.getpid()}"  # the path of a socket must be short
    environment = os.environ | {"RAY_FAKE_CLUSTER": "1", "PYTHONPATH": os.getcwd(), "RAY_AUTH_MODE": "disabled"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--include-dashboard=false",
        "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=1", "--num-gpus=0", f"--temp-dir={temporary}",
        f"--autoscaling-config={file}", "--min-worker-port=21000", "--max-worker-port=21099",
    ]  # fmt: skip
    with (tmp_path / "head.log").open("w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: "Ray runtime started" in (tmp_path / "head.log").read_text(), 90)
        ask = [sys.executable, "-c", ASK, f"127.0.0.1:{port}"]
        done = subprocess.run(ask, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        held, too_many, too_large = json.loads(done.stdout.splitlines()[-1])
    finally:
        family = [head.pid, *(p.pid for p in psutil.Process(head.pid).children(recursive=True))]
        for pid in family:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        head.wait(30)
        shutil.rmtree(temporary, ignore_errors=True)
    assert held[0] == "held"
    assert too_many[0] == too_large[0] == "refused"
    assert "gpu (autoscaler)" in too_many[1] and "asked (workers)" in too_many[1]


def wait_for(condition, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)
