"""A simulated beamtime, and whether the table names what is wrong with each run.

Run `make bench-beamtime`, or `python tests/bench/bench_beamtime.py --patterns 300`.

One run teaches a model by 240 labels. It is then applied to 12 others of the same kind
of particle: three as it was, and nine with a beam that moved, a fainter and a brighter
pulse, more background, larger particles, few single hits, a cut file, another detector,
and with centre, brightness and background drifting within the run. Of those that
drifted, the patterns that are asked for are then labelled as the truth has it.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from helpers import classifier
from helpers.beamtime import (
    Beamtime,
    RunRow,
    apply_model,
    audit_runs,
    describe_table,
    write_pages,
)
from helpers.beamtime.drift import describe_singles
from helpers.experiment import (
    measure_patterns,
    open_experiment,
    suggest_hit_threshold,
    write_experiment,
)
from helpers.intervals import Proportion
from helpers.labels import open_label_store, read_queue
from helpers.patterns import open_patterns, use_cluster
from helpers.physics import find_centre
from helpers.simulate import SAMPLES, Detector, pnccd_bad_pixels, write_simulated

SHAPE, OTHER_SHAPE = (130, 128), (128, 128)
N_LABELS = 240
FIRST_SEED = 700
BASE = SAMPLES["default"]
RUNS: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {
    "run01": ({}, (0, 0)),
    "run02": ({}, (0, 0)),
    "run03": ({}, (4, 3)),
    "run04": ({"photons": BASE.photons * 0.4}, (0, 0)),
    "run05": ({"photons": BASE.photons * 2.5}, (0, 0)),
    "run06": ({"background": BASE.background * 4}, (0, 0)),
    "run07": ({}, (0, 0)),
    "run08": ({"size_nm": BASE.size_nm * 1.3}, (0, 0)),
    "run09": ({"single": 0.06, "blank": BASE.blank + BASE.single - 0.06}, (0, 0)),
    "run10": ({}, (0, 0)),
    "run11": ({}, (0, 0)),
    "run12": (
        {"drift_px": 3.0, "fluence_drift": 0.5, "background_drift": 0.5},
        (2, -2),
    ),
}
BROKEN, OTHER_DETECTOR = "run07", "run11"
BUILT_IN = {
    "run03": "centre moved by 5 pixels",
    "run04": "0.4 × as bright",
    "run05": "2.5 × as bright",
    "run06": "4 × the background",
    "run07": "file cut in the middle",
    "run08": "particles 1.3 × as large",
    "run09": "single hits are rare (6 %)",
    "run11": "another detector",
    "run12": "centre, brightness and background drift within the run",
}


def write_run(path: Path, n: int, seed: int, name: str = "") -> None:
    """Write one run, with what is built into it."""
    changes, moved = RUNS.get(name, ({}, (0, 0)))
    shape = OTHER_SHAPE if name == OTHER_DETECTOR else SHAPE
    bad_pixels = pnccd_bad_pixels(shape)
    detector = Detector.of_shape(shape)
    row, column = detector.centre
    centre = (row + moved[0], column + moved[1])
    write_simulated(
        path,
        n,
        seed,
        bad_pixels=bad_pixels,
        sample=replace(BASE, **changes),
        detector=replace(detector, centre=centre),
    )
    if name == BROKEN:
        content = path.read_bytes()
        path.write_bytes(content[:1000])


def make_model(folder: Path, n: int) -> None:
    """Do what the notebooks do up to 06, on a run of its own."""
    write_run(folder / "model.h5", n, FIRST_SEED)
    patterns = open_patterns(folder / "model.h5")
    measured = measure_patterns(patterns, 1.0)
    centre = find_centre(measured.powder, patterns.bad_pixels)
    metadata = {"lit_threshold": 1.0, "geometry_file": ""}
    hit_threshold = suggest_hit_threshold(measured.lit_pixels)
    write_experiment(
        folder, patterns, measured, centre, hit_threshold=hit_threshold, **metadata
    )
    words = np.full(n, "", "U8")
    labelled = patterns.shuffled()[:N_LABELS]
    words[labelled] = patterns.true_labels[labelled]
    split = classifier.split_labels(words, patterns.file_index)
    classifier.write_partition(folder / "partition.h5", patterns, split, words)
    network = classifier.make_network("invariant", patterns, centre=centre)
    classifier.train_model(patterns, split, words, folder, network)
    classifier.predict_patterns(patterns, folder)


def judge(out_dir: Path, row: RunRow) -> str:
    """Say what is true of a run, beside what was expected."""
    if row.problem:
        return ""
    patterns = open_patterns(row.file)
    path = out_dir / "runs" / row.run / "predictions.h5"
    taken = classifier.read_predictions(path).probability >= row.threshold
    single = patterns.true_labels == "single"
    right = int((single & taken).sum())
    purity = right / max(1, int(taken.sum()))
    complete = right / max(1, int(single.sum()))
    return (
        f"{right:,} singles among them in truth; purity {purity:.2f}, "
        f"completeness {complete:.2f}"
    )


def give_labels(out_dir: Path, rows: list[RunRow]) -> None:
    """Label what runs that drifted ask for, as the truth has it."""
    for row in rows:
        if row.problem or not row.is_drifted:
            continue
        folder = out_dir / "runs" / row.run
        patterns = open_experiment(folder).patterns
        asked = read_queue(folder, len(patterns)).pattern
        words = np.full(len(patterns), "", "U8")
        words[asked] = patterns.true_labels[asked]
        store = folder / "labels.sqlite", patterns.fingerprint, len(patterns)
        with open_label_store(*store) as labels:
            labels.import_words(words, "truth")


def list_lines(
    out_dir: Path, rows: list[RunRow], audits: dict[str, Proportion]
) -> Iterator[str]:
    for row in rows:
        yield f"{row.run}  built in: {BUILT_IN.get(row.run, 'nothing')}"
        yield f"       said: {row.summary[:160]}"
        if truth := judge(out_dir, row):
            known = describe_singles(row, audits.get(row.run))
            yield f"       expected or audited {known}; {truth}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patterns", type=int, default=1000, help="in each run")
    parser.add_argument("--folder", type=Path, help="where files go, and stay")
    parser.add_argument("--cluster", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        model_dir, out_dir = folder / "model", folder / "out"
        model_dir.mkdir(parents=True, exist_ok=True)
        if not (model_dir / "predictions.h5").exists():
            make_model(model_dir, options.patterns)
        for number, name in enumerate(RUNS, 1):
            if not (folder / f"{name}.h5").exists():
                seed = FIRST_SEED + number
                write_run(folder / f"{name}.h5", options.patterns, seed, name)
        print(use_cluster(options.cluster))
        beamtime = Beamtime(model_dir, [folder / "run*.h5"], out_dir)
        rows = apply_model(beamtime, log=print)
        for labelled in (False, True):
            if labelled:
                give_labels(out_dir, rows)
            audits = audit_runs(out_dir, rows)
            print("", describe_table(rows, audits), sep="\n")
        print("", *list_lines(out_dir, rows, audits), sep="\n")
        print("", f"Report: {write_pages(out_dir, rows, beamtime.reference)}", sep="\n")


if __name__ == "__main__":
    main()
