"""Small damage to the content of a file, of the kinds that disks and people do."""

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[Random, bytearray], None]

STRANGE = [
    *(None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "x" * 999),
    *([], {}, [[]], {"a": None}, "../../etc", "\0", "é", [1, "2"], "nan"),
]
EXTREMES = (0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def flip_bits(random: Random, content: bytearray) -> None:
    for _ in range(random.randint(1, 8)):
        content[_place(random, content)] ^= 1 << random.randrange(8)


def set_bytes(random: Random, content: bytearray) -> None:
    for _ in range(random.randint(1, 8)):
        content[_place(random, content)] = random.choice((0, 1, 127, 128, 255))


def set_number(random: Random, content: bytearray) -> None:
    width = random.choice((2, 4, 8))
    at = _place(random, content) // width * width
    value = random.choice(EXTREMES) % 2 ** (8 * width)
    content[at : at + width] = value.to_bytes(width, "little")


def cut(random: Random, content: bytearray) -> None:
    del content[random.randrange(len(content)) :]


def drop_block(random: Random, content: bytearray) -> None:
    at = _place(random, content)
    del content[at : at + random.randint(1, 64)]


def repeat_block(random: Random, content: bytearray) -> None:
    at, length = _place(random, content), random.randint(1, 64)
    content[at:at] = content[at : at + length]


def clear_block(random: Random, content: bytearray) -> None:
    at, length = _place(random, content), random.choice((8, 64, 512))
    block = content[at : at + length]
    content[at : at + length] = bytes(len(block))


def swap_blocks(random: Random, content: bytearray) -> None:
    one, other = (_place(random, content) for _ in range(2))
    length = random.choice((4, 8, 64))
    content[one : one + length] = content[other : other + length]


BYTES: tuple[Mutation, ...] = (
    *(flip_bits, set_bytes, set_number, cut),
    *(drop_block, repeat_block, clear_block, swap_blocks),
)


def mutate(kind: str, random: Random, seeds: list[bytes]) -> bytes:
    """Return a damaged copy of one of the seeds."""
    content = bytearray(random.choice(seeds))
    if kind == "json" and random.random() < 0.7:
        return mutate_json(random, content)
    if kind == "csv" and random.random() < 0.7:
        return mutate_csv(random, content)
    for _ in range(random.choice((1, 1, 2, 4))):
        if content:
            random.choice(BYTES)(random, content)
    return bytes(content)


def mutate_json(random: Random, content: bytearray) -> bytes:
    """Put something strange in place of some value, or leave it out."""
    metadata: Any = json.loads(content)
    for _ in range(random.randint(1, 3)):
        key = random.choice(sorted(metadata))
        if random.random() < 0.3 and len(metadata) > 1:
            del metadata[key]
        elif (
            isinstance(metadata[key], list) and metadata[key] and random.random() < 0.5
        ):
            metadata[key][0] = copy.deepcopy(random.choice(STRANGE))
        else:
            metadata[key] = copy.deepcopy(random.choice(STRANGE))
    return json.dumps(metadata if random.random() < 0.95 else [metadata]).encode()


def mutate_csv(random: Random, content: bytearray) -> bytes:
    """Put something strange in place of some fields."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(random.randint(1, 3)):
        row = random.choice(rows)
        if row:
            row[random.randrange(len(row))] = str(random.choice(STRANGE))
        if random.random() < 0.2:
            random.choice(rows).append('"')
    ending = random.choice(("\n", "\r\n", "\r"))
    return ending.join(",".join(row) for row in rows).encode(errors="replace")


def _place(random: Random, content: bytearray) -> int:
    """Choose a place, mostly near the beginning, where files say what they are."""
    reach = min(len(content), random.choice((64, 1024, 4096, len(content))))
    return random.randrange(max(1, reach)) if content else 0
