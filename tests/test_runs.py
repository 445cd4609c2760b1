"""Whole runs of the European XFEL: folders of files that extra_data reads."""

import gc
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from helpers.errors import PatternsFileError
from helpers.experiment import measure_patterns, open_experiment, write_experiment
from helpers.patterns import Patterns, open_patterns

N_TRAINS, N_PULSES = 3, 2
N = N_TRAINS * N_PULSES
DATA = ("image/data", "data/adc")


@pytest.fixture(scope="module")
def mock() -> Any:
    """Return the writer of files such as those of real runs."""
    reason = "extra euxfel is absent"
    return pytest.importorskip("extra_data.tests.mockdata", reason=reason)


def module_value(frame: int, module: int) -> int:
    return 20 * frame + module


@pytest.fixture
def write_run(mock: Any, tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes a run, in which a pixel tells frame and module."""
    from extra_data.tests.mockdata import detectors

    def write(
        kind: str = "LPD", *, raw: bool = False, modules: Sequence[int] = range(16)
    ) -> Path:
        run = tmp_path / "p1" / "r0123"
        run.mkdir(parents=True, exist_ok=True)
        module_class = getattr(detectors, f"{kind}Module")
        for number in modules:
            name = f"{'RAW' if raw else 'CORR'}-R0123-{kind}{number:02}-S00000.h5"
            device = f"SPB_DET_{kind}1M-1/{'DET' if raw else 'CORR'}/{number}CH0"
            source = module_class(device, frames_per_train=N_PULSES, raw=raw)
            options = {"ntrains": N_TRAINS, "chunksize": 4, "format_version": "1.0"}
            mock.write_file(str(run / name), [source], **options)
            fill(run / name, number)
        return run

    return write


def fill(path: Path, module: int) -> None:
    with h5py.File(path, "a") as file:
        found: list[h5py.Dataset] = []
        file["INSTRUMENT"].visititems(
            lambda name, item: found.append(item) if name.endswith(DATA) else None
        )
        for frame in range(N):
            found[0][frame] = module_value(frame, module)


def open_quietly(run: Path, **options: Any) -> Patterns:
    with warnings.catch_warnings(action="ignore"):
        return open_patterns(run, **options)


def problem_of(run: Path, **options: Any) -> str:
    with pytest.raises(PatternsFileError) as caught:
        open_quietly(run, **options)
    assert caught.value.path == run
    return str(caught.value)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    ("kind", "slow", "fast"), [("LPD", 256, 256), ("AGIPD", 512, 128)]
)
def test_a_run_is_one_stack(
    kind: str, slow: int, fast: int, raw: bool, write_run: Callable[..., Path]
) -> None:
    run = write_run(kind, raw=raw, modules=[m for m in range(16) if m != 5])
    patterns = open_quietly(run)
    assert patterns.layout.name == f"European XFEL run, {kind}1M"
    assert patterns.layout.patterns == f"SPB_DET_{kind}1M-1"
    assert patterns.shape == (N, 16 * slow, fast)
    assert patterns.unit == ("ADU" if raw else "photons")
    absent = np.repeat(np.arange(16) == 5, slow)
    np.testing.assert_array_equal(patterns.bad_pixels.all(axis=1), absent)
    for frame in (4, 0, 5):
        expected = [module_value(frame, m) if m != 5 else 0 for m in range(16)]
        shown = patterns[frame].reshape(16, -1)
        np.testing.assert_array_equal(shown.min(axis=1), expected)
        np.testing.assert_array_equal(shown.max(axis=1), expected)


def test_pattern_train_and_pulse(write_run: Callable[..., Path]) -> None:
    run = write_run()
    patterns = open_quietly(run)
    trains = np.repeat(10000 + np.arange(N_TRAINS), N_PULSES)
    np.testing.assert_array_equal(patterns.shots["train"], trains)
    np.testing.assert_array_equal(
        patterns.shots["pulse"], np.tile(np.arange(N_PULSES), N_TRAINS)
    )
    assert patterns.locate(5) == (run, 5)
    assert "Shots: train 10000 to 10002, pulse 0 to 1." in patterns.describe()


def test_the_run_stays_as_it_is(write_run: Callable[..., Path]) -> None:
    run = write_run()
    before = sorted(run.rglob("*"))
    patterns = open_quietly(run)
    linked = patterns._stack.sources[0]._linked.path
    assert linked.exists()
    assert patterns[0].any()
    patterns.close()
    assert patterns[1].any()
    assert sorted(run.rglob("*")) == before
    del patterns
    gc.collect()
    assert not linked.parent.exists()


@pytest.mark.parametrize("place", ["beside", "named"])
def test_geometry(place: str, write_run: Callable[..., Path], tmp_path: Path) -> None:
    extra_geom = pytest.importorskip("extra_geom", reason="extra euxfel is absent")
    run = write_run("AGIPD")
    geometry = extra_geom.AGIPD_1MGeometry.example()
    file = (run if place == "beside" else tmp_path) / "agipd.geom"
    geometry.write_crystfel_geom(str(file))
    options = {} if place == "beside" else {"geometry": file}
    with warnings.catch_warnings(action="error"):
        patterns = open_patterns(run, **options)
    modules = np.full((16, 512, 128), 0.0) + np.arange(16)[:, None, None]
    expected, _ = geometry.position_modules(module_value(2, 0) + modules)
    np.testing.assert_array_equal(patterns.bad_pixels, np.isnan(expected))
    np.testing.assert_array_equal(patterns[2], np.nan_to_num(expected))
    assert "assembled by agipd.geom" in patterns.describe()


def test_later_stages_open_it_again(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    patterns = open_quietly(write_run())
    measured = measure_patterns(patterns, lit_threshold=1)
    write_experiment(tmp_path / "work", patterns, measured, (1.0, 2.0))
    with warnings.catch_warnings(action="ignore"):
        again = open_experiment(tmp_path / "work").patterns
    assert again.fingerprint == patterns.fingerprint
    np.testing.assert_array_equal(again[3], patterns[3])


def test_jungfrau(mock: Any, tmp_path: Path) -> None:
    from extra_data.tests.mockdata.jungfrau import JUNGFRAUModule

    run = tmp_path / "r0012"
    run.mkdir()
    for number in range(1, 9):
        path = run / f"CORR-R0012-JNGFR{number:02}-S00000.h5"
        source = JUNGFRAUModule(f"SPB_IRDA_JF4M/DET/JNGFR{number:02}")
        mock.write_file(str(path), [source], ntrains=2, chunksize=1)
    with h5py.File(path, "a") as file:
        adc = file["INSTRUMENT/SPB_IRDA_JF4M/DET/JNGFR08:daqOutput/data/adc"]
        adc[1, 3] = 7
    patterns = open_quietly(run)
    assert patterns.layout.name == "European XFEL run, JUNGFRAU"
    assert patterns.shape == (32, 8 * 512, 1024)
    assert np.unique(patterns[19][-512:]) == 7
    assert not patterns[19][:-512].any()


def test_several_detectors(write_run: Callable[..., Path]) -> None:
    run = write_run("LPD")
    write_run("DSSC")
    problem = problem_of(run)
    assert "found SPB_DET_DSSC1M-1, SPB_DET_LPD1M-1. Name one of them: data" in problem
    patterns = open_quietly(run, dataset="SPB_DET_LPD1M-1")
    assert patterns.shape == (N, 16 * 256, 256)
    assert "there is no detector X in it; found SPB" in problem_of(run, dataset="X")


@pytest.mark.filterwarnings("ignore:.*modules .* are stacked:UserWarning")
def test_damaged_file(write_run: Callable[..., Path]) -> None:
    run = write_run()
    broken = run / "CORR-R0123-LPD03-S00000.h5"
    broken.write_bytes(broken.read_bytes()[:5000])
    with pytest.warns(UserWarning, match=r"LPD03-S00000.h5 cannot be opened and is"):
        patterns = open_patterns(run)
    assert patterns.bad_pixels[3 * 256 : 4 * 256].all()
    assert "Modules without data in this run: 3." in patterns.describe()


def test_nothing_of_it_can_be_opened(mock: Any, tmp_path: Path) -> None:
    (tmp_path / "CORR-R0123-LPD03-S00000.h5").write_text("lost")
    assert "cannot be read as a run of the European XFEL" in problem_of(tmp_path)


@pytest.mark.filterwarnings("ignore:.*modules .* are stacked:UserWarning")
def test_raw_values_are_warned_of(write_run: Callable[..., Path]) -> None:
    with pytest.warns(UserWarning, match="the values are raw: offsets and gain"):
        open_patterns(write_run(raw=True))


def test_without_extra_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "extra_data", None)
    (tmp_path / "CORR-R0123-LPD03-S00000.h5").touch()
    problem = problem_of(tmp_path)
    assert "the package extra-data reads; it is not installed. Install it" in problem


def test_geometry_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PatternsFileError, match="no such file") as caught:
        open_patterns("run.h5", geometry=tmp_path / "no.geom")
    assert caught.value.path == tmp_path / "no.geom"
