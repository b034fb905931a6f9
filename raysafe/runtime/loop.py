"""The training loop, as each Ray Train worker runs it: one step is one global batch, whatever the number of ranks."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train import Checkpoint

from raysafe.errors import RaySafeError, TrainingError
from raysafe.runtime import checkpoint as checkpoints
from raysafe.runtime import parallel
from raysafe.runtime.batches import deal, micro_batches, step_rows, steps_per_epoch
from raysafe.runtime.checkpoint import Position
from raysafe.runtime.gradient import Sums, accumulate
from raysafe.runtime.learner import FitConfig, Learner
from raysafe.runtime.storage import Folder

REPORT_INTERVAL_S = 0.5


@dataclass
class Order:
    """What the driver hands every worker."""

    learner: Learner
    config: FitConfig
    seed: int
    run_uri: str
    target: str
    """Where in the run the trained model goes."""
    inbox: Any
    """Actor that takes rows of metrics and says whether to stop."""
    train: list[ray.ObjectRef]
    validation: list[ray.ObjectRef]


def work(settings: dict[str, Order]) -> None:
    """A worker's whole life. Errors that a retry would not mend go to the driver instead of failing the worker."""
    order = settings["order"]
    try:
        outcome = Worker(order).train()
    except RaySafeError as error:
        ray.get(order.inbox.fail.remote(error))
        return
    if ray.train.get_context().get_world_rank() == 0:
        ray.get(order.inbox.finish.remote(outcome))


def rank(figure: float, step: int, mode: Literal["min", "max"]) -> float:
    """What Ray Train keeps checkpoints by: higher is better, and of equal figures the earlier one, as for us.

    Else Ray may let go of the very checkpoint that is to be exported.
    """
    return (figure if mode == "max" else -figure) - step * 1e-12 * max(1.0, abs(figure))


class Worker:
    """State of one rank."""

    def __init__(self, order: Order) -> None:
        self.order, self.learner, self.config = order, order.learner, order.config
        context = ray.train.get_context()
        self.rank, self.ranks = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        if self.device.type == "cpu":
            torch.set_num_threads(max(1, int(self.config.cpus_per_worker)))
        self.train_rows: pa.Table = ray.get(order.train[0])
        self.validation_rows: pa.Table | None = ray.get(order.validation[0]) if order.validation else None
        self.lengths = np.asarray(self.train_rows["length"])
        rows = self.train_rows.num_rows
        self.epoch_steps = steps_per_epoch(rows, self.config.batch_size)
        self.epoch_steps *= self.learner.replays
        wanted = self.epoch_steps * self.config.epochs
        self.total_steps = min(wanted, self.config.max_steps or wanted)
        checkpoints.seed_everything(order.seed, self.rank)
        self.dtype = parallel.compute_dtype(self.config.precision, self.device)
        self.module = parallel.wrap(self.learner.build(), self.config, self.device)
        self.groups = parallel.whole_groups(self.module, self.learner.rate_groups(parallel.unwrapped(self.module)))
        self.optimizer = parallel.make_optimizer(self.module, self.config, self.groups)
        self.position = Position()
        self.outbox: list[dict[str, Any]] = []
        self.unwritten: list[dict[str, Any]] = []
        """Rows that a kill of the driver would lose; checkpoints carry them."""
        self.asked: ray.ObjectRef | None = None
        self.reported_at = 0.0
        self.stop_wanted = False
        self.saved_step: int | None = None
        """Step of the last checkpoint."""
        self._resume()

    def train(self) -> dict[str, Any]:
        """Steps until the end, early stopping or the user's Ctrl-C; then the best model is written."""
        evaluate_every = self.config.evaluate_every or self.epoch_steps
        saved_at = self.position.step if self.position.step else None
        early = self._ended()
        while self.position.step < self.total_steps and not early:
            row, stop = self._step()
            step = self.position.step
            last = step == self.total_steps
            if self.validation_rows is not None and (step % evaluate_every == 0 or last):
                best = self.position.best
                figures = self._validate()
                row |= {f"validation/{name}": value for name, value in figures.items()}
                why = self.learner.give_up(figures, best)
                if why is not None and self.rank == 0:
                    ray.get(self.order.inbox.note.remote("stopped-early", {"step": step, "why": why}))
                self.position.given_up = why is not None
                early = self._ended()
                due = True
            else:
                due = last or (self.config.checkpoint_every is not None and step % self.config.checkpoint_every == 0)
            self.unwritten.append(row)
            if due or stop:
                self._save(row)
                saved_at = step
            self._tell(row, now=due or stop)
            if stop and not last:
                return {"status": "stopped", "step": step}
        if saved_at != self.position.step:
            self._save({})
        self._export()
        return {
            "status": "finished",
            "step": self.position.step,
            "best_step": self.position.best_step,
            "best": self.position.best,
            "early": early,
        }

    def _step(self) -> tuple[dict[str, Any], bool]:
        """One optimiser step; returns its row of metrics and whether any rank was asked to stop."""
        started = time.perf_counter()
        step, config = self.position.step, self.config
        self.module.train()
        self.learner.before_step(step, self.total_steps)
        batch = step // self.learner.replays
        rows = step_rows(self.train_rows.num_rows, config.batch_size, seed=self.order.seed, step=batch)
        micros = self._plan(self.lengths[rows], rows)
        batches = [self.learner.collate(self.train_rows.take(pa.array(m))).to(self.device) for m, _ in micros]
        mine = sum(b.weight for b, (_, active) in zip(batches, micros, strict=True) if active)
        weight, stop = parallel.sum_over_ranks([mine, float(self.stop_wanted)], self.device)
        rate = config.rate(step, self.total_steps)
        parallel.set_rates(self.optimizer, self.groups, rate)
        sums = accumulate(
            self.module,
            self.learner.loss,
            [(batch, active) for batch, (_, active) in zip(batches, micros, strict=True)],
            weight=weight,
            ranks=self.ranks,
            dtype=self.dtype,
            device=self.device,
        )
        bad = [] if sums.bad is None else micros[sums.bad][0].tolist()
        parallel.hold_back(self.optimizer, self.groups, step / self.total_steps)
        norm = parallel.clip(self.module, config.clip_norm)
        row = sums.over_ranks(weight, self.device)
        if not math.isfinite(row["loss"]) or not math.isfinite(norm):
            self._refuse(step + 1, rows, bad, row["loss"], norm)
        self.optimizer.step()
        self.learner.after_step(parallel.unwrapped(self.module), self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.position.step += 1
        seconds = time.perf_counter() - started
        tokens = int(self.lengths[rows].sum())
        self.position.tokens += tokens
        row |= {
            "epoch": self.position.step / self.epoch_steps,
            "learning_rate": rate,
            "gradient_norm": norm,
            "step": self.position.step,
            "rows_per_s": len(rows) / seconds,
            "tokens_per_s": tokens / seconds,
        }
        return row, stop > 0

    def _validate(self) -> dict[str, float]:
        """Figures on the validation rows; notes whether they are the best so far."""
        assert self.validation_rows is not None
        self.module.eval()
        sums, weight = Sums(), 0.0
        lengths = np.asarray(self.validation_rows["length"])
        with torch.no_grad(), parallel.autocast(self.dtype, self.device):
            for micro, active in self._plan(lengths, np.arange(len(lengths))):
                batch = self.learner.collate(self.validation_rows.take(pa.array(micro))).to(self.device)
                loss, metrics = self.learner.loss(self.module, batch)
                sums.add(loss, metrics, active)
                weight += batch.weight if active else 0.0
        (weight,) = parallel.sum_over_ranks([weight], self.device)
        figures = sums.over_ranks(weight, self.device)
        if self.config.monitor not in figures:
            known = ", ".join(sorted(figures))
            raise TrainingError(f"training.monitor '{self.config.monitor}' is not measured here; choose one of {known}")
        figure = figures[self.config.monitor]
        best, best_step = self.position.best, self.position.best_step
        mode = self.config.monitor_mode
        if best is None or best_step is None or rank(figure, self.position.step, mode) > rank(best, best_step, mode):
            self.position.best, self.position.best_step = figure, self.position.step
            self.position.evaluations_without_gain = 0
        else:
            self.position.evaluations_without_gain += 1
        return figures

    def _plan(self, lengths: np.ndarray, rows: np.ndarray) -> list[tuple[np.ndarray, bool]]:
        """This rank's micro-batches as row numbers; the flag is False for one that only keeps ranks in step."""
        hands = deal(lengths.tolist(), self.ranks)
        budget, padded = self.config.micro_tokens, self.learner.padded
        plans = [micro_batches(lengths[hand].tolist(), budget, padded=padded) for hand in hands]
        mine = [(rows[np.array(hands[self.rank])[group]], True) for group in plans[self.rank]]
        # sharded ranks gather parameters together in every forward pass, so all need as many; any rank needs one
        wanted = max(map(len, plans)) if self.config.sharding == "fsdp" else 1
        return mine + [(rows[:1], False)] * (wanted - len(mine))

    def _ended(self) -> bool:
        """Whether training is over before its last step."""
        if self.position.given_up:
            return True
        return self.config.patience is not None and self.position.evaluations_without_gain >= self.config.patience

    def _refuse(self, step: int, rows: np.ndarray, bad: list[int], loss: float, norm: float) -> None:
        everyone: list[Any] = [bad]
        if self.ranks > 1:
            everyone = [None] * self.ranks
            dist.all_gather_object(everyone, bad)
        places = sorted(row for some in everyone for row in some) or sorted(rows.tolist())
        kept = (
            "there is no checkpoint yet"
            if self.saved_step is None
            else f"the last checkpoint is step {self.saved_step}"
        )
        raise TrainingError(
            f"step {step}: loss {loss:g} and gradient norm {norm:g} are not both finite, in the batch with data rows "
            f"{self.learner.name_rows(self.train_rows, places)}; {kept}; a resume would repeat this: "
            "mend these rows or lower training.learning_rate, then start a new run"
        )

    def _tell(self, row: dict[str, Any], *, now: bool) -> None:
        """Send metrics to the driver every half second, and learn whether it wants to stop."""
        if self.rank:
            return
        self.outbox.append(row)
        if self.asked is not None and ray.wait([self.asked], timeout=0)[0]:
            self.stop_wanted, written = ray.get(self.asked)
            self.unwritten = [r for r in self.unwritten if r["step"] > written]
            self.asked = None
        if now or (self.asked is None and time.monotonic() - self.reported_at > REPORT_INTERVAL_S):
            self.asked = self.order.inbox.put.remote(self.outbox, self.total_steps)
            self.outbox, self.reported_at = [], time.monotonic()

    def _save(self, row: dict[str, Any]) -> None:
        """Report a checkpoint; Ray Train uploads it while training goes on."""
        gathered = checkpoints.gather(self.module, self.optimizer, self.device)
        name = f"step-{self.position.step:08d}"
        figure = row.get(f"validation/{self.config.monitor}")
        # unvalidated checkpoints rank below every validated one, by their step
        score = (
            -1e30 * (1 - self.position.step * 1e-12)
            if figure is None
            else rank(figure, self.position.step, self.config.monitor_mode)
        )
        folder = None
        if self.rank == 0:
            folder = tempfile.mkdtemp(prefix="raysafe-checkpoint-")
            state = {"position": asdict(self.position), "rows": self.unwritten}
            checkpoints.write(Path(folder), gathered, state)
        ray.train.report(
            {"step": self.position.step, "score": score},
            checkpoint=Checkpoint.from_directory(folder) if folder else None,
            checkpoint_dir_name=name,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
        )
        self.saved_step = self.position.step

    def _resume(self) -> None:
        found = ray.train.get_checkpoint()
        if found is None:
            if self.rank == 0:
                ray.get(self.order.inbox.note.remote("started", {"workers": self.ranks}))
            return
        with found.as_directory() as folder:
            state, known = checkpoints.restore(
                Path(folder), self.module, self.optimizer, rank=self.rank, device=self.device
            )
        self.position, self.unwritten = Position(**state["position"]), state["rows"]
        self.saved_step = self.position.step
        if not known:
            # more ranks than before: the new ones start from their own seed
            checkpoints.seed_everything(self.order.seed + self.position.step, self.rank)
        if self.rank == 0:
            ray.get(self.order.inbox.note.remote("resumed", {"step": self.position.step, "workers": self.ranks}))
            ray.get(self.order.inbox.put.remote(self.unwritten, self.total_steps))

    def _export(self) -> None:
        """Write the best model (the last, where nothing validated it) as a model folder into the run."""
        if self.position.best_step not in (None, self.position.step):
            self._load_best()
        plain = checkpoints.plain_module(self.module, self.learner.build, rank=self.rank)
        if plain is None:
            return
        with tempfile.TemporaryDirectory(prefix="raysafe-model-") as folder:
            self.learner.save(plain.float().cpu(), Path(folder))
            Folder(self.order.run_uri).upload(folder, self.order.target)

    def _load_best(self) -> None:
        reported = ray.train.get_all_reported_checkpoints()
        best = next(r for r in reported if r.metrics["step"] == self.position.best_step)
        with best.checkpoint.as_directory() as folder:
            checkpoints.spread_weights(self.module, checkpoints.read_weights(Path(folder)))
