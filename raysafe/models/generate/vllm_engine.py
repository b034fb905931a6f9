"""Generation on vLLM's offline engine: paged attention and continuous batching, on GPUs above all.

vLLM is an extra with an environment of its own. It is driven step by step in this process, so that answers can be
streamed and cancelled; texts and stop strings are found as in the transformers engine. Draws depend on their own seed
and prompt there too, but are vLLM's own: they are others than the transformers engine's.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GenerationConfig

from raysafe.errors import ModelError
from raysafe.models.generate.engine import Cancelled, Generation, SamplingParams
from raysafe.models.generate.rows import Row, RowStream, check_stream, make_rows
from raysafe.models.generate.sampling import row_seed
from raysafe.models.generate.transformers_engine import copy_weights, stop_ids
from raysafe.models.generate.vllm_pool import VLLMPool
from raysafe.models.language import check_vocabulary, context_length, load_config, model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MEMORY_FOLDER = Path("/dev/shm")


class VLLMEngine:
    """Engine on a model folder, a finished run or a hub id, on the devices that vLLM finds. One in a process."""

    def __init__(
        self,
        model: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        context: int | None = None,
        tensor_parallel: int = 1,
        memory_share: float = 0.9,
        cache_bytes: int | None = None,
        batch_rows: int = 256,
    ) -> None:
        """context: longest prompt and answer together, where the model's own is too long for the cache, which must
        hold one such row. tensor_parallel: GPUs that the model is split over. memory_share: of each GPU's memory, for
        weights and cache together; cache_bytes: of the cache alone, instead. batch_rows: most answers at a time.

        Raises ModelError where vLLM is missing, refuses the model, or the tokenizer is another model's.
        """
        vllm = _import_vllm()
        folder = model_folder(model)
        self.tokenizer, self.config = tokenizer, load_config(model)
        check_vocabulary(self.config, tokenizer)
        self.context = min(context or sys.maxsize, context_length(self.config))
        self.stop_ids = stop_ids(_generation_config(folder, self.config), tokenizer)
        self._rows: dict[str, Row] = {}
        self._names = (str(number) for number in itertools.count())
        # several threads may wait for answers: one of them steps for all
        self._turn = threading.Condition()
        self._stepping = False
        self._wishes: deque[Callable[[], object]] = deque()
        self._vllm = vllm
        try:
            self._llm = vllm.LLM(
                model=str(folder),
                skip_tokenizer_init=True,
                load_format="safetensors",
                trust_remote_code=False,
                generation_config="vllm",
                logprobs_mode="raw_logprobs",
                dtype=dtype,
                max_model_len=self.context,
                max_num_seqs=batch_rows,
                tensor_parallel_size=tensor_parallel,
                gpu_memory_utilization=memory_share,
                kv_cache_memory_bytes=cache_bytes,
                # compiling takes a C++ compiler there, and minutes
                enforce_eager=vllm.platforms.current_platform.is_cpu(),
                use_tqdm_on_load=False,
            )
            self._core = self._llm.llm_engine
            # what the kernels can't do shows with the first token only
            self.generate([[0]], SamplingParams(max_tokens=1, temperature=0))
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise ModelError(f"vLLM can't run {folder}: {str(error).strip().splitlines()[-1]}") from error

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, cancelled: Cancelled | None = None
    ) -> list[Generation]:
        """`sampling.n` answers to each prompt, in the order of the prompts; raises ModelError for a prompt too long."""
        rows = self._make_rows(prompts, sampling, watch=bool(sampling.stop))
        piecewise = cancelled is not None or bool(sampling.stop)
        with closing(VLLMWriting(self, rows, sampling, piecewise=piecewise)) as writing:
            while writing.live and not (cancelled is not None and cancelled()):
                writing.step()
        return [row.generation(self.tokenizer) for row in rows]

    def stream(self, prompt: Sequence[int], sampling: SamplingParams, cancelled: Cancelled | None = None) -> RowStream:
        """One answer, piece by piece; its text is that of `generate` with the same settings."""
        check_stream(sampling)
        rows = self._make_rows([prompt], sampling, watch=True)
        start = partial(VLLMWriting, self, rows, sampling, piecewise=True)
        return RowStream(rows[0], start, self.tokenizer, cancelled)

    def pool(self, max_rows: int) -> VLLMPool:
        """Room for this many answers at a time, of any callers."""
        return VLLMPool(self, max_rows)

    def update_weights(self, weights: Mapping[str, Any]) -> None:
        """Load tensors or arrays of the model's own names and shapes; raises ModelError where they are another's.

        They reach vLLM's workers as a safetensors file, in memory where there is room, that is gone afterwards.
        """
        tensors = self._checked(weights)
        size = sum(tensor.nbytes for tensor in tensors.values())
        with self._turn:
            if self._rows or self._stepping:
                raise ModelError("weights can't change while answers are being written: finish or cancel them first")
            in_memory = _MEMORY_FOLDER.is_dir() and shutil.disk_usage(_MEMORY_FOLDER).free > 2 * size
            with tempfile.TemporaryDirectory(prefix="raysafe-", dir=_MEMORY_FOLDER if in_memory else None) as folder:
                save_file(tensors, Path(folder, "model.safetensors"))
                self._llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
            if self._vllm.platforms.current_platform.is_cpu():
                self._llm.apply_model(_repack)
            if not self._llm.reset_prefix_cache():
                raise ModelError("vLLM kept prompts that the old weights had read: start the engine anew")

    def _checked(self, weights: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Contiguous tensors in main memory; of tied ones, the one that vLLM reads."""
        with torch.device("meta"):
            shapes = AutoModelForCausalLM.from_config(self.config)
        tensors = {name: torch.as_tensor(value).detach() for name, value in weights.items()}
        copy_weights(shapes, {name: tensor.to("meta") for name, tensor in tensors.items()})
        tied = dict(shapes.all_tied_weights_keys or {})
        kept = {name: tensor for name, tensor in tensors.items() if tied.get(name) not in tensors}
        return {name: tensor.cpu().contiguous() for name, tensor in kept.items()}

    def _make_rows(self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, watch: bool) -> list[Row]:
        rows = make_rows(prompts, sampling, self.tokenizer, context=self.context, watch=watch)
        vocabulary = self.config.get_text_config().vocab_size
        for row in rows:
            if not 0 <= min(row.prompt) <= max(row.prompt) < vocabulary:
                raise ModelError(f"prompt {row.place} holds a token that the model doesn't have: it has {vocabulary}")
        return rows

    def add(self, row: Row, sampling: SamplingParams, *, piecewise: bool) -> str:
        """Queue a row; what names it is returned. piecewise: fill it token by token, not at its end alone."""
        seed = None
        if sampling.temperature > 0:
            seed = row_seed(row.prompt, seed=sampling.seed, occurrence=row.occurrence, sample=row.sample)
        kinds = self._vllm.sampling_params.RequestOutputKind
        params = self._vllm.SamplingParams(
            max_tokens=row.limit,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=seed,
            logprobs=0,
            ignore_eos=True,
            stop_token_ids=sorted(self.stop_ids),
            detokenize=False,
            output_kind=kinds.DELTA if piecewise else kinds.FINAL_ONLY,
        )
        with self._turn:
            name = next(self._names)
            self._rows[name] = row
            self._wishes.append(
                lambda: self._core.add_request(name, {"type": "token", "prompt_token_ids": list(row.prompt)}, params)
            )
        return name

    def drop(self, names: Sequence[str]) -> None:
        """Write no more of these rows."""
        with self._turn:
            held = [name for name in names if self._rows.pop(name, None) is not None]
            if held:
                self._wishes.append(lambda: self._core.abort_request(held))

    def advance(self) -> None:
        """One step of all rows, or the end of the step that another thread is taking."""
        with self._turn:
            if self._stepping:
                self._turn.wait()
                return
            self._stepping = True
        try:
            while self._wishes:
                self._wishes.popleft()()
            for output in self._core.step() if self._core.has_unfinished_requests() else ():
                self._take(output)
        finally:
            with self._turn:
                self._stepping = False
                self._turn.notify_all()

    def _take(self, output: Any) -> None:
        row = self._rows.get(output.request_id)
        if row is None:
            return
        (completion,) = output.outputs
        fill(row, completion, self.stop_ids)
        if row.finish is not None:
            self.drop([output.request_id])


class VLLMWriting:
    """The rows of one call."""

    def __init__(self, engine: VLLMEngine, rows: list[Row], sampling: SamplingParams, *, piecewise: bool) -> None:
        self._engine = engine
        self._names = {engine.add(row, sampling, piecewise=piecewise): row for row in rows}

    @property
    def live(self) -> list[Row]:
        return [row for row in self._names.values() if row.finish is None]

    def step(self) -> None:
        self._engine.advance()

    def close(self) -> None:
        self._engine.drop(list(self._names))


def fill(row: Row, completion: Any, ends: frozenset[int]) -> None:
    """Add what vLLM has written to a row. completion: a vllm.outputs.CompletionOutput with log-probabilities.

    A row that is over takes no more. Raises ModelError where a log-probability isn't finite, or vLLM gave up.
    """
    for token, candidates in zip(completion.token_ids, completion.logprobs or (), strict=True):
        if row.finish is not None:
            return
        logprob = candidates[token].logprob
        if not math.isfinite(logprob):
            raise ModelError("the model's output is not finite: its weights are damaged or its precision is too low")
        row.tokens.append(token)
        row.logprobs.append(logprob)
        if token in ends:
            row.finish, row.ended = "stop", True
        elif row.writer is not None:
            row.writer.write(token)
            if row.writer.stopped:
                row.finish = "stop"
        if row.finish is None and len(row.tokens) == row.limit:
            row.finish = "length"
    if completion.finish_reason is not None and row.finish is None:
        raise ModelError(f"vLLM ended an answer after {len(row.tokens)} tokens with '{completion.finish_reason}'")


def _repack(model: torch.nn.Module) -> None:
    """Pack output layers anew for vLLM's CPU kernels: a reload leaves the packed copy of a tied one as it was."""
    for layer in model.modules():
        if hasattr(layer, "cpu_linear") and layer.get_parameter("weight").numel():
            cast("Any", layer).quant_method.process_weights_after_loading(layer)


def _import_vllm() -> Any:
    # unless told otherwise, vLLM reports its use to its makers, runs its engine in a further process, binds this one's
    # threads to cores, and logs every load
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        for part in ("vllm.platforms", "vllm.sampling_params"):
            import_module(part)
        return import_module("vllm")
    except ImportError as error:
        raise ModelError(
            f"the vllm engine needs vLLM ({error}): run `pip install 'raysafe[vllm]'` in an environment of its own, "
            "or set the engine to transformers"
        ) from None


def _generation_config(folder: Path, config: Any) -> GenerationConfig:
    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(folder)
    return GenerationConfig.from_model_config(config)
