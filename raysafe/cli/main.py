"""`raysafe <command>`: a static table of commands; only the chosen one's module is imported."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from importlib import import_module

from raysafe import __version__
from raysafe.errors import RaySafeError

COMMANDS = {
    "quickstart": ("raysafe.cli.quickstart", "The whole line on a small embedded model, in minutes."),
    "doctor": ("raysafe.cli.doctor", "What this machine and cluster offer, and what to do about what is missing."),
    "sft": ("raysafe.cli.sft", "Fine-tune a policy on demonstrations."),
    "reward-model": ("raysafe.cli.reward_model", "Train a model that scores answers, from pairs or ratings."),
    "dpo": ("raysafe.cli.dpo", "Train a policy on preference pairs (direct preference optimisation)."),
    "ppo": ("raysafe.cli.ppo", "Train a policy on rewards of its own answers, with a critic (RLHF by PPO)."),
    "grpo": ("raysafe.cli.grpo", "The same without a critic: GRPO, Dr. GRPO, RLOO or REINFORCE++."),
    "rl": ("raysafe.cli.rl", "Train an agent in an environment: PPO, DQN or tabular Q-learning."),
    "irl": ("raysafe.cli.irl", "Learn what somebody wants, or does, from demonstrations."),
    "self-play": ("raysafe.cli.self_play", "Train an agent of a two-player game against its past selves."),
    "adversarial": ("raysafe.cli.adversarial", "Train a classifier of images that holds against changed inputs."),
    "transfer": ("raysafe.cli.transfer", "Carry a classifier over to other data: fine-tuning, domain adaptation."),
    "continual": ("raysafe.cli.continual", "Teach a classifier tasks one after the other without its forgetting."),
    "classifier": ("raysafe.cli.classifier", "Train a classifier of a table's rows: regularised, fair between groups."),
    "evaluate": ("raysafe.cli.evaluate", "Examine a model; the result is evidence for its review."),
    "sweep": ("raysafe.cli.sweep", "Try a job with many settings (Ray Tune), compare them, register the best."),
    "judge": ("raysafe.cli.judge", "Let a model judge answers by the constitution, or compare pairs."),
    "feedback": ("raysafe.cli.feedback", "A page where people compare or rate answers; agreement and export."),
    "registry": ("raysafe.cli.registry", "Versions of models and what they were made from."),
    "review": ("raysafe.cli.review", "Read a safety case; approve or reject a version."),
    "committee": (
        "raysafe.cli.committee",
        "Members, reviews, assessments, votes and appeals of the oversight committee.",
    ),
    "guards": ("raysafe.cli.guards", "Check a policy, measure it against attacks, train its classifiers and probes."),
    "capabilities": ("raysafe.cli.capabilities", "What a model may do: granted, allowed, and in effect."),
    "serve": ("raysafe.cli.serve", "Serve an approved model behind guards, with an OpenAI-compatible API."),
    "keys": ("raysafe.cli.keys", "API keys: list, make, rotate and revoke them."),
    "holds": ("raysafe.cli.holds", "Decide on what guards have held for a person."),
    "incidents": ("raysafe.cli.incidents", "What was blocked, held and corrected: list, correct, export for training."),
    "monitor": ("raysafe.cli.monitor", "Watch what services answer: rules, alerts, escalation, history."),
    "interventions": ("raysafe.cli.interventions", "Throttle, review, degrade, roll back or quarantine a service."),
    "kill": ("raysafe.cli.kill", "Close a model, or everything, at every gateway at once."),
    "restore": ("raysafe.cli.restore", "Open again what was killed: by a second person."),
    "sandbox": ("raysafe.cli.sandbox", "Run code that isn't trusted where it can reach nothing."),
    "submit": ("raysafe.cli.submit", "Run a job on a Ray cluster and follow it."),
    "jobs": ("raysafe.cli.jobs", "List, show, follow and stop the jobs of a Ray cluster."),
    "plan": ("raysafe.cli.plan", "What a training or service takes on GPUs, and where its roles go."),
    "runs": ("raysafe.cli.runs", "List, show, resume and compare runs."),
    "audit": ("raysafe.cli.audit", "Verify and read the tamper-evident log of decisions."),
}


def usage() -> str:
    """The text of `raysafe --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: raysafe COMMAND [OPTIONS]",
            "",
            "From preference data to a reviewed, guarded HTTP service on Ray.",
            "",
            *lines,
            "",
            "`raysafe COMMAND --help` explains a command; `raysafe quickstart` is the place to begin.",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for what the user can mend, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"raysafe {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "`raysafe --help` lists the commands"
        print(f"raysafe: unknown command '{name}'; {hint}", file=sys.stderr)
        return 2
    return guarded(lambda: import_module(COMMANDS[name][0]).main(rest))


def guarded(command: Callable[[], int]) -> int:
    """Run a command; what the user can mend becomes one sentence on stderr and an exit code."""
    try:
        return command()
    except RaySafeError as error:
        print(f"raysafe: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("raysafe: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except SystemExit as leaving:
        if leaving.code == signal.SIGTERM:
            # Ray's handler, where Ray was started by other hands
            print("raysafe: stopped", file=sys.stderr)
            return 130
        # tyro ends a bad command line this way, having said why
        return leaving.code if isinstance(leaving.code, int) else 2


if __name__ == "__main__":
    sys.exit(main())
