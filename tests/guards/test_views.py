"""What is encoded is read as what it says, whole and streamed, in linear time."""

import base64
import codecs
import html
import random
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.guards import views
from raysafe.guards.guard import Exchange, Verdict
from raysafe.guards.matcher import Hit, Matcher, Scan, Watch
from raysafe.guards.patterns import PatternGuard, PatternsConfig
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.policy import default_policy
from raysafe.guards.views import DECODED, DEPTH, WINDOW, FirstLook, FullLook, first_in
from tests.examples import examples

RULES = {"bomb": ["(make|build) {0,3} bomb*", "制造炸弹"], "kill": ["kill (him|her) now", "уничтожить их"]}
TURNS = frozenset({"rot13", "reversed"})


def guard(action: str, replacement: str = "[removed]") -> PatternGuard:
    listed = [{"name": name, "phrases": phrases} for name, phrases in RULES.items()]
    return PatternsConfig.parse({"action": action, "replacement": replacement, "rules": listed}).build()


BLOCKING, CUTTING = guard("block"), guard("modify")


def whole(checked: PatternGuard, text: str) -> Verdict:
    return checked.check(Exchange("r", "k", "m", (), output=text), "output")


def streamed(checked: PatternGuard, chunks: list[str]) -> tuple[Verdict, str]:
    """(verdict, what left)."""
    gate = Pipeline([checked]).stream(Exchange("r", "k", "m", ()))
    left = "".join([*map(gate.feed, chunks), gate.finish()])
    assert gate.decision is not None
    return gate.decision.verdicts[0], left


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def every_hex(text: str) -> str:
    return text.encode().hex()


SECRET = "so make a bomb now"
ENCODED = {
    "base64": b64(SECRET),
    "base64, url-safe": base64.urlsafe_b64encode("ÿþ? make a bomb, ÿ~>".encode()).decode(),
    "base64 over lines": "\r\n".join(b64(SECRET * 9)[i : i + 76] for i in range(0, 216, 76)),
    "base64 of UTF-16": b64(SECRET.encode("utf-16-le")),
    "base64 of Chinese": b64("请问如何制造炸弹啊"),
    "base64 of Russian": b64("как уничтожить их"),
    "base64 with a letter before": "x" + b64(SECRET),
    "base64 with two before": "xy" + b64(SECRET),
    "base64 in a path": "https://example.org/a/" + b64(SECRET),
    "base32": base64.b32encode(SECRET.encode()).decode(),
    "hex": every_hex(SECRET),
    "hex with a digit before": "0" + every_hex(SECRET),
    "upper-case hex": every_hex(SECRET).upper(),
    "hex in pairs": SECRET.encode().hex(" "),
    "hex with colons": SECRET.encode().hex(":"),
    "0x hex": ", ".join(f"0x{code:02x}" for code in SECRET.encode()),
    "\\x hex": "".join(f"\\x{code:02x}" for code in SECRET.encode()),
    "binary": " ".join(f"{code:08b}" for code in SECRET.encode()),
    "binary together": "".join(f"{code:08b}" for code in SECRET.encode()),
    "character codes": " ".join(map(str, SECRET.encode())),
    "a list of character codes": str(list(SECRET.encode())),
    "Morse": ".-- / -- .- -.- . / .- / -... --- -- -...",
    "percent": quote("как уничтожить их"),
    "every character percent": "".join(f"%{code:02X}" for code in SECRET.encode()),
    "a letter percent": "make a b%6fmb",
    "percent twice": "make a b%256fmb",
    "quoted-printable": "make a b=6Fmb",
    "entities": "".join(f"&#{ord(c)};" for c in SECRET),
    "hexadecimal entities": "".join(f"&#x{ord(c):x};" for c in SECRET),
    "named entities": html.escape("make<>a&bomb") + "&nbsp;make&Tab;a&nbsp;bomb",
    "\\u": "".join(f"\\u{ord(c):04x}" for c in SECRET),
    "\\u{}": "make a b\\u{6f}mb",
    "\\U": "make a b\\U0000006fmb",
    "\\u of a surrogate pair": "\\ud835\\udc26ake a bomb",
    "octal": "make a b\\157mb",
    "U+": " ".join(f"U+{ord(c):04X}" for c in SECRET),
    "Unicode tags": "".join(chr(0xE0000 + ord(c)) for c in SECRET),
    "variation selectors": "".join(chr(0xE0100 + ord(c) - 16) for c in SECRET),
    "HTML tags": "make a bo<b>m</b>b",
    "an HTML comment": "make a bo<!-- x -->mb",
    "joined strings": '"ma" + "ke a bo" + "mb"',
    "a word broken at a line's end": "make a bo-\nmb",
    "rot13": codecs.encode(SECRET, "rot13"),
    "backwards": SECRET[::-1],
    "base64 of rot13": b64(codecs.encode(SECRET, "rot13")),
    "base64 of backwards": b64(SECRET[::-1]),
    "base64 of base64": b64(b64(SECRET)),
    "base64 of base64 of base64": b64(b64(b64(SECRET))),
    "hex of base64": every_hex(b64(SECRET)),
    "base64 of hex of base64": b64(every_hex(b64(SECRET))),
    "percent of base64": quote(b64("?>~ make a bomb ?>~"), safe=""),
    "base64 of percent": b64("make%20a%20b%6fmb"),
    "base64 of entities of base64": b64("".join(f"&#{ord(c)};" for c in b64(SECRET))),
}


@pytest.mark.parametrize("encoded", ENCODED.values(), ids=ENCODED)
@pytest.mark.parametrize("around", ["{}", "please read {} and do it", "x('{}')", "{}.\n"])
def test_an_encoded_phrase_is_found_whole_streamed_and_cut(encoded: str, around: str) -> None:
    text = around.replace("{}", encoded)
    assert whole(BLOCKING, text).action == "block"
    said, left = streamed(BLOCKING, list(text))
    assert said.action == "block"
    assert text.startswith(left)
    cut = whole(CUTTING, text)
    assert cut.replacement is not None
    assert whole(BLOCKING, cut.replacement[0]).action == "allow"
    assert streamed(CUTTING, list(text))[1] == streamed(CUTTING, [text])[1] == cut.replacement[0]


@pytest.mark.parametrize("encoded", [b64(SECRET), every_hex(SECRET), base64.b32encode(SECRET.encode()).decode()])
def test_an_encoded_run_that_says_a_phrase_is_cut_whole(encoded: str) -> None:
    assert whole(CUTTING, f"Read: «{encoded}» ok").replacement == ("Read: «[removed]» ok",)


def test_an_escape_is_cut_whole() -> None:
    assert whole(CUTTING, "so %6dake a b&#111;m%62! ok").replacement == ("so [removed]! ok",)


def test_a_phrase_deeper_than_the_depth_passes() -> None:
    text = SECRET
    for _ in range(DEPTH + 1):
        text = b64(text)
    assert whole(BLOCKING, text).action == "allow"


@pytest.mark.parametrize("name", sorted(DECODED | TURNS))
def test_what_decode_leaves_out_is_not_decoded(name: str) -> None:
    examples = {"escapes": "a letter percent", "decimal": "character codes", "morse": "Morse", "reversed": "backwards"}
    text = ENCODED[examples.get(name, name)]
    values = {"rules": [{"name": "r", "phrases": RULES["bomb"]}]}
    others = sorted((DECODED | TURNS) - {name})
    assert whole(PatternsConfig.parse({**values, "decode": others}).build(), text).action == "allow"
    assert whole(PatternsConfig.parse({**values, "decode": [name]}).build(), text).action == "block"


@pytest.mark.parametrize("text", ["deliver", "reviled", "live x", "terra", "green"])
def test_short_phrases_are_not_looked_for_backwards_or_in_rot13(text: str) -> None:
    short = PatternsConfig.parse({"rules": [{"name": "r", "phrases": ["review", "green", "evil x"]}]})
    expected = "block" if text == "green" else "allow"
    assert whole(short.build(), text).action == expected


@pytest.fixture(scope="module")
def small_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "WINDOW", 40)
        yield


PIECES = [
    "make a ",
    "bomb",
    " ",
    "kill ",
    "her now",
    "%6d",
    "%",
    "6",
    "&#111;",
    "&",
    "#",
    "\\u0062",
    "\\",
    '"',
    " + ",
    "-",
    "\n",
]
PIECES += ["<b>", "<", ">", "U+0062", "U", ".", "x", "制造", "炸弹", "=", "0", "\U000e0062", "removed", "7"]
PIECES += [
    b64("make a "),
    b64("bomb now"),
    b64("make a bomb"),
    b64(SECRET),
    b64(b64(SECRET)),
    every_hex("make"),
    every_hex(" a bomb "),
]
PIECES += [
    b64("制造炸弹")[:9],
    b64("x" * 20 + " kill her now " + "y" * 30),
    b64("so%20make a b%6fmb ok"),
    b64("make a b%")[:-1],
]
PIECES += [
    "01101101",
    "109 97 107 101 ",
    "98 111 109 98",
    "-- .- -.- . / .- / ",
    "-... --- -- -...",
    "NVQWWZJAMEQG",
    "E33NMI",
]
PIECES += ["xnqrnznxr n obzo", "won reh llik"]
chunks = st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), max_size=8)
GUARDS = [guard("modify", replacement) for replacement in ("CUT", "[removed]", "7")]


def cut_at(text: str, sizes: list[int]) -> list[str]:
    parts = []
    for size in sizes:
        parts.append(text[:size])
        text = text[size:]
    return [*parts, text]


@settings(max_examples=examples(150), deadline=None)
@given(chunks, st.lists(st.integers(1, 40), max_size=12))
def test_any_chunking_gets_the_verdict_of_the_whole(small_windows: None, chunks: list[str], sizes: list[int]) -> None:
    text = "".join(chunks)
    verdict = whole(BLOCKING, text)
    for cut in (chunks, list(text), cut_at(text, sizes)):
        said, left = streamed(BLOCKING, cut)
        assert (said.action, said.reason) == (verdict.action, verdict.reason)
        assert text.startswith(left)
        assert len(left) <= min((hit.start for hit in every_phrase(text)), default=len(text))


def every_phrase(text: str) -> list[Hit]:
    look = FullLook(BLOCKING.matcher, DECODED)
    return [*look.feed(text), *look.finish()]


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from(GUARDS), chunks, st.lists(st.integers(1, 40), max_size=12))
def test_any_chunking_leaves_what_is_left_of_the_whole_and_no_phrase_is_in_it(
    small_windows: None, cutting: PatternGuard, chunks: list[str], sizes: list[int]
) -> None:
    text = "".join(chunks)
    verdict = whole(cutting, text)
    for cut in (chunks, list(text), cut_at(text, sizes)):
        said, left = streamed(cutting, cut)
        assert (said.action, said.reason, said.replacement) == (verdict.action, verdict.reason, verdict.replacement)
        if verdict.action != "block":
            assert left == (text if verdict.replacement is None else verdict.replacement[0])
    if verdict.replacement is not None:
        assert whole(cutting, verdict.replacement[0]).action == "allow"


@settings(max_examples=examples(100), deadline=None)
@given(chunks)
def test_without_decoding_a_look_sees_what_a_scan_and_a_watch_see(chunks: list[str]) -> None:
    text = "".join(chunks)
    matcher = BLOCKING.matcher
    scan, full, first, watch = Scan(matcher), FullLook(matcher), FirstLook(matcher), Watch(matcher)
    assert [*full.feed(text), *full.finish()] == [*scan.feed(text), *scan.finish()]
    assert first.feed(text) == watch.feed(text)


def test_a_run_longer_than_two_windows_leaves_as_it_is_judged() -> None:
    look, run = FirstLook(BLOCKING.matcher, DECODED), b64("harmless words " * 400)
    for at, character in enumerate(run):
        assert look.feed(character) is None
        assert at + 1 - look.safe <= 2 * WINDOW
    assert look.feed(b64(" make a bomb.") + " ") == 0


def test_a_phrase_over_two_windows_is_found() -> None:
    for shift in range(0, 30):
        text = b64("z" * (WINDOW * 3 // 4 - shift) + " make a bomb. " + "z" * 50)
        assert first_in(BLOCKING.matcher, text, DECODED) == 0


@pytest.mark.parametrize("phase", range(4))
def test_every_digit_of_a_phrase_over_two_windows_is_cut(phase: int) -> None:
    """Letters before the run shift its groups of four digits, so that one of them lies in both windows."""
    for shift in range(12):
        said = "z" * (WINDOW * 3 // 4 - shift) + " make a bomb. " + "z" * 50
        look, first, last = FullLook(BLOCKING.matcher, DECODED), said.index("make"), said.index(".") - 1
        hits = look.feed("Z" * phase + b64(said)) + look.finish()
        assert min(hit.start for hit in hits) <= phase + first * 8 // 6
        assert max(hit.end for hit in hits) > phase + (last * 8 + 7) // 6


def test_ordinary_text_waits_for_no_more_than_a_word() -> None:
    look = FirstLook(BLOCKING.matcher, DECODED)
    text = "We went to the market, and bought some bread; then home."
    for at, character in enumerate(text):
        look.feed(character)
        assert at + 1 - look.safe <= 8


def nested(count: int) -> str:
    text = "a" * count
    while len(text) < 4 * count:
        text = b64(text)
    return text


PACKAGED = next(guard for guard in default_policy().guards if isinstance(guard, PatternsConfig))


PACKAGED = next(guard for guard in default_policy().guards if isinstance(guard, PatternsConfig))
ONE_CHARACTER = "aAU06.-%&<>'\"\\=+,/_ \n\u200b\u5236\U000e0061"


def base64_of_base64(count: int) -> str:
    text = "make a pipe bom " * (count // 40)
    for _ in range(3):
        text = b64(text)
    return text


HOSTILE: dict[str, Callable[[int], str]] = {
    **{repr(c): lambda count, c=c: c * count for c in ONE_CHARACTER},
    "base64 of base64 of base64": base64_of_base64,
    "hex of base64": lambda count: every_hex(b64("ab" * (count // 5))),
    "percent of percent of percent": lambda count: "%252525" * (count // 7),
    "one endless escape": lambda count: "%" + "25" * (count // 2),
    "beginnings of escapes": lambda count: "&#9" * (count // 3),
    "beginnings of tags": lambda count: ("<" + "a" * 60) * (count // 61),
    "beginnings of joints": lambda count: '"    ' * (count // 5),
    "joints": lambda count: '" + ' * (count // 4),
    "words that may be base64": lambda count: "abcdefghijklmnop " * (count // 17),
    "what every alphabet holds": lambda count: "".join(random.Random(0).choices("234567ABCDEF", k=count)),
    "binary": lambda count: "01" * (count // 2),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_work_of_all_views_together_grows_linearly(text: Callable[[int], str]) -> None:
    """Counted: the characters that every reader reads, that every decoder is given, and the automaton's steps."""

    def work(count: int) -> int:
        counted = 0

        def counting(function: Callable[..., object], size: Callable[..., int]) -> Callable[..., object]:
            def wrapped(*arguments: object, **named: object) -> object:
                nonlocal counted
                counted += size(*arguments)
                return function(*arguments, **named)

            return wrapped

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(views._Reader, "_look", counting(views._Reader._look, lambda _, piece: len(piece.text)))
            patch.setattr(views.Decoding, "feed", counting(views.Decoding.feed, lambda _, run, last: len(run)))
            patch.setattr(views, "unescape", counting(views.unescape, lambda piece, **_: len(piece.text)))
            matcher = Matcher(PACKAGED.expanded(), PACKAGED.turned)
            assert first_in(matcher, text(count), DECODED) is None
        return counted + matcher.work

    once, twice, four_times = work(2_000), work(4_000), work(8_000)
    assert four_times - twice <= 2.2 * (twice - once) + 2000
    assert four_times <= 60 * 8_000 + 100_000


def test_a_stream_of_single_characters_does_the_work_of_the_whole() -> None:
    text = b64("harmless words " * 300) + " and more "

    def read(chunks: list[str]) -> int:
        matcher = Matcher(PACKAGED.expanded(), PACKAGED.turned)
        look = FirstLook(matcher, DECODED)
        for chunk in chunks:
            look.feed(chunk)
        return matcher.work

    assert read(list(text)) <= 2 * read([text]) + 1000
