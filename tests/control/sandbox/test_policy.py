"""What a policy may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysafe.control.sandbox import Policy, run
from raysafe.errors import ConfigError


def test_defaults_are_the_documented_ones() -> None:
    policy = Policy()
    assert (policy.memory_bytes, policy.cpus, policy.gpus, policy.wall_seconds) == (4 << 30, 2, 0, 300)
    assert (policy.domains, policy.disk_bytes, policy.output_bytes) == ((), 100_000_000, 1 << 20)
    assert (policy.execute, policy.bandwidth_bytes_per_s) == (False, 1_000_000)


@pytest.mark.parametrize(
    "values, named",
    [
        ({"gpus": 1}, "gpus: a sandbox has no GPU"),
        ({"memory_bytes": 1}, "memory_bytes"),
        ({"wall_seconds": 0}, "wall_seconds"),
        ({"output_bytes": (1 << 20) + 1}, "output_bytes"),
        ({"disk_bytes": 8 << 30}, "raise memory_bytes or lower disk_bytes"),
        ({"readable": ("data",)}, "absolute path"),
        ({"readable": ("/usr/../etc",)}, "absolute path"),
        ({"readable": ("/",)}, "absolute path"),
        ({"readable": ("/proc/1",)}, "of its own"),
        ({"readable": ("/etc",)}, "of its own"),
        ({"readable": ("/tmp",)}, "of its own"),
        ({"readable": ("/nowhere/at/all",)}, "there is no '/nowhere/at/all'"),
        ({"memory": 1}, "did you mean"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Policy(**values)


def test_what_is_readable_can_be_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    (tmp_path / "data" / "in.txt").write_text("read me")
    source = f"""
print(open('{tmp_path}/data/in.txt').read())
try: open('{tmp_path}/data/in.txt', 'a')
except OSError as error: print(type(error).__name__)
try: open('{tmp_path}/other', 'w')
except OSError as error: print(type(error).__name__)
"""
    result = run(source, Policy(readable=(str(tmp_path / "data"),)))
    assert result.stdout.splitlines()[0] == "read me", result.stderr
    assert result.stdout.splitlines()[1] in ("OSError", "PermissionError")
    assert not (tmp_path / "other").exists()
    assert (tmp_path / "data" / "in.txt").read_text() == "read me"


def test_other_programs_run_where_the_policy_says_so() -> None:
    source = "import subprocess\nprint(subprocess.run(['echo', 'hi'], capture_output=True, text=True).stdout)"
    assert run(source, Policy(execute=True)).stdout == "hi\n\n"


def test_a_program_may_not_start_another_where_the_policy_does_not() -> None:
    result = run(["sh", "-c", "echo first; /usr/bin/env"])
    assert (result.stdout, result.exit_code) == ("first\n", 126)
