"""The kinds of personal data that can be told by their form, by a check digit, or by the words before them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from raysafe.guards.checksums import IBAN_LENGTHS, is_base58check, is_bech32, is_card, is_iban, is_phone
from raysafe.guards.finding import SEPARATOR, Place, Shape, alternatives, first_group

Entity = Literal["email", "card", "iban", "crypto", "ip", "ssn", "phone", "birth_date", "identity", "name", "address"]

_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(?:[^\W\d_]{2,24}|xn--[a-z0-9-]{2,59})(?![\w-])")
_LOCAL_END = re.compile(r"[^\w.!#$%&'*+/=?^`{|}~-]")
_PLAIN = re.compile(r"[^A-Za-z0-9]")
_IPV6 = r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{3,39}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?(?![\w:])"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug"
    "|sept|sep|oct|nov|dec|januar|februar|m\u00e4rz|mai|juni|juli|oktober|dezember|janvier|f\u00e9vrier|mars|avril|juin"
    "|juillet|ao\u00fbt|septembre|octobre|novembre|d\u00e9cembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto"
    "|septiembre|octubre|noviembre|diciembre"
)
_DATE = (
    r"(?:\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?\s(?:of\s|de\s)?(?:{_MONTHS})\.?,?(?:\sde)?\s\d{{4}}"
    rf"|(?:{_MONTHS})\.?\s\d{{1,2}}(?:st|nd|rd|th)?,?\s\d{{4}})(?!\d)"
)
_MARKS = r"""[\s:.#"'*=(\\-]"""
_BIRTH = ("date of birth", "birth date", "birthdate", "birthday", "dob", "d.o.b.", "born", "born on", "geburtsdatum")
_BIRTH += ("geboren am", "date de naissance", "fecha de nacimiento", "nacido el", "nacida el")
_CALL = ("phone", "phone number", "telephone", "tel", "mobile", "cell", "cellphone", "call me", "call us", "text me")
_CALL += (
    "whatsapp",
    "fax",
    "my number",
    "telefon",
    "handy",
    "telefono",
    "mobil",
    "tel\u00e9fono",
    "t\u00e9l\u00e9phone",
)
_PAPERS = ("passport", "driver's license", "drivers license", "driver license", "driving licence", "identity card")
_PAPERS += ("national id", "id card", "id number", "tax id", "personalausweis", "reisepass", "passeport", "pasaporte")
_PAPERS += ("social security number", "ssn", "national insurance number", "dni", "nino")
_NAMED = ("my name is", "my name's", "my full name is", "my names are", "i am called", "i'm called", "full name")
_NAMED += ("patient name", "customer name", "je m'appelle", "ich heisse", "ich hei\u00dfe", "mein name ist", "me llamo")
_NAMED += ("mi nombre es", "mi chiamo", "meu nome \u00e9", "mijn naam is", "jag heter")
_STREET = (
    "street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|place|pl|square|sq|terrace|way|highway|hwy"
)


@dataclass(frozen=True)
class EmailShape(Shape):
    """Found from its sign, so that words without one cost nothing (RFC 5321: 64 characters before it, 253 behind)."""

    def found(self, text: str, start: int, limit: int) -> Iterator[tuple[int, int, int]]:
        sign = text.find("@", start)
        while sign >= 0:
            begin = sign
            least = max(start, sign - 64)
            while begin > least and not _LOCAL_END.match(text[begin - 1]):
                begin -= 1
            while begin < sign and text[begin] in ".'/=*`":
                begin += 1
            if begin >= limit and sign - 64 >= limit:
                return
            match = _DOMAIN.match(text, sign + 1, sign + 254) if begin < sign else None
            if match is not None:
                if begin >= limit:
                    return
                yield begin, begin, match.end()
                start = match.end()
            sign = text.find("@", sign + 1)


def _digits(text: str) -> str:
    """The digits in a text, of whatever script, as ASCII."""
    digits = "".join(filter(str.isdecimal, text))
    return digits if digits.isascii() else "".join(str(int(digit)) for digit in digits)


def _card(match: re.Match[str]) -> Place | None:
    """The longest beginning of a run of digits that is a card's number and ends with a group of them."""
    text, digits = match[0], _digits(match[0])
    for count in range(len(digits), 12, -1):
        if is_card(digits[:count]):
            end = [place for place, character in enumerate(text, 1) if character.isdecimal()][count - 1]
            if not text[end : end + 1].isdecimal():
                return match.start(), match.start() + end
    return None


def _iban(match: re.Match[str]) -> Place | None:
    text = match[0]
    if text[:2].upper() not in IBAN_LENGTHS:
        return None
    after = match.string[match.end() : match.end() + 1]
    for end in range(len(text), 14, -1):
        if (
            text[end - 1].isalnum()
            and not (text + after)[end : end + 1].isalnum()
            and is_iban(_PLAIN.sub("", text[:end]))
        ):
            return match.start(), match.start() + end
    return None


def _international(match: re.Match[str]) -> Place | None:
    digits = _digits(match[0])
    if match[0].startswith("+"):
        return match.span() if is_phone(digits) else None
    return match.span() if is_phone(digits[2:]) and not match[0].isdecimal() else None


def _after_words(match: re.Match[str]) -> Place | None:
    return match.span(1) if 7 <= len(_digits(match[1])) <= 15 else None


def _paper(match: re.Match[str]) -> Place | None:
    return match.span(1) if sum(map(str.isdigit, match[1])) >= 4 else None


def _name(match: re.Match[str]) -> Place | None:
    """Up to four words, the first of them a capital one or of a script without capitals."""
    end = match.start(1)
    for word in re.finditer(r"\S+", match[1]):
        if word[0][0].islower():
            break
        end = match.start(1) + word.end()
        if word[0].endswith(".") and len(word[0].rstrip(".")) > 1:
            end -= 1
            break
    return (match.start(1), end) if end > match.start(1) else None


def _ipv6(match: re.Match[str]) -> Place | None:
    try:
        address = ipaddress.IPv6Address(match[0])
    except ValueError:
        return None
    # a::b is C++ as well, and ::1 nobody's own
    groups = [group for group in match[0].split(":") if group]
    return match.span() if len(groups) >= 3 and any(map(str.isdigit, match[0])) and not address.is_loopback else None


def _ipv4(match: re.Match[str]) -> Place | None:
    return None if match[0].startswith(("127.", "0.")) else match.span()


def _crypto(match: re.Match[str]) -> Place | None:
    text = match[0]
    if text.startswith("0x"):
        return match.span()
    good = is_bech32(text) if text[:3].lower() == "bc1" else is_base58check(text)
    return match.span() if good else None


def _after(words: tuple[str, ...], then: str) -> re.Pattern[str]:
    """A pattern of one of the words, and of what may come after it."""
    return re.compile(rf"(?<!\w)(?:{alternatives(words)})(?!\w){then}", re.IGNORECASE)


_FILLER = rf"(?:{_MARKS}|number|no|nr|is|was|at|on|in|me|us|nummer|am|the|le|el|den){{0,8}}"

SHAPES: dict[Entity, tuple[Shape, ...]] = {
    "email": (EmailShape("EMAIL", re.compile("@"), needs=("@",)),),
    "iban": (
        Shape(
            "IBAN",
            re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?:" + SEPARATOR + r"?[A-Za-z0-9]){11,30}"),
            _iban,
            digits=True,
            lead=2,
            opening=re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}"),
            reach=72,
        ),
    ),
    "card": (
        Shape("CARD", re.compile(r"(?<![\w.])\d(?:" + SEPARATOR + r"?\d){12,18}(?!\w)"), _card, digits=True, lead=0),
    ),
    "crypto": (
        Shape(
            "CRYPTO",
            re.compile(
                r"(?<!\w)(?:0x[0-9a-fA-F]{40}|[13][1-9A-HJ-NP-Za-km-z]{25,34}|(?:bc1|BC1)[A-Za-z0-9]{11,87})(?!\w)"
            ),
            _crypto,
            digits=True,
            lead=2,
        ),
    ),
    "ip": (
        Shape(
            "IP",
            re.compile(rf"(?<![\w.]){_OCTET}(?:\.{_OCTET}){{3}}(?![\w]|\.\d)"),
            _ipv4,
            digits=True,
            lead=0,
            needs=(".",),
        ),
        Shape("IP", re.compile(_IPV6), _ipv6, needs=(":",), digits=True),
    ),
    "ssn": (
        Shape(
            "SSN",
            re.compile(r"(?<![\w-])(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])"),
            digits=True,
            lead=0,
        ),
    ),
    "phone": (
        Shape(
            "PHONE",
            re.compile(
                r"(?<![\w+.\]>])(?:\+|(?<![\w\])>][ -])00)\d(?:[ \-\u00a0\u2010-\u2013./()]{0,2}\d){6,14}(?!\w)"
            ),
            _international,
            digits=True,
            lead=1,
        ),
        Shape(
            "PHONE",
            re.compile(r"(?<![\w.\]>-])(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])[2-9]\d\d[-. ]\d{4}(?![\w-]|\.\d)"),
            digits=True,
            lead=1,
        ),
        Shape(
            "PHONE",
            _after(_CALL, rf"{_FILLER}(\+?\(?\d(?:[ \-\u00a0\u2010-\u2013./()]{{0,2}}\d){{6,14}})(?!\w)"),
            _after_words,
            needs=("pho", "tel", "mob", "cell", "call", "text", "whats", "fax", "my", "handy", "t\u00e9l"),
            digits=True,
            triggers=_CALL,
            reach=160,
        ),
    ),
    "birth_date": (
        Shape(
            "BIRTH_DATE",
            _after(_BIRTH, rf"{_FILLER}({_DATE})"),
            first_group,
            needs=("birth", "born", "dob", "d.o.b", "gebo", "gebu", "naiss", "nac"),
            digits=True,
            triggers=_BIRTH,
            reach=160,
        ),
    ),
    "identity": (
        Shape(
            "ID",
            _after(_PAPERS, rf"{_FILLER}([A-Za-z]{{0,3}}(?:[ -]?[A-Za-z0-9]){{5,14}})(?!\w)"),
            _paper,
            needs=("pas", "lic", "id", "ausw", "ssn", "secu", "dni", "nino", "insur"),
            digits=True,
            triggers=_PAPERS,
            reach=160,
        ),
    ),
    "name": (
        Shape(
            "NAME",
            _after(_NAMED, rf"{_MARKS}{{1,4}}([^\W\d_][\w'\u2019.-]{{0,30}}(?: [^\W\d_][\w'\u2019.-]{{0,30}}){{0,3}})"),
            _name,
            needs=("nam", "called", "appelle", "ich hei", "llamo", "nombre", "chiamo", "nome", "naam", "heter"),
            triggers=_NAMED,
            reach=200,
        ),
    ),
    "address": (
        Shape(
            "ADDRESS",
            re.compile(
                rf"(?<![\w.,])\d{{1,5}}[A-Za-z]?(?: [A-Z][\w'.-]{{0,20}}){{1,4}} (?i:{_STREET})(?!\w)\.?"
                r"(?:, (?:Apt|Suite|Unit|Flat)\.? ?#?\w{1,6})?"
                r"(?:, [A-Z][\w'-]{1,20}(?: [A-Z][\w'-]{1,20}){0,2})?(?:,? [A-Z]{2} \d{5}(?:-\d{4})?)?(?!\w)"
            ),
            digits=True,
            lead=0,
            opening=re.compile(r"(?<![\w.,])\d{1,5}[A-Za-z]?(?: [A-Z]| ?\Z)"),
            reach=240,
        ),
    ),
}
