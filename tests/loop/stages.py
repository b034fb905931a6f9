"""The loop's stages, each kept in its folder when it is done: a run that was killed goes on where it was.

attacked        half of the prompts, and benign ones, asked through the gateway; what its guards stop becomes incidents
reviewed        a person releases what was held of the benign, and corrects every fourth answer to an attack
exported        `raysafe incidents export`, with the model's own answers to what was stopped before it answered
trained         `raysafe dpo` on that, and on the same pairs with the sides of each drawn by lot
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openai
import torch
import yaml

from raysafe.control.holds import Holds
from raysafe.data.cache import written_whole
from raysafe.oversight.corrections import correct
from raysafe.oversight.incident_export import REFUSAL
from raysafe.oversight.incidents import Incidents
from raysafe.records.store import open_store
from raysafe.runtime.bar import Bar
from raysafe.runtime.run import Run
from tests.loop.material import write_lines
from tests.real_data import SMOLLM2
from tests.verify.readme import ROOT
from tests.verify.shell import Shell

TOKENS = 40
AT_A_TIME = 16
CORRECTED_EVERY = 4
PORT = 8921
RETRIES = 40
"""A gateway that can't reach its store for a second closes, as on a machine that is busy with something else."""
TRAINING = (
    "--validation-fraction 0 --max-length 256 --too-long drop --beta 0.1 --likelihood 0.5 --training.batch-size 16 "
    "--training.micro-tokens 2048 --training.learning-rate 5e-6 --training.cpus-per-worker 2"
)


def write_policy(path: Path, probe: Path) -> None:
    """The packaged policy with texts recorded, and the probe as a guard that holds answers; without its rate limit."""
    values = yaml.safe_load((ROOT / "raysafe" / "guards" / "policies" / "default.yaml").read_text(encoding="utf-8"))
    guards = [guard for guard in values["guards"] if guard["kind"] != "rate"]
    guards.append({"kind": "probe", "name": "answers", "probe": str(probe), "model": str(SMOLLM2), "action": "hold"})
    values |= {"name": "loop", "record_text": True, "guards": guards}
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True) + "...\n", encoding="utf-8")


def answers_of(model: str, prompts: Sequence[str], kept: Path) -> list[str]:
    """The model's answers without a gateway, greedily; those in the file `kept` aren't written again."""
    known: dict[str, str] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    missing = [prompt for prompt in prompts if prompt not in known]
    if missing:
        from raysafe.models.chat import ChatFormat
        from raysafe.models.generate.engine import SamplingParams
        from raysafe.models.generate.load import load_engine
        from raysafe.models.language import load_tokenizer

        chat = ChatFormat(load_tokenizer(model), "auto")
        engine = load_engine(model, tokenizer=chat.tokenizer)
        with Bar(f"answers of {Path(model).parent.name}", total=len(missing), unit="prompt") as bar:
            for start in range(0, len(missing), 50):
                some = missing[start : start + 50]
                (ids,) = chat.encode_batch([[{"role": "user", "content": prompt}] for prompt in some])
                found = engine.generate(ids, SamplingParams(max_tokens=TOKENS, temperature=0))
                known |= {prompt: one.text for prompt, one in zip(some, found, strict=True)}
                with written_whole(kept) as path:
                    path.write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
                bar.advance(len(some))
    return [known[prompt] for prompt in prompts]


def ask(shell: Shell, model: str, prompts: Sequence[str], policy: Path, kept: Path) -> dict[str, dict[str, Any]]:
    """Each prompt's fate at the gateway, streamed: id, text that left, why it ended. Known ones aren't asked again."""
    known = {row["prompt"]: row for row in _lines(kept)}
    missing = [prompt for prompt in prompts if prompt not in known]
    if missing:
        # names of keys are never given twice, and a run that goes on needs one more
        key = f"loop-{secrets.token_hex(4)}"
        command = f"raysafe serve {model} --policy {policy} --port {PORT} --max-tokens {TOKENS} --new-key {key}"
        with shell.serving(command, "gateway.log") as served, kept.open("a", encoding="utf-8") as out:
            client = openai.AsyncOpenAI(
                api_key=served.key, base_url=f"http://127.0.0.1:{PORT}/v1", max_retries=RETRIES, timeout=600
            )
            with Bar("through the gateway", total=len(missing), unit="prompt") as bar:

                def done(row: dict[str, Any]) -> None:
                    known[row["prompt"]] = row
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
                    out.flush()
                    bar.advance(1)

                asyncio.run(_ask_all(client, model, missing, done))
    return {prompt: known[prompt] for prompt in prompts}


async def _ask_all(client: openai.AsyncOpenAI, model: str, prompts: Sequence[str], done: Any) -> None:
    room = asyncio.Semaphore(AT_A_TIME)

    async def one(prompt: str) -> None:
        async with room:
            messages: Any = [{"role": "user", "content": prompt}]
            try:
                stream = await client.chat.completions.create(
                    model=model, messages=messages, temperature=0, stream=True, max_tokens=TOKENS
                )
            except openai.BadRequestError as error:
                done(
                    {"prompt": prompt, "id": error.response.headers["X-RaySafe-Id"], "text": "", "end": str(error.code)}
                )
                return
            text, end = "", None
            async for piece in stream:
                for choice in piece.choices:
                    text += choice.delta.content or ""
                    end = choice.finish_reason or end
            done({"prompt": prompt, "id": stream.response.headers["X-RaySafe-Id"], "text": text, "end": end})

    await asyncio.gather(*(one(prompt) for prompt in prompts))


def review(
    store_url: str, benign: Sequence[dict[str, Any]], attacks: Sequence[dict[str, Any]], corrections: Sequence[str]
) -> dict[str, int]:
    """A person's work: what was held of benign exchanges is released, and every fourth answer to an attack corrected,
    whether a guard held it or let it pass."""
    with open_store(store_url) as store:
        incidents = Incidents(store)
        known = {one.id: one for one in incidents.read()[0]}
        held = [row["id"] for row in benign if row["id"] in known and known[row["id"]].action == "hold"]
        for hold_id in held:
            if known[hold_id].word is None:
                Holds(store).decide(hold_id, "released", reviewer="rita", note="nothing is wrong with it")
        answered = [row["id"] for row in attacks if row["end"] != "content_policy_violation"][::CORRECTED_EVERY]
        for number, one in enumerate(answered):
            if one not in known or known[one].correction is None:
                text = corrections[number % len(corrections)]
                correct(incidents.folder, one, text, by="rita", note="an attack", asked_by="loop")
    return {"released": len(held), "corrected": len(answered)}


def export(shell: Shell, policy: Path, out: Path) -> str:
    """What the command said."""
    command = (
        f"raysafe incidents export --out {out} --policy {policy} --answer-with {SMOLLM2} --max-new-tokens {TOKENS}"
    )
    return shell.run(command, timeout_s=1800)


def write_benign_pairs(path: Path, answers: Sequence[dict[str, Any]]) -> int:
    """The model's own answers to benign prompts that passed, over a refusal: what keeps it from refusing everything."""
    rows: list[dict[str, object]] = [
        {"prompt": row["prompt"], "chosen": row["text"], "rejected": REFUSAL}
        for row in answers
        if row["end"] in ("stop", "length") and row["text"].strip()
    ]
    write_lines(path, rows)
    return len(rows)


def write_drawn_pairs(source: Path, target: Path) -> None:
    """The same pairs, the sides of each drawn by lot: the control."""
    draw = random.Random(0)
    target.mkdir(exist_ok=True)
    for path in sorted(source.glob("*.jsonl")):
        rows = _lines(path)
        for row in rows:
            if draw.random() < 0.5:
                row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
        write_lines(target / path.name, rows)


def train(shell: Shell, data: Path, storage: Path, name: str) -> Run:
    """The newest run of this name in `storage`, gone on with where it was ended; or a new one."""
    for folder in sorted(storage.glob(f"{name}-*"), reverse=True):
        run = Run.open(folder)
        if any(event["event"] == "trained" for event in run.events):
            return run
        shell.run(f"raysafe runs resume {run.uri}", timeout_s=7200)
        return Run.open(folder)
    shell.run(
        f"raysafe dpo --model {SMOLLM2} --data {data} --storage {storage} --name {name} {TRAINING}", timeout_s=7200
    )
    return Run.open(max(storage.glob(f"{name}-*")))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def use_both_cores() -> None:
    torch.set_num_threads(2)
