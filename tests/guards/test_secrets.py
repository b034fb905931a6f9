"""Keys and tokens are found by form, passwords by assignment; prose and code pass; chunks change nothing."""

import gzip
import json
import random
import string
from pathlib import Path

import pytest
from hypothesis import given, settings

import raysafe
from raysafe.control.keys import new_key
from raysafe.guards.finding import Stream
from raysafe.guards.secrets import SecretsConfig, entropy
from tests.examples import examples
from tests.guards.chunks import answering, assert_chunks_change_nothing, chunked, streamed, whole
from tests.real_data import HH_RLHF

GUARD = SecretsConfig().build()
STOPPING = SecretsConfig(action="block").build()
ALNUM = string.ascii_letters + string.digits


def some(count: int, alphabet: str = ALNUM, seed: int = 1) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice(alphabet) for _ in range(count))


def kinds(text: str) -> list[tuple[str, str]]:
    """(kind, secret) of all that is found."""
    return [
        (GUARD.finder.shapes[part.kind].name, part.text) for part in GUARD.finder.parts(text) if part.kind is not None
    ]


def _pem(title: str) -> str:
    body = "\n".join(some(64, ALNUM + "+/", seed) for seed in range(20))
    return f"-----BEGIN {title}-----\n{body}\n-----END {title}-----"


# put together here, so that no scanner takes this file for a leak
SECRETS = [
    ("AWS_KEY", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("GITHUB_TOKEN", "ghp_" + some(36)),
    ("GITHUB_TOKEN", "github_pat_" + some(82)),
    ("GITLAB_TOKEN", "glpat-" + some(20)),
    ("SLACK_TOKEN", "xoxb-" + some(12, string.digits) + "-" + some(24)),
    ("GOOGLE_KEY", "AIza" + some(35)),
    ("API_KEY", "sk-" + some(48)),
    ("API_KEY", "sk-proj-" + some(120)),
    ("STRIPE_KEY", "sk_live_" + some(24)),
    ("NPM_TOKEN", "npm_" + some(36)),
    ("PYPI_TOKEN", "pypi-AgE" + some(120)),
    ("HF_TOKEN", "hf_" + some(34, string.ascii_letters)),
    ("RAYSAFE_KEY", new_key("k")[1]),
    ("JWT", f"eyJ{some(30)}.eyJ{some(700)}.{some(43)}"),
    ("PRIVATE_KEY", _pem("RSA PRIVATE KEY")),
    ("PRIVATE_KEY", _pem("OPENSSH PRIVATE KEY")),
]
# named by their kinds: a key of ours is another each time
EACH_SECRET = pytest.mark.parametrize(("kind", "secret"), SECRETS, ids=[kind for kind, _ in SECRETS])


@EACH_SECRET
@pytest.mark.parametrize("around", ["it is {} now", '"{}"', "x={}\n", "({})"])
def test_a_secret_of_a_known_form_is_found_whole(kind: str, secret: str, around: str) -> None:
    assert kinds(around.format(secret)) == [(kind, secret)]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password = 'tr0ub4dor&3'", "tr0ub4dor&3"),
        ('{"api_key": "9f86d081884c7d65"}', "9f86d081884c7d65"),
        ("export DB_PASSWORD=Hunter2Winter9", "Hunter2Winter9"),
        ("client_secret: q9X_7bLm2", "q9X_7bLm2"),
        ("AUTH_TOKEN := zD4kP0aa81", "zD4kP0aa81"),
        ("postgres://ann:pa55w0rd@db.example.org/x", "pa55w0rd"),
    ],
)
def test_a_password_is_found_where_it_is_assigned(text: str, secret: str) -> None:
    assert kinds(text) == [("PASSWORD", secret)]


@pytest.mark.parametrize(
    "text",
    [
        "the password is required: enter it below",
        "password: your-password-here",
        "token = os.environ['TOKEN_2']",
        "api_key = $API_KEY_2",
        "token: Token | None = None",
        "secret = secrets.token_urlsafe(32)",
        "password=********",
        "https://example.org:8080/a@b",
        "task-oriented-dialogue-systems-for-people-with-2-hands",
        "rs-232 and npm_config and hf_hub and sk-learn",
        "-----BEGIN CERTIFICATE-----",
        "AKIA and ASIA PACIFIC",
    ],
)
def test_the_place_of_a_secret_is_none(text: str) -> None:
    assert kinds(text) == []


def test_the_form_of_a_key_is_asked_for_by_name() -> None:
    guard = SecretsConfig(forms=frozenset({"aws"})).build()
    assert whole(guard, SECRETS[0][1] + " " + SECRETS[1][1])[2] == "[AWS_KEY] " + SECRETS[1][1]


PIECES = [
    "ghp_",
    some(36),
    "sk-",
    some(20),
    some(30),
    " ",
    "pass",
    "word",
    " = ",
    "'",
    "Hunter2x",
    "9",
    "://",
    "ann",
    ":",
    "pa55",
    "@",
]
PIECES += [
    "db",
    "-----BEGIN ",
    "RSA ",
    "PRIVATE ",
    "KEY-----",
    "\n",
    "-----END RSA PRIVATE KEY-----",
    "eyJ" + some(12),
    ".",
    "eyJ",
    "x",
]
PIECES += ["AKIA", "IOSFODNN7EXAMPLE", "rs-", some(43), "_", "\u017f", "to\u212aen", "nice day ", "a" * 70]


@settings(max_examples=examples(200), deadline=None)
@given(chunked(PIECES))
def test_chunks_change_nothing(chunks: list[str]) -> None:
    assert_chunks_change_nothing(GUARD, chunks)
    assert_chunks_change_nothing(STOPPING, chunks)


@EACH_SECRET
def test_a_secret_in_single_characters_never_leaves(kind: str, secret: str) -> None:
    action, reason, left = streamed(STOPPING, list(f"here: {secret} ok"))
    assert (action, reason) == ("block", f"holds {kind}")
    assert "here: ".startswith(left)


def test_entropy_is_shannons() -> None:
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2
    assert entropy("aab") == pytest.approx(0.9182958, abs=1e-6)


def test_the_projects_own_code_holds_no_secret() -> None:
    """False positives on code: the source files of the package."""
    files = sorted(Path(raysafe.__file__).parent.rglob("*.py"))
    found = {file.name: kinds(file.read_text(encoding="utf-8")) for file in files[:80]}
    assert {name: some for name, some in found.items() if some} == {}


@pytest.mark.parametrize(
    "text", ["a", "eyJ", "-", "-----BEGIN PRIVATE KEY-----", "password=", "://", "sk-", "A", "gh", ".", "key "]
)
def test_work_grows_linearly_with_the_text(text: str) -> None:
    def work(size: int) -> int:
        guard = SecretsConfig().build()
        stream, long = Stream(guard.finder), (text * size)[:size]
        for start in range(0, size, 4096):
            stream.feed(long[start : start + 4096])
            assert len(stream._text) < 4096 + 9300
        stream.feed("", ended=True)
        return guard.finder.work

    assert work(100_000) <= 2.2 * work(50_000) + 40_000


@pytest.mark.parametrize("text", ["a", "eyJ", "-----BEGIN PRIVATE KEY-----", "password=", "://", "sk-1", "://a:b"])
def test_hostile_text_is_judged(text: str) -> None:
    assert GUARD.check(answering((text * 2**16)[: 2**16]), "output").error is None


@pytest.mark.skipif(not HH_RLHF.exists(), reason="hh-rlhf is not there")
def test_real_dialogues_hold_no_secret() -> None:
    with gzip.open(HH_RLHF, "rt", encoding="utf-8") as lines:
        assert [found for line in lines for found in kinds(json.loads(line)["chosen"])] == []
