"""The starting model's tokenizer."""

import json

import pytest

from raysafe.models.chat import ChatFormat
from raysafe.models.language import check_tokenizer, load_policy, load_tokenizer
from raysafe.quickstart.grammar import CorpusSize, write_corpus
from raysafe.quickstart.start import UNKNOWN, make_start


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    corpus = write_corpus(folder, 0, CorpusSize(demonstrations=2000, preferences=1000))
    return load_tokenizer(make_start(folder / "model", corpus, 0)), corpus, folder / "model"


def texts(corpus, name):
    return [text for line in corpus[name].read_text().splitlines() for text in json.loads(line).values()]


def test_every_text_comes_back_as_it_was_held_out_ones_too(made):
    tokenizer, corpus, _ = made
    for name in ("demonstrations", "held_out_preferences"):
        for text in texts(corpus, name):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.convert_tokens_to_ids(UNKNOWN) not in ids
            assert tokenizer.decode(ids) == text


def test_every_token_but_two_marks_is_used_in_training(made):
    tokenizer, corpus, _ = made
    chat = ChatFormat(tokenizer)
    rows = [json.loads(line) for line in corpus["demonstrations"].read_text().splitlines()]
    prompts = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    columns = chat.encode_batch(prompts, [row["completion"] for row in rows])
    used = {token for column in columns for ids in column for token in ids}
    unused = {tokenizer.convert_ids_to_tokens(i) for i in set(range(len(tokenizer))) - used}
    assert unused <= {tokenizer.pad_token, UNKNOWN}


def test_tokenizer_and_model_belong_together(made):
    tokenizer, _, folder = made
    check_tokenizer(load_policy(folder), tokenizer)
