"""`raysafe feedback ITEMS.jsonl`: one server process for the raters of one project."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.errors import ConfigError, ResourceError, StorageError
from raysafe.feedback.active import Measure, disagreement
from raysafe.feedback.desk import Desk
from raysafe.feedback.items import Item, read_items
from raysafe.feedback.order import Order, ranked
from raysafe.feedback.project import LOCK, ProjectSettings, make_project, open_judgements, parse_scale
from raysafe.runtime.lock import Held, exclusive

if TYPE_CHECKING:
    import uvicorn


class FeedbackConfig(Config):
    """Serve a page on which people compare two answers or trajectories, or rate one; each gets a link of their own.

    Judgements are kept in the folder --out and survive the server: start it again with the same folder to go on.
    `raysafe feedback status FOLDER` shows them, `raysafe feedback export FOLDER --to FILE` makes training data of them,
    and `raysafe feedback pairs MODEL --prompts FILE --to ITEMS.jsonl` has a model write answers to compare.
    """

    items: str = Field(
        description="JSON Lines to judge: prompt + a + b (answers), steps_a + steps_b or frames_a + frames_b "
        "(trajectories: texts, or PNG and JPEG files), or one to rate: prompt + answer, steps, or frames."
    )
    out: str = Field(default="feedback", description="Folder of the judgements, made where it is missing.")
    raters: tuple[str, ...] = Field(
        default=("rater",), min_length=1, description="Who judges; each new one gets a link."
    )
    renew: tuple[str, ...] = Field(default=(), description="Raters whose link was lost: a new one replaces it.")
    question: str | None = Field(
        default=None, max_length=500, description="What the page asks, in place of which is better or how good one is."
    )
    scale: str = Field(default="1-5", description="Lowest and highest rating, such as 1-5 or 0-10.")
    order: Order = Field(
        default="given", description="Which items come first: as given, random, or active (most disagreement)."
    )
    reward_models: tuple[str, ...] = Field(
        default=(), description="Two or more reward models, for order active; without them items carry their rewards."
    )
    measure: Measure = Field(
        default="bald", description="Disagreement: bald (information of an answer) or spread (of the reward gap)."
    )
    overlap: float = Field(default=0.2, ge=0, le=1, description="Share of items that every rater judges.")
    per_item: int = Field(default=1, ge=1, description="Judgements that each other item needs.")
    seed: int = Field(default=0, ge=0, description="Seed of the sides' order and of what is drawn.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8790, ge=0, le=65535, description="Port; 0 takes a free one.")
    allow_remote: bool = Field(
        default=False, description="Listen beyond this machine, in plain HTTP: put a proxy with TLS in front."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.allow_remote and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reached from other machines, over HTTP that anyone on the way can read: put a "
                "proxy with TLS before it and set allow_remote, or use 127.0.0.1"
            )
        if self.reward_models and self.order != "active":
            raise ValueError(f"reward_models has no effect on order '{self.order}': set order to active")
        return self

    @property
    def settings(self) -> ProjectSettings:
        low, high = parse_scale(self.scale)
        return ProjectSettings(low=low, high=high, overlap=self.overlap, seed=self.seed)


class FeedbackService:
    """A project ready to be served, its port bound and its folder locked. Use as a context manager."""

    def __init__(self, config: FeedbackConfig) -> None:
        """Check everything, keep new items and raters; raises RaySafeError."""
        settings = config.settings
        items = read_items(config.items)
        wanted = _in_order(items, config)
        self.config = config
        self._open = ExitStack()
        with ExitStack() as opened:
            make_project(config.out, settings)
            try:
                opened.enter_context(exclusive(Path(config.out, LOCK)))
            except Held as holder:
                raise StorageError(f"{config.out} is served already, by {holder}: stop that first") from None
            self._socket = opened.enter_context(_bind(config.host, config.port))
            store, judgements = open_judgements(config.out)
            opened.callback(store.close)
            self.new_items = judgements.add_items(items)
            self.desk = Desk(judgements, wanted, settings, wanted=config.per_item)
            self.tokens = _tokens(config, self.desk)
            self._open = opened.pop_all()

    @property
    def url(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    @property
    def links(self) -> dict[str, str]:
        """The link of each rater whose token is new. What follows # is never sent, nor logged, by a browser."""
        return {name: f"{self.url}#token={token}" for name, token in self.tokens.items()}

    def serve(self) -> None:
        """Answer requests until Ctrl-C or SIGTERM."""
        self._server().run(sockets=[self._socket])

    def serve_while(self, wanted: Callable[[], bool], *, poll_s: float = 0.5) -> None:
        """Answer requests in a thread, as long as `wanted` says so here."""
        server = self._server()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        thread.start()
        try:
            while wanted() and thread.is_alive():
                time.sleep(poll_s)
        finally:
            server.should_exit = True
            thread.join()

    def _server(self) -> uvicorn.Server:
        import uvicorn

        from raysafe.feedback.server import create_app

        folder = Path(self.config.items).absolute().parent
        app = create_app(self.desk, folder=folder, question=self.config.question)
        # no log_config: uvicorn's would close the handlers of the training that it answers for
        settings = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            ws="none",
        )
        return uvicorn.Server(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_order(items: Sequence[Item], config: FeedbackConfig) -> list[Item]:
    values = disagreement(items, config.measure, config.reward_models) if config.order == "active" else {}
    by_name = {item.name: item for item in items}
    return [by_name[name] for name in ranked(list(by_name), config.order, seed=config.seed, disagreement=values)]


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"host {host} is no address of this machine ({error.strerror})") from None
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        # from here on the links that are printed wait for an answer instead of being refused
        bound.listen()
    except OSError as error:
        bound.close()
        raise ResourceError(f"can't listen on {host} port {port} ({error.strerror}): give another --port") from None
    return bound


def _tokens(config: FeedbackConfig, desk: Desk) -> dict[str, str]:
    """Tokens of raters that are new or renewed."""
    strange = sorted(set(config.renew) - set(desk.judgements.raters()) - set(config.raters))
    if strange:
        raise ConfigError(f"renew names '{strange[0]}', who is no rater of this project: name them in --raters")
    made = {
        name: desk.judgements.add_rater(name, renew=name in config.renew)
        for name in dict.fromkeys((*config.raters, *config.renew))
    }
    return {name: token for name, token in made.items() if token is not None}
