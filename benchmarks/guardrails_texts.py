"""Texts for measuring guardrails, the same in every run: benign ones, dense ones, and lists of terms."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import string
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from uuid import UUID

import neuro_mw
from neuro_mw import bundled

_PLAIN = (
    "The keeper had been told, many years before, that the coast would one day need no keepers at all.",
    "In 1987 there had been three of them, and since the winter of 2003 he had lived there alone with the radio.",
    "It isn't long, is it? The first part is easy to read, and most of the second is about the weather.",
    "Set a limit of 30 seconds, try again a few times, and write down every failure with the id of its request.",
    "We keep the key to the storm door on a hook beside the radio; the password is something he never wrote down.",
    "Call the function with two arguments: the name of the table, and how many rows there should be at most.",
    "Please ignore the noise from the engine; the instructions for the pump are on the previous page.",
    "The ferry goes twice an hour from early in the morning until night, and less often on Sundays.",
)
_NUMBERED = (
    "In 1987 there had been three of them; by 1994 only two, and since the winter of 2003 he lived there alone.",
    "About 40 pages (3 of them empty), and most of chapter 12 is about the weather.",
    "Version 2.14.1 reads 1,250 records in 0.38 s, which is 17.5 % faster than the release of 2024-11-05.",
    "She ordered 12 boxes at $18.75 each, paid $225.00 in all, and had them sent to the office on the 3rd floor.",
    "From 9:30 to 17:45 the ferry goes every 20 minutes, and on Sundays every hour, as the table on page 7 shows.",
)
_ACCENTED = (
    *_PLAIN,
    "Größere Schiffe fahren täglich um 9 Uhr über die Förde, kleinere nur während der Sommermonate.",
    "L'été dernier, la marée était si haute que l'eau a passé le môle, près de la vieille forêt.",
    "«Это не так уж далеко», — сказал он и показал на маяк.",
)


def prose(size: int) -> str:
    """English sentences, with a number here and there that is nobody's."""
    return _drawn(_PLAIN, size)


def numbered(size: int) -> str:
    """English sentences full of numbers, dates and amounts, none of which is anybody's."""
    return _drawn(_NUMBERED, size)


def accented(size: int) -> str:
    """Prose with some sentences in German, French and Russian."""
    return _drawn(_ACCENTED, size)


def source(size: int) -> str:
    """Python, from the middle of a module of the standard library."""
    text = inspect.getsource(argparse)
    return text[size : 2 * size]


def dense_pii(size: int) -> str:
    """Lines with one of each of the seven types."""
    random = Random(2)
    return _joined(lambda: _person(random), size, "\n")


def dense_secrets(size: int) -> str:
    """A file of settings with a credential in each line; they are drawn here, so that none stands in this file."""
    random = Random(3)

    def line() -> str:
        drawn = "".join(random.choices(string.ascii_letters + string.digits, k=40))
        return random.choice(
            (f"GITHUB_TOKEN=ghp_{drawn[:36]}", f'api_key = "{drawn}"', f"db: postgres://app:{drawn[:12]}@db")
        )

    return _joined(line, size, "\n")


def terms(count: int) -> tuple[str, ...]:
    """Words and phrases of two words that begin as English words do."""
    syllables = [first + vowel for first in "bcdfghklmnprstvw" for vowel in "aeiou"]
    ends = [vowel + last for vowel in "aeiou" for last in "dlmnrst"]
    words = ["".join(parts) for parts in product(syllables, syllables, ends)]
    random = Random(4)
    random.shuffle(words)
    return tuple(f"{word} {random.choice(words)}" if at % 4 == 0 else word for at, word in enumerate(words[:count]))


def code(size: float) -> Iterator[str]:
    """The package's own sources, then the standard library's without its tests, until there are so many characters."""
    for root in (Path(neuro_mw.__file__).parent, Path(os.__file__).parent):
        for file in sorted(root.rglob("*.py")):
            if {"test", "tests", "site-packages", "dist-packages"}.intersection(file.relative_to(root).parts):
                continue
            text = file.read_text("utf-8", errors="replace")
            size -= len(text)
            yield text
            if size <= 0:
                return


def logs(size: int) -> Iterator[str]:
    """Lines as services write them: times, ids, versions, sizes, statuses; the hosts have names."""
    random, now = Random(5), datetime(2026, 3, 1, tzinfo=UTC)

    def line() -> str:
        nonlocal now
        now += timedelta(seconds=random.random() * 9)
        status, process = random.choice((200, 204, 404, 500)), random.randrange(100, 40_000)
        took, sent, version = random.random() * 900, random.randrange(10**7), _version(random)
        return random.choice(
            (
                f"{now:%Y-%m-%d %H:%M:%S},{process % 1000:03d} INFO [worker-{process % 64}] req={_uuid(random)} "
                f"took {took:.3f} ms status={status} bytes={sent} ts={int(now.timestamp())} ver=v{version}",
                f'web-{process % 9} - - [{now:%d/%b/%Y:%H:%M:%S +0000}] "GET /v1/items/{sent}?page={process % 90} '
                f'HTTP/1.1" {status} {sent} "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 '
                f'Chrome/{100 + process % 40}.0.0.0 Safari/537.36"',
                f"{now:%b %d %H:%M:%S} node-{process % 9} kubelet[{process}]: I{now:%m%d %H:%M:%S}.{sent % 10**6:06d} "
                f'{process} pod_workers.go:965] "Error syncing pod" podUID={_uuid(random)} exit={status % 7}',
                f'{{"ts":{now.timestamp():.3f},"level":"warn","trace_id":"{random.getrandbits(64):016x}","msg":"slow",'
                f'"ms":{int(now.timestamp() * 1000)},"rows":{sent},"sha":"{_hash(random)}","tokens":{process}}}',
                f"[{took:12.6f}] usb {process % 4}-{status % 5}: new device, address {process % 128}, "
                f"mem 0x{random.getrandbits(32):08x}-0x{random.getrandbits(32):08x}",
            )
        )

    yield _joined(line, size, "\n")


def records(size: int) -> Iterator[str]:
    """JSON as services answer with: ids, coordinates, times, hashes; and litellm's price list."""
    random = Random(6)

    def record() -> str:
        return json.dumps(
            {
                "id": random.randrange(10**12),
                "user": random.randrange(10**9),
                "position": [random.uniform(-90, 90), random.uniform(-180, 180)],
                "score": random.random(),
                "created": int(1.7e9 + random.random() * 1e8),
                "updated": f"2026-03-{random.randrange(10, 29)}T{random.randrange(10, 24)}:15:00Z",
                "uuid": _uuid(random),
                "etag": _hash(random),
                "version": _version(random),
                "usage": {"prompt_tokens": random.randrange(9000), "total_tokens": random.randrange(9000)},
                "next_page_token": None,
            }
        )

    yield "[" + _joined(record, size, ",\n") + "]"
    yield bundled.litellm_file(bundled.PRICES).decode()


def _drawn(sentences: tuple[str, ...], size: int) -> str:
    random = Random(1)
    return _joined(lambda: random.choice(sentences), size, " ")


def _joined(piece: Callable[[], str], size: int, separator: str) -> str:
    pieces, length = [], 0
    while length < size:
        pieces.append(piece())
        length += len(pieces[-1]) + len(separator)
    return separator.join(pieces)[:size]


def _person(random: Random) -> str:
    name, digits = random.choice(("ann", "joe", "kim", "lea", "max")), "".join(random.choices("23456789", k=30))
    octets = [random.randrange(11, 250) for _ in range(6)]
    fields = (
        f"{name}.{digits[:4]}@mail{digits[4]}.example.com",
        f"({digits[:3]}) {digits[3:6]}-{digits[6:10]}",
        _with_luhn("4" + digits[:14]),
        _german_iban(digits[:18]),
        f"{random.randrange(100, 600)}-{digits[10:12]}-{digits[12:16]}",
        ".".join(map(str, octets[:4])),
        ":".join(f"{one:02x}" for one in octets),
    )
    return f"user {name}: " + ", ".join(fields)


def _with_luhn(digits: str) -> str:
    """Fifteen digits, and the sixteenth that makes them a card's number (ISO/IEC 7812-1)."""
    total = sum(sum(divmod(int(digit) * (2 - at % 2), 10)) for at, digit in enumerate(digits))
    return f"{digits}{-total % 10}"


def _german_iban(account: str) -> str:
    """Bank and account with check digits before them (ISO 13616: DE is 1314)."""
    return f"DE{98 - int(account + '131400') % 97:02d}{account}"


def _uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def _hash(random: Random) -> str:
    return f"{random.getrandbits(160):040x}"


def _version(random: Random) -> str:
    return f"{random.randrange(9)}.{random.randrange(30)}.{random.randrange(30)}"
