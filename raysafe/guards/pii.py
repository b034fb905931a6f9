"""Personal data: blocked, held, or replaced by placeholders that the answer's copies of are restored from.

- kind: pii
  entities: [email, phone, card]
  action: modify          # the model reads <EMAIL_1>; the caller reads the address again
  restore: true

What is replaced stays with its own exchange and ends with it. A placeholder that a client wrote itself is nobody's: no
number is used that a text of the request holds, and only placeholders that this exchange gave out are restored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import Field

from raysafe.guards.entities import EntityConfig, EntityGuard, Marks
from raysafe.guards.finding import Finder, Part, Shape
from raysafe.guards.guard import Exchange, Stage
from raysafe.guards.pii_shapes import SHAPES, Entity
from raysafe.guards.settings import NOTHING, Resources

_PLACEHOLDER = re.compile(r"<[A-Z_]{1,16}_[1-9]\d{0,8}>")
_ANGLE = re.compile(r"\\u003[ce]", re.IGNORECASE)
"""The brackets of a placeholder as JSON may write them."""


class PiiConfig(EntityConfig):
    """`kind: pii` of a policy."""

    kind: Literal["pii"] = "pii"
    name: str = Field(default="pii", min_length=1)
    entities: frozenset[Entity] = Field(
        default=frozenset(get_args(Entity)), min_length=1, description="What is looked for; everything by default."
    )
    restore: bool = Field(
        default=True,
        description="Put what was replaced in the request back into the answer and into the arguments of tool calls; "
        "needs both stages and the action modify.",
    )

    def build(self, resources: Resources = NOTHING) -> PiiGuard:
        return PiiGuard(self)


class PiiGuard(EntityGuard):
    """Raises nothing: what it doesn't know, it lets pass."""

    def __init__(self, config: PiiConfig) -> None:
        shapes = [shape for entity, some in SHAPES.items() if entity in config.entities for shape in some]
        super().__init__(config, Finder(shapes))
        self._restoring = Finder([*shapes, Shape("PLACEHOLDER", _PLACEHOLDER, needs=("<",))])
        self._restores = config.restore

    def marks(self, exchange: Exchange, stage: Stage, texts: Sequence[str]) -> Marks:
        if stage == "input":
            numbered = Numbered(self.finder, texts)
            if self._restores:
                exchange.state[self.name] = numbered.entities
            return numbered
        return Restored(self._restoring if self._restores else self.finder, exchange.state.get(self.name, {}))


class Numbered(Marks):
    """Placeholders for the entities of a request: the same entity is given the same one. `entities` has them back."""

    def __init__(self, finder: Finder, texts: Sequence[str]) -> None:
        super().__init__(finder)
        self.entities: dict[str, str] = {}
        self._taken = {match[0] for text in texts for match in _PLACEHOLDER.finditer(_ANGLE.sub(_unescaped, text))}
        self._given: dict[tuple[str, str], str] = {}
        self._last: dict[str, int] = {}

    def mark(self, name: str, entity: str) -> str:
        placeholder = self._given.get((name, entity))
        while placeholder is None or placeholder in self._taken:
            self._last[name] = self._last.get(name, 0) + 1
            placeholder = f"<{name}_{self._last[name]}>"
        self._given[name, entity] = placeholder
        self.entities[placeholder] = entity
        return placeholder


class Restored(Marks):
    """The model's text: its placeholders are put back, and entities that it brings itself are marked."""

    def __init__(self, finder: Finder, entities: dict[str, str]) -> None:
        super().__init__(finder)
        self._entities = entities

    def put(self, part: Part) -> str:
        if part.kind is None or self.finder.shapes[part.kind].name != "PLACEHOLDER":
            return super().put(part)
        entity = self._entities.get(part.text)
        if entity is None:
            return part.text
        self.restored += 1
        return entity


def _unescaped(match: re.Match[str]) -> str:
    return "<" if match[0][-1] in "cC" else ">"
