"""Arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import tyro

Store = Annotated[str | None, tyro.conf.arg(help="Store URL; RAYSAFE_STORE or runs/raysafe.db by default.")]
AsJson = Annotated[bool, tyro.conf.arg(name="json", help="Print JSON instead of tables.")]
By = Annotated[str | None, tyro.conf.arg(help="Who; RAYSAFE_REVIEWER, or this account's name, by default.")]
Reviewer = Annotated[str | None, tyro.conf.arg(help="Who decides; RAYSAFE_REVIEWER by default.")]
