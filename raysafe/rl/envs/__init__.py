"""Small worlds in which a reward says less than what was meant; importing this registers them with gymnasium."""

from gymnasium.envs.registration import register

from raysafe.rl.envs.problems import PROBLEMS

for _name in PROBLEMS:
    register(
        f"raysafe/{_name}-v0",
        entry_point="raysafe.rl.envs.environment:GridworldEnv",
        vector_entry_point="raysafe.rl.envs.vector:VectorGridworldEnv",
        kwargs={"problem": _name},
    )
