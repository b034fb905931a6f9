"""Performance is nowhere in a process in which an agent acts."""

from __future__ import annotations

import subprocess
import sys

import pytest

SEARCH = """
import gc, sys, types
import gymnasium, raysafe.rl.envs
from raysafe.rl.envs.problems import PROBLEMS

for name in PROBLEMS:
    env = gymnasium.make(f"raysafe/{name}-v0")
    many = gymnasium.make_vec(f"raysafe/{name}-v0", num_envs=2)
    reached = [env, many, many.reset(seed=1)]
    obs, info = env.reset(seed=1)
    over = False
    while not over:
        result = env.step(env.action_space.sample())
        over = result[2] or result[3]
        reached.append(result)
        many.step(many.action_space.sample())
    seen, waiting = set(), [reached, env.spec, many.spec]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        where = getattr(thing, "__module__", None) or ""
        assert not str(where).startswith("raysafe.rl.envs.performance"), thing
        if isinstance(thing, str):
            assert "performance" not in thing.lower() or len(thing) > 60, thing
        if isinstance(thing, types.ModuleType):
            assert "performance" not in thing.__name__, thing
            continue
        if not isinstance(thing, (str, bytes, int, float)):
            waiting.extend(gc.get_referents(thing))
    assert len(seen) > 1000
left = [name for name in sys.modules if name.startswith(("raysafe.rl.envs.performance", "raysafe.rl.envs.optimum"))]
assert not left, left
print("clean")
"""


@pytest.mark.serve
def test_no_performance_in_the_process_of_an_agent() -> None:
    """Neither loaded, nor in observations, info, wrappers or attributes, nor anything that those lead to."""
    done = subprocess.run([sys.executable, "-c", SEARCH], capture_output=True, text=True, check=False)
    assert done.stdout == "clean\n", done.stderr[-2000:]
