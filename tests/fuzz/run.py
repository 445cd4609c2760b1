"""Damage files at random and count what comes of opening them.

Run `python tests/fuzz/run.py --seconds 600`; what was not told clearly is kept in
`--keep`, with what was said, to be opened again.
"""

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from fuzz.mutate import mutate  # noqa: E402
from fuzz.seeds import SEEDS, make_seeds  # noqa: E402

OUTCOMES = ("opened", "clear error", "unclear error", "crash", "hang")
PATIENCE = 60.0  # seconds for one small file, on a machine that is busy


@dataclass
class Counts:
    """What came of the inputs of one kind; `bad` keeps those that came to no good."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[str, bytes, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """Return one line of a table."""
        numbers = "".join(f"{self.outcomes[each]:>15}" for each in OUTCOMES)
        return f"{self.kind:>6}{self.outcomes.total():>10}{numbers}"


class Worker:
    """A process that opens files of one kind; a new one when it died or hung."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.process: subprocess.Popen[str] | None = None

    def open(self, path: Path) -> tuple[str, str]:
        """Return the outcome for one file, and what was said."""
        process = self.process or self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(PATIENCE):
                self.stop()
                return "hang", f"no answer in {PATIENCE:g} s"
        answer = process.stdout.readline()
        if not answer:
            code = process.wait()
            self.stop()
            return "crash", f"the process ended with status {code}"
        outcome, said = json.loads(answer)
        return outcome, said

    def start(self) -> "subprocess.Popen[str]":
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), self.kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def fuzz(kind: str, seed: int, n: int = 0, seconds: float = 0) -> Counts:
    """Damage and open files of one kind, `n` of them or as many as time allows."""
    counts, worker, random = Counts(kind), Worker(kind), Random(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / {"hdf5": "run.h5"}.get(kind, f"run.{kind}")
        seeds = make_seeds(kind, Path(folder))
        try:
            for _ in _rounds(n, seconds):
                content = mutate(kind, random, seeds)
                path.write_bytes(content)
                outcome, said = worker.open(path)
                counts.outcomes[outcome] += 1
                if outcome in OUTCOMES[2:]:
                    counts.bad.append((outcome, content, said))
        finally:
            worker.stop()
    return counts


def _rounds(n: int, seconds: float) -> Iterator[None]:
    if n:
        yield from [None] * n
        return
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def keep(counts: Counts, folder: Path) -> None:
    """Write the inputs that came to no good, and what was said."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (outcome, content, said) in enumerate(counts.bad):
        name = f"{counts.kind}-{outcome.replace(' ', '-')}-{number}"
        (folder / f"{name}.bin").write_bytes(content)
        (folder / f"{name}.txt").write_text(said, "utf-8")


def main() -> int:
    """Fuzz each kind for the same time; print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="for all kinds")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path("data/fuzz"))
    parser.add_argument("--kinds", nargs="+", default=list(SEEDS), choices=list(SEEDS))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    print(f"{'kind':>6}{'inputs':>10}" + "".join(f"{each:>15}" for each in OUTCOMES))
    bad = 0
    for kind in options.kinds:
        seconds = options.seconds / len(options.kinds)
        counts = fuzz(kind, options.seed, seconds=seconds)
        print(counts, flush=True)
        keep(counts, options.keep)
        bad += len(counts.bad)
    if bad:
        print(f"{bad} inputs that came to no good are in {options.keep}")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
