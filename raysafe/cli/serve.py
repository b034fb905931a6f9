"""`raysafe serve MODEL --policy policy.yaml`: serve an approved model in the foreground until Ctrl-C."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from raysafe.serving.service import Service


def main(argv: list[str]) -> int:
    """Start, say where and how to ask, and take the service down at the end."""
    from rich.console import Console

    from raysafe.serving.service import ServiceConfig, start_service

    console = Console(highlight=False, soft_wrap=True)
    config = tyro.cli(ServiceConfig, args=argv, prog="raysafe serve", config=(tyro.conf.PositionalRequiredArgs,))
    console.print(f"Checking and starting '{config.model}' …")
    with start_service(config) as service:
        console.print(describe(service), markup=False)
        try:
            service.wait()
        except KeyboardInterrupt:
            console.print("\nStopping …")
            return 0
    console.print("The service ended of itself; Ray's logs say why.")
    return 1


def describe(service: Service) -> str:
    """What the user needs: the address, the key while it can still be shown, and a request to try."""
    shown = service.key or "$RAYSAFE_API_KEY"
    body = json.dumps({"model": service.model, "messages": [{"role": "user", "content": "Hello!"}]})
    lines = [
        f"Serving {service.version.label} as '{service.model}' under the policy '{service.policy.name}'",
        f"  base URL  {service.url}/v1",
    ]
    if service.key:
        lines.append(f"  API key   {service.key}   (shown this once; only its digest is kept)")
    lines += [
        "Try:",
        f"  curl {service.url}/v1/chat/completions -H 'Authorization: Bearer {shown}' \\",
        f"    -H 'Content-Type: application/json' -d '{body}'",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)
