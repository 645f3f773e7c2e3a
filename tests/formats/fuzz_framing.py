"""Looks for input on which the compiled functions and those in Python differ, or which breaks them.

    python -m tests.formats.fuzz_framing bulk_inferencer/_formats/_framing.abi3.so --seconds 60

`make fuzz` runs it with AddressSanitizer and UndefinedBehaviorSanitizer, which end it at the first
byte that is read or written outside of what was allocated.
"""

from __future__ import annotations

import argparse
import random
import struct
import time
from importlib.machinery import ExtensionFileLoader

from bulk_inferencer._formats import framing


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="the compiled module")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    compiled = ExtensionFileLoader("_framing", args.module).load_module()
    rng, deadline = random.Random(args.seed), time.monotonic() + args.seconds
    counts = dict.fromkeys(framing.Damage, 0)
    while time.monotonic() < deadline:
        compiled.use_instruction(rng.random() < 0.5)
        records = [
            rng.randbytes(rng.choice((0, 1, 7, 8, 9, 300)) * rng.randrange(3))
            for _ in range(rng.randrange(20))
        ]
        frame = framing.frame_in_python(records)
        assert compiled.frame(records) == frame
        assert compiled.frame(records, records) == framing.frame_in_python(records, records)
        buffer, most = _mutated(rng, frame), rng.choice((0, 8, 100, 1 << 62))
        own, other = compiled.cut(buffer, most), framing.cut_in_python(buffer, most)
        assert (own[0], own[3:]) == (other[0], other[3:]), (buffer, most)
        assert own[3] or own[1:3] == other[1:3], (buffer, most)
        counts[framing.Damage(own[3])] += 1
    for damage, count in counts.items():
        print(f"{damage.name:<10}{count:>10,}")


def _mutated(rng, frame):
    buffer = bytearray(frame)
    for _ in range(rng.randrange(3)):
        kind = rng.randrange(5)
        place = rng.randrange(len(buffer) + 1)
        if kind == 0:
            del buffer[place:]
        elif kind == 1 and place < len(buffer):
            buffer[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            buffer[place:place] = rng.randbytes(rng.randrange(20))
        elif kind == 3:  # an absurd length, with a checksum that is right
            length = rng.choice((2**64 - 1, 2**63, 2**62 + 1, 2**32, rng.randrange(1000)))
            buffer[place:place] = framing.header(length)
        else:
            buffer[place:place] = struct.pack("<Q", rng.randrange(2**64))
    return bytes(buffer)


if __name__ == "__main__":
    main()
