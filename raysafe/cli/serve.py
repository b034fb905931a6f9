"""`raysafe serve MODEL --policy policy.yaml`: serve an approved model in the foreground until Ctrl-C."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from rich.console import Console

    from raysafe.serving.service import Service


def main(argv: list[str]) -> int:
    """Start, say where and how to ask, and take the service down at the end."""
    from pydantic import Field
    from rich.console import Console

    from raysafe.serving.serve_config import write_config
    from raysafe.serving.service import ServiceConfig, start_service

    class Command(ServiceConfig):
        __doc__ = ServiceConfig.__doc__

        write_config: str | None = Field(
            default=None, description="Write a config for `serve deploy` to this file instead, and start nothing."
        )

    console = Console(highlight=False, soft_wrap=True)
    config = tyro.cli(Command, args=argv, prog="raysafe serve", config=(tyro.conf.PositionalRequiredArgs,))
    if config.write_config is not None:
        write_config(config, Path(config.write_config))
        console.print(f"Wrote {config.write_config}: `serve deploy {config.write_config}` starts it on a running Ray.")
        return 0
    what = config.model or f"{config.upstream_model} at {config.upstream}"
    console.print(f"Checking and starting '{what}' …", markup=False)
    with start_service(config) as service:
        console.print(describe(service), markup=False)
        try:
            service.wait()
        except KeyboardInterrupt:
            drain(service, console)
            return 0
    console.print("The service ended of itself; Ray's logs say why.")
    return 1


def drain(service: Service, console: Console) -> None:
    """Let what is under way end, and say how much that is; a second Ctrl-C ends it at once, by KeyboardInterrupt."""
    console.print("\nStopping: nothing more is admitted. Ctrl-C again ends it at once.")
    with console.status("…") as status:

        def told(count: int) -> None:
            status.update(f"waiting for {count} request{'' if count == 1 else 's'} under way" if count else "ending")

        service.drain(told)
    console.print("Stopped.")


def describe(service: Service) -> str:
    """What the user needs: the address, the key while it can still be shown, and a request to try."""
    shown = service.key or "$RAYSAFE_API_KEY"
    body = json.dumps({"model": service.model, "messages": [{"role": "user", "content": "Hello!"}]})
    lines = [
        f"Serving {service.label} as '{service.model}' under the policy '{service.policy.name}'",
        f"  base URL  {service.url}/v1",
    ]
    if service.dashboard:
        lines.append(f"  dashboard {service.dashboard}   (sign in with a key of the scope reviewer or operator)")
    if service.note:
        lines.append(f"  note      {service.note}")
    if service.key:
        lines.append(f"  API key   {service.key}   (shown this once; only its digest is kept)")
    lines += [
        "Try:",
        f"  curl {service.url}/v1/chat/completions -H 'Authorization: Bearer {shown}' \\",
        f"    -H 'Content-Type: application/json' -d '{body}'",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)
