"""Check digits that tell an account or card number from any other number, and where such numbers are given out."""

from __future__ import annotations

import hashlib
import re

# ISO 13616 registry: length of an IBAN by country
IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO",
        "16": "BE",
        "18": "DK FI FK FO GL NL SD",
        "19": "MK SI",
        "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST",
        "26": "IS TR",
        "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB NI PL SV",
        "29": "BR EG PS QA UA",
        "30": "JO KW MU YE",
        "31": "MT SC",
        "32": "LC",
        "33": "RU",
    }.items()
    for country in countries.split()
}
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-59]|[689]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|6(?:011|5\d\d|4[4-9]\d)\d{12}|62\d{14,17}"
    r"|(?:50|5[6-9]|6\d)\d{14}"
)
_DOUBLED = str.maketrans("0123456789", "0246813579")
"""Twice a digit, as the sum of its own digits."""
# ITU-T E.164: country calling codes in use
_CALLING = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|21[1-368]|2[2-6]\d|29[01789]|35\d|37[0-8]|38[0-35-79]"
    r"|42[013]|50\d|59\d|67[02-9]|68[0-35-9]|69[0-2]|80[08]|85[02356]|87[08]|88[0-368]|96[0-8]|97[0-79]|99[2-68]"
)
_BASE58 = {
    character: value for value, character in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")
}
_BECH32 = {character: value for value, character in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    doubled = digits[-2::-2].translate(_DOUBLED)
    return (sum(map(int, digits[-1::-2])) + sum(map(int, doubled))) % 10 == 0


def is_card(digits: str) -> bool:
    """Whether these are the digits of a payment card of a known issuer."""
    return _CARD.fullmatch(digits) is not None and luhn(digits)


def is_iban(text: str) -> bool:
    """Whether a text without separators is an IBAN: its country's length, and 1 modulo 97 (ISO 7064)."""
    text = text.upper()
    if IBAN_LENGTHS.get(text[:2]) != len(text) or not text.isascii() or not text.isalnum():
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def is_phone(digits: str) -> bool:
    """Whether digits that begin with a country's calling code can be a number (E.164: at most 15 digits)."""
    return 7 <= len(digits) <= 15 and _CALLING.match(digits) is not None


def is_base58check(text: str) -> bool:
    """Whether a Bitcoin address of the older kind (P2PKH, P2SH) has its checksum."""
    number = 0
    for character in text:
        number = number * 58 + _BASE58[character]
    if number.bit_length() > 200:
        return False
    raw = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


def is_bech32(text: str) -> bool:
    """Whether a segregated-witness address has its checksum (BIP 173, BIP 350)."""
    prefix, _, data = text.lower().rpartition("1")
    if text not in (text.lower(), text.upper()) or not set(data) <= _BECH32.keys():
        return False
    values = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + [_BECH32[c] for c in data]
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum in (1, 0x2BC830A3)
