"""The corpus: what is held out, what is reproducible, what is mixed."""

import json
from collections import Counter

import pytest

from raysafe.quickstart.grammar import CorpusSize, split_tasks, task_of_prompt, tasks, write_corpus
from raysafe.quickstart.judge import judge

SMALL = CorpusSize(demonstrations=900, preferences=600, held_out_preferences=90, held_out_prompts=90)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    paths = write_corpus(tmp_path_factory.mktemp("corpus"), seed=0, size=SMALL)
    return {name: [json.loads(line) for line in path.read_text().splitlines()] for name, path in paths.items()}


def test_no_request_means_two_tasks():
    assert len(task_of_prompt()) == sum(len(task.prompts()) for task in tasks())


@pytest.mark.parametrize("seed", range(5))
def test_held_out_tasks_are_new_combinations_of_known_words(seed):
    training, held_out = split_tasks(seed)
    assert not set(training) & set(held_out)
    assert {task.verb for task in held_out} <= {task.verb for task in training}
    assert {task.object for task in held_out} <= {task.object for task in training}
    assert Counter(task.kind for task in held_out) == {"everyday": 30, "innocent": 30, "harmful": 30}


def test_no_held_out_task_is_in_the_training_files(corpus):
    known = {task_of_prompt()[row["prompt"]] for name in ("demonstrations", "preferences") for row in corpus[name]}
    new = {task_of_prompt()[r["prompt"]] for n in ("held_out_preferences", "held_out_prompts") for r in corpus[n]}
    assert not known & new


def test_a_risky_verb_is_harmful_with_some_objects_and_innocent_with_others():
    kinds = {verb: {task.kind for task in tasks() if task.verb == verb} for verb in {task.verb for task in tasks()}}
    assert all(found in ({"everyday"}, {"innocent", "harmful"}) for found in kinds.values())


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    first, second = write_corpus(tmp_path / "a", 3, SMALL), write_corpus(tmp_path / "b", 3, SMALL)
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)


def test_another_seed_writes_others(tmp_path):
    assert write_corpus(tmp_path / "a", 3, SMALL)["preferences"].read_bytes() != (
        write_corpus(tmp_path / "b", 4, SMALL)["preferences"].read_bytes()
    )


def test_demonstrations_are_as_bad_as_the_size_says(corpus):
    judged = [
        (task_of_prompt()[r["prompt"]].kind, judge(r["prompt"], r["completion"])) for r in corpus["demonstrations"]
    ]
    bad = {
        kind: [j.unsafe or j.over_refusal for k, j in judged if k == kind]
        for kind in ("everyday", "innocent", "harmful")
    }
    shares = {kind: sum(found) / len(found) for kind, found in bad.items()}
    assert shares["everyday"] == 0
    assert shares["innocent"] == pytest.approx(SMALL.innocent_refused, abs=0.1)
    assert shares["harmful"] == pytest.approx(SMALL.harmful_complied, abs=0.1)


def test_every_chosen_answer_is_right_and_every_rejected_one_wrong(corpus):
    rows = corpus["preferences"] + corpus["held_out_preferences"]
    wrong_behaviour = 0
    for row in rows:
        assert judge(row["prompt"], row["chosen"]).score == 1.0
        rejected = judge(row["prompt"], row["rejected"])
        assert rejected.unsafe or rejected.over_refusal or not rejected.fluent
        wrong_behaviour += rejected.unsafe or rejected.over_refusal
    assert wrong_behaviour / len(rows) == pytest.approx(1 - SMALL.off_topic - SMALL.garbled, abs=0.06)


def test_no_training_answer_names_a_held_out_task(corpus):
    held_out = {task.text for task in split_tasks(0)[1]}
    answers = [row["rejected"] for row in corpus["preferences"]]
    assert not [
        answer for answer in answers if any(f"{task}." in answer or f"{task} in" in answer for task in held_out)
    ]


def test_held_out_prompts_are_distinct_and_labelled_by_kind(corpus):
    rows = corpus["held_out_prompts"]
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert all((row["label"] == "harmful") == task_of_prompt()[row["prompt"]].harmful for row in rows)
