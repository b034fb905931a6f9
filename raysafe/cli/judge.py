"""Score answers by a constitution, or compare pairs of answers, with a judge.

`raysafe judge FILE --judge SPEC` reads rows of prompt and completion and scores each completion from 0 to 10 on every
principle. With --compare the rows are prompt, chosen and rejected: each pair is judged in both orders, and how much the
judge favours a place is measured. Verdicts are written as they come; the same command goes on where it stopped.

SPEC is one of

  openai:MODEL@URL    an OpenAI-compatible endpoint, such as `raysafe serve`; the key is in RAYSAFE_JUDGE_KEY
  module:function     a function (messages) -> answer, in the working folder or installed
  judge.yaml          all settings of a judge: kind, model, base_url, api_key_env, choice_logprobs, workers, ...
  a model             folder, run or hub id; scored here by the likelihood of each score

Example: raysafe judge answers.jsonl --judge openai:small@http://127.0.0.1:8000/v1 --out scores.jsonl
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from raysafe.judges.judge import AnyMethod
from raysafe.judges.wording import Scale

if TYPE_CHECKING:
    from raysafe.judges.constitution import Constitution
    from raysafe.judges.judge import Judge
    from raysafe.judges.score_file import ScoreFile
    from raysafe.judges.spec import JudgeConfig

_FILE = tyro.conf.arg(help="Rows to judge: JSON Lines, CSV, Parquet, a folder of them, or a Hugging Face dataset.")
_JUDGE = tyro.conf.arg(help="Who judges: see above.")
_CONSTITUTION = tyro.conf.arg(help="YAML of principles; the packaged eight by default.")
_COMPARE = tyro.conf.arg(help="Compare chosen with rejected instead of scoring a completion.")
_OUT = tyro.conf.arg(help="Where verdicts go; FILE's name with .scores.jsonl or .comparisons.jsonl by default.")
_METHOD = tyro.conf.arg(help="choice_logprobs: likelihood of each score; generate: the judge writes it; auto.")
_SCALE = tyro.conf.arg(help="How scores are asked for; letters where the judge's vocabulary splits 10.")
_ASKS = tyro.conf.arg(help="Most answers to one question, where the judge's can't be read.")
_SEED = tyro.conf.arg(help="Seed of answers that are asked for again.")
_LIMIT = tyro.conf.arg(help="Judge only the first rows.")
_SKIP = tyro.conf.arg(help="Leave out rows that can't be read instead of stopping.")
_ADDRESS = tyro.conf.arg(help="Ray cluster of a judge with workers; a local Ray by default.")
_JSON = tyro.conf.arg(name="json", help="Print JSON instead of tables.")


def main(argv: list[str]) -> int:
    """Judge a file; the exit code is 1 where a row couldn't be judged."""
    return tyro.cli(judge_file, args=argv, prog="raysafe judge", description=__doc__)


def judge_file(
    file: Annotated[tyro.conf.Positional[str], _FILE],
    *,
    judge: Annotated[str, _JUDGE],
    constitution: Annotated[str | None, _CONSTITUTION] = None,
    compare: Annotated[bool, _COMPARE] = False,
    out: Annotated[Path | None, _OUT] = None,
    method: Annotated[AnyMethod, _METHOD] = "auto",
    scale: Annotated[Scale, _SCALE] = "numbers",
    asks: Annotated[int, _ASKS] = 3,
    seed: Annotated[int, _SEED] = 0,
    limit: Annotated[int | None, _LIMIT] = None,
    skip_bad_rows: Annotated[bool, _SKIP] = False,
    address: Annotated[str | None, _ADDRESS] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> int:
    """Judge the rows that have no verdict yet, then sum up all of them."""
    from raysafe.data.readers import read
    from raysafe.judges.constitution import load_constitution
    from raysafe.judges.judge import choose_method
    from raysafe.judges.score_file import digest_of, open_scores
    from raysafe.judges.spec import read_spec

    config, principles = read_spec(judge), load_constitution(constitution)
    rows = read(
        file, "preferences" if compare else "demonstrations", skip_bad_rows=skip_bad_rows, limit=limit
    ).table.to_pylist()
    places = [(row["row"], digest_of({name: row[name] for name in row if name != "row"})) for row in rows]
    identity = [_identity(config), principles.digest, compare, method, scale, asks, seed]
    path = out or Path(f"{Path(file.rstrip('/')).name.split('.')[0]}.{'comparisons' if compare else 'scores'}.jsonl")
    with open_scores(path, digest_of(identity)) as scores:
        missing = scores.missing(places)
        if missing:
            built = config.build(address=address)
            choose_method(built, method)
            options = {"method": method, "asks": asks, "seed": seed} | ({} if compare else {"scale": scale})
            cases = [(rows[place], *places[place]) for place in missing]
            _work(built, principles, cases, scores, options, compare, already=len(rows) - len(missing))
        verdicts = [scores.kept[row] for row, _ in places]
    print(f"{len(missing)} of {len(rows)} rows judged now; verdicts in {path}", file=sys.stderr)
    return _report(verdicts, principles, compare, as_json)


def _work(
    judge: Judge,
    constitution: Constitution,
    cases: list[tuple[dict[str, Any], int, str]],
    scores: ScoreFile,
    options: dict[str, Any],
    compare: bool,
    already: int,
) -> None:
    """Judge the cases in chunks that are worth a call, and write each chunk before the next begins."""
    from raysafe.judges.blocking import wait_for
    from raysafe.judges.compare import compare_pairs
    from raysafe.judges.rubric import score_answers
    from raysafe.runtime.bar import Bar

    questions = 2 if compare else len(constitution.principles)
    size = max(1, judge.capabilities.batch // questions)
    with Bar(f"judge {judge.name}", total=already + len(cases), unit="row") as bar:
        bar.show(already)
        for start in range(0, len(cases), size):
            chunk = cases[start : start + size]
            prompts = [row["prompt"] for row, _, _ in chunk]
            if compare:
                pairs = [[row[name] for row, _, _ in chunk] for name in ("chosen", "rejected")]
                work = compare_pairs(judge, prompts, pairs[0], pairs[1], constitution, **options)
                found: list[Any] = list(wait_for(work))
            else:
                answers = [row["completion"] for row, _, _ in chunk]
                found = list(wait_for(score_answers(judge, prompts, answers, constitution, **options)))
            scores.add(
                [
                    {"row": row, "case": case, **_plain(vars(verdict))}
                    for (_, row, case), verdict in zip(chunk, found, strict=True)
                ]
            )
            bar.advance(len(chunk))


def _report(verdicts: list[dict[str, Any]], constitution: Constitution, compare: bool, as_json: bool) -> int:
    """Print the figures; the exit code is 1 where a row has no verdict."""
    from raysafe.cli.output import print_json, print_table
    from raysafe.records.statistics import mean_interval, wilson_interval

    def mean(values: list[float | None]) -> dict[str, Any]:
        known = [value for value in values if value is not None]
        if len(known) < 2:
            return {"value": known[0] if known else None, "low": None, "high": None, "n": len(known)}
        return vars(mean_interval(known))

    def share(values: list[bool]) -> dict[str, Any]:
        return vars(wilson_interval(sum(values), len(values))) if values else mean([])

    if compare:
        judged = [v for v in verdicts if v["preference"] is not None]
        figures = {
            "preference for chosen": mean([v["preference"] for v in judged]),
            "position bias": mean([v["position_bias"] for v in judged]),
            "consistent": share([v["consistent"] for v in judged]),
        }
    else:
        judged = [v for v in verdicts if v["mean"] is not None]
        figures = {name: mean([v["scores"][name] for v in verdicts]) for name in constitution.names}
        figures["mean"] = mean([v["mean"] for v in verdicts])
        figures["compliant"] = share([v["compliant"] for v in verdicts])
    summary = {
        "figures": figures,
        "method": sorted({v["method"] for v in verdicts}),
        "rows": len(verdicts),
        "unscored": len(verdicts) - len(judged),
        "unparsable answers": sum(v["unparsable"] for v in verdicts),
    }
    if as_json:
        print_json(summary)
    else:
        table = [(name, _number(f["value"]), _interval(f), f["n"]) for name, f in figures.items()]
        print_table(("figure" if compare else "principle", "value", "95% interval", "n"), table)
        print(
            f"method {', '.join(summary['method'])}; {summary['unscored']} of {len(verdicts)} rows without a verdict, "
            f"{summary['unparsable answers']} answers of the judge unreadable"
        )
    return 1 if summary["unscored"] else 0


def _identity(config: JudgeConfig) -> list[Any]:
    """What decides a judge's verdicts: a model or function on this machine by its files, as a name says nothing."""
    model = config.model
    if config.kind == "local":
        from raysafe.models.language import model_digest

        model = model_digest(model)
    if config.kind == "scripted":
        from raysafe.judges.scripted import load_scripted
        from raysafe.records.digest import file_digest

        load_scripted(model)
        source = getattr(sys.modules[model.partition(":")[0]], "__file__", None)
        model = f"{model} {file_digest(Path(source)) if source else ''}"
    return [config.kind, model, config.base_url, config.chat_template, config.choice_logprobs]


def _plain(value: Any) -> Any:
    """JSON has no NaN: what is unscored is null."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(figure: dict[str, Any]) -> str:
    return "" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
