"""What can be wrong with a file of patterns: each way is told, or read with a warning.

`WRONG` is the table of what can be wrong inside an HDF5 file. The ways that belong to a
single layout, to masks in other files and to labels have their tests in
test_facility_files.py, test_layouts.py and test_labels_exchange.py.
"""

import faulthandler
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import h5py
import nbformat
import numpy as np
import pytest
from default_signals import default_signals

import helpers
from helpers.__main__ import main
from helpers.errors import PatternsFileError
from helpers.experiment import measure_patterns, open_experiment, write_experiment
from helpers.patterns import hdf5_opening, open_patterns
from helpers.patterns.hdf5 import open_hdf5
from helpers.run.execution import write_report

FRAME = (5, 4)
VALUES = np.random.default_rng(0).poisson(1, (40, *FRAME)).astype("f4")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run7.h5"


CXI_MASK = "/entry_1/instrument_1/detector_1/mask"
LIU_LAB = {"patterns": VALUES, "labels": np.ones(40), "mask": np.zeros(FRAME)}
SIMULATED = {"patterns": VALUES, "truth": [b"single"] * 40, "mask": np.zeros(FRAME)}
CXI = {"/entry_1/data_1/data": VALUES, CXI_MASK: np.zeros(FRAME, "u4")}


class New(NamedTuple):
    """A dataset that cannot be made from an array."""

    shape: tuple[int, ...]
    dtype: Any
    chunks: tuple[int, ...] | None = None


class Wrong(NamedTuple):
    """What a file holds, what is told, and how it is opened."""

    content: dict[str, Any]
    said: str
    options: Mapping[str, Any] = MappingProxyType({})


WRONG = {
    # where the patterns are
    "nothing at all": Wrong({}, "No dataset of numbers in it has three dimensions."),
    "only images": Wrong(
        {"entry_1/data_1/data": VALUES[0]},
        "No dataset of numbers in it has three dimensions; it holds /entry_1/data_1/da",
    ),
    "several stacks": Wrong(
        {"a/b": VALUES, "c": VALUES[:2], "d": VALUES[0]},
        "its layout is not known; expected one dataset (patterns, rows, columns), or "
        "one of the known layouts. Datasets with three dimensions: /a/b (40, 5, 4), "
        "/c (2, 5, 4). Pass dataset='/a/b'.",
    ),
    "very many stacks": Wrong(
        {f"frames{number:02}": VALUES for number in range(13)},
        "/frames09 (40, 5, 4), 3 more.",
    ),
    "no such dataset": Wrong(
        {"patterns": VALUES},
        "there is no dataset /frames. Datasets with three dimensions: /patterns "
        "(40, 5, 4). Pass dataset='/patterns'.",
        {"dataset": "/frames"},
    ),
    "group that is named": Wrong(
        {"a/frames": VALUES}, "there is no dataset /a.", {"dataset": "/a"}
    ),
    "group where patterns belong": Wrong(
        {"patterns/frames": VALUES},
        "there is no dataset /patterns. Datasets with three dimensions: "
        "/patterns/frames (40, 5, 4). Pass dataset='/patterns/frames'.",
    ),
    "dataset without a shape": Wrong(
        {"patterns": h5py.Empty("f4")}, "there is no dataset /patterns."
    ),
    # their shape
    "single number": Wrong({"patterns": 3.0}, "/patterns has shape (); expected (pat"),
    "single image": Wrong(
        {"patterns": VALUES[0], "a/b": VALUES},
        "/patterns has shape (5, 4); expected (patterns, rows, columns). Datasets with "
        "three dimensions: /a/b (40, 5, 4). Pass dataset='/a/b'.",
    ),
    "four dimensions": Wrong(
        {"patterns": VALUES[None]},
        "/patterns has shape (1, 40, 5, 4); expected (patterns, rows, columns)",
    ),
    "no patterns": Wrong(
        {"patterns": VALUES[:0]},
        "/patterns has shape (0, 5, 4), so no pattern is in it; expected at least one",
    ),
    "no rows": Wrong(
        {"patterns": VALUES[:, :0]}, "has shape (40, 0, 4), so no pattern is in it"
    ),
    "impossibly many": Wrong(
        {"patterns": New((2**40, *FRAME), "f4", (1, *FRAME))},
        "expected at most 1,000,000,000 patterns",
    ),
    "impossibly large": Wrong(
        {"patterns": New((3, 2**30, 2**30), "f4", (1, 64, 64))},
        "of at most 268,435,456 pixels. The file may be damaged.",
    ),
    # their values
    "text": Wrong(
        {"patterns": np.full((3, *FRAME), b"photon")},
        "/patterns holds text; expected real numbers",
    ),
    "records": Wrong(
        {"patterns": np.zeros((3, *FRAME), [("x", "f4"), ("y", "f4")])},
        "/patterns holds records with the fields x, y; expected real numbers",
    ),
    "complex numbers": Wrong(
        {"patterns": VALUES.astype("c8")}, "/patterns holds complex numbers; expected"
    ),
    "true or false": Wrong(
        {"patterns": VALUES > 3}, "/patterns holds true or false; expected real"
    ),
    "references": Wrong(
        {"patterns": New((3, *FRAME), h5py.ref_dtype)},
        "/patterns holds references to other objects; expected",
    ),
    "lists": Wrong(
        {"patterns": New((3, *FRAME), h5py.vlen_dtype("i4"))},
        "/patterns holds lists of int32 of different lengths; expected",
    ),
    # links
    "external link to nothing": Wrong(
        {"patterns": h5py.ExternalLink("gone.h5", "/frames")},
        "Links that lead nowhere: /patterns -> gone.h5:/frames. Put what they lead to",
    ),
    "soft link to nothing": Wrong(
        {"soft": h5py.SoftLink("/nowhere")}, "/soft -> /nowhere"
    ),
    "links in a circle": Wrong(
        {
            "a": h5py.SoftLink("/b"),
            "b": h5py.SoftLink("/a"),
            "c": h5py.ExternalLink("run7.h5", "/c"),
        },
        "Links that lead nowhere: /a -> /b",
    ),
    "link in a circle that is named": Wrong(
        {"a": h5py.SoftLink("/b"), "b": h5py.SoftLink("/a")},
        "Links that lead nowhere: /a -> /b",
        {"dataset": "/a"},
    ),
    # masks
    "transposed mask": Wrong(
        LIU_LAB | {"mask": np.zeros((4, 5))},
        "/mask has shape (4, 5); expected (5, 4), one value for each pixel of a "
        "pattern, not transposed.",
    ),
    "transposed mask of CXI": Wrong(
        CXI | {CXI_MASK: np.zeros((4, 5), "u4")},
        f"{CXI_MASK} has shape (4, 5); expected (5, 4), one value for each pixel",
    ),
    "mask of no patterns": Wrong(
        CXI | {CXI_MASK: np.zeros((0, *FRAME), "u4")},
        f"{CXI_MASK} has shape (0, 5, 4); expected (5, 4)",
    ),
    "mask of text": Wrong(
        LIU_LAB | {"mask": np.full(FRAME, b"bad")}, "/mask holds |S3; expected numbers."
    ),
    "all pixels bad": Wrong(
        CXI | {CXI_MASK: np.ones(FRAME, "u4")},
        f"{CXI_MASK} leaves out every pixel; expected some good ones",
    ),
    "given bad pixels of another shape": Wrong(
        {"patterns": VALUES},
        "has shape (4, 5); expected (5, 4), one value for each pixel of a pattern, not "
        "transposed.",
        {"bad_pixels": np.zeros((4, 5), bool)},
    ),
    "given bad pixels everywhere": Wrong(
        {"patterns": VALUES},
        "leaves out every pixel; expected some good ones",
        {"bad_pixels": np.ones(FRAME, bool)},
    ),
    # labels
    "too few labels": Wrong(
        LIU_LAB | {"labels": np.ones(39)},
        "/labels has shape (39,) and dtype float64; expected numbers, one for each of "
        "the 40 patterns.",
    ),
    "truth of numbers": Wrong(
        SIMULATED | {"truth": np.ones(40)}, "expected text, one for each of the 40 pa"
    ),
}


def write(path: Path, values: Any = VALUES, **options: Any) -> Path:
    with h5py.File(path, "w", libver=options.pop("libver", None)) as file:
        file.create_dataset("patterns", data=values, **options)
    return path


def write_all(path: Path, content: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if isinstance(values, New):
                file.create_dataset(name, **values._asdict())
            else:
                file[name] = values
    return path


def problems_of(path: Path, **options: Any) -> str:
    """Open a file that cannot be used; return what is told, which names the file."""
    with pytest.raises(PatternsFileError) as caught:
        open_patterns(path, **options)
    assert caught.value.path == path
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_reported(name: str, path: Path) -> None:
    content, said, options = WRONG[name]
    assert said in problems_of(write_all(path, content), **options)


def test_everything_that_is_wrong_is_reported_at_once(path: Path) -> None:
    content = {
        "patterns": VALUES.astype("c8"),
        "mask": np.zeros((4, 5)),
        "labels": np.zeros(3),
    }
    problems = problems_of(write_all(path, content)).splitlines()
    assert [each.split()[0] for each in problems] == ["/patterns", "/mask", "/labels"]


class TestFiles:
    @pytest.mark.parametrize("name", ["missing.h5", "missing.emc", "no/folder.h5"])
    def test_missing(self, name: str, tmp_path: Path) -> None:
        said = "there is no such file. Check the name."
        assert problems_of(tmp_path / name) == said
        assert problems_of(Path(name)) == f"{said} It counts from {Path.cwd()}."

    @pytest.mark.parametrize("name", ["run.h5", "run.emc"])
    def test_empty_and_folder(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        path.touch()
        assert problems_of(path).startswith("is empty (0 bytes); expected")
        path.unlink()
        path.mkdir()
        assert "is a folder; expected" in problems_of(path)
        assert f"Pass its files: '{path}/*.h5'." in problems_of(path)

    def test_not_hdf5(self, path: Path) -> None:
        path.write_bytes(b"II*\0 this is a picture")
        assert "is not an HDF5 file. Expected one" in problems_of(path)

    @pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
    @pytest.mark.parametrize("name", ["run.h5", "run.emc"])
    def test_no_permission(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tmp_path.chmod(0o755)
        monkeypatch.chdir(tmp_path)
        path = write(Path(name))
        path.chmod(0)
        with without_rights():
            assert "may not be read by you. Ask its owner" in problems_of(path)

    def test_name_that_is_too_long(self, tmp_path: Path) -> None:
        problem = problems_of(tmp_path / ("x" * 300 + ".h5"))
        assert "cannot be looked at (File name too long)" in problem

    def test_name_that_leads_to_itself(self, path: Path) -> None:
        path.symlink_to(path)
        assert "cannot be looked at" in problems_of(path)


@contextmanager
def without_rights() -> Iterator[None]:
    """Run a block as somebody who is not the administrator."""
    if os.geteuid():
        yield
        return
    try:
        os.seteuid(65534)
    except PermissionError:
        pytest.skip("the administrator may read everything, and cannot be another")
    try:
        yield
    finally:
        os.seteuid(0)


class TestReading:
    """What shows only when patterns are read, or cannot be read."""

    def test_file_that_goes_away_later(self, path: Path) -> None:
        patterns = open_patterns(write(path))
        patterns.close()
        path.unlink()
        with pytest.raises(PatternsFileError, match="no such file"):
            patterns[0]

    def test_damage_found_while_reading(self, path: Path) -> None:
        options = {"chunks": (1, *FRAME), "compression": "gzip"}
        with h5py.File(write(path, **options)) as file:
            damaged = file["patterns"].id.get_chunk_info(4).byte_offset
        content = bytearray(path.read_bytes())
        content[damaged : damaged + 8] = bytes(8)
        path.write_bytes(content)
        with pytest.raises(PatternsFileError) as caught:
            open_patterns(path)[:]
        assert caught.value.path == path
        assert "of /patterns cannot be read" in str(caught.value)

    def test_filter_that_is_not_installed(self, path: Path) -> None:
        name, unknown = b"squeeze", 31999
        with h5py.File(path, "w") as file:
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk((1, *FRAME))
            plist.set_deflate(1)
            space = h5py.h5s.create_simple((3, *FRAME))
            dataset = h5py.h5d.create(
                file.id, b"patterns", h5py.h5t.IEEE_F32LE, space, plist
            )
            h5py.Dataset(dataset)[...] = 1
        content = path.read_bytes()
        deflate = (1).to_bytes(2, "little") + (8).to_bytes(2, "little")
        at = content.index(deflate + b"\1\0\1\0deflate\0")
        number = unknown.to_bytes(2, "little") + (8).to_bytes(2, "little")
        new = number + b"\0\0\1\0" + name + b"\0"  # flag 0: it must be undone
        path.write_bytes(content[:at] + new + content[at + len(new) :])
        problem = problems_of(path)
        assert (
            "compressed by a filter that is not installed: 31999 (squeeze)" in problem
        )
        assert "HDF5_PLUGIN_PATH" in problem


class TestLinks:
    def test_virtual_dataset_without_its_files(self, path: Path) -> None:
        part = write(path.with_name("part.h5"))
        layout = h5py.VirtualLayout(VALUES.shape, "f4")
        layout[:] = h5py.VirtualSource(part.name, "patterns", VALUES.shape)
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("patterns", layout)
        np.testing.assert_array_equal(open_patterns(path)[:], VALUES)
        part.unlink()
        assert "whose source files are missing: part.h5" in problems_of(path)

    def test_external_link_to_what_is_no_hdf5(self, path: Path) -> None:
        path.with_name("notes.txt").write_text("frames follow")
        with h5py.File(path, "w") as file:
            file["patterns"] = h5py.ExternalLink("notes.txt", "/frames")
        assert "/patterns -> notes.txt:/frames" in problems_of(path)

    def test_reading_through_links_writes_nothing(self, tmp_path: Path) -> None:
        """A path inside a file leads to reading only, wherever it points."""
        outside = write(tmp_path / "outside.h5")
        before = outside.read_bytes()
        (tmp_path / "in").mkdir()
        with h5py.File(tmp_path / "in" / "run.h5", "w") as file:
            file["patterns"] = h5py.ExternalLink("../outside.h5", "/patterns")
        with open_patterns(tmp_path / "in" / "run.h5") as patterns:
            np.testing.assert_array_equal(patterns[:], VALUES)
            with pytest.raises(OSError, match="open"):
                h5py.File(tmp_path / "in" / "run.h5", "r+")
        assert outside.read_bytes() == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "outside.h5"]


class TestNames:
    """Names from a file are text: they neither act nor lead anywhere."""

    ATTACK = "<img src=x onerror=alert(1)>"

    def test_in_the_report(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file[f"{self.ATTACK}/frames"] = VALUES
            file["truth"] = [self.ATTACK] * len(VALUES)
        text = open_patterns(path).describe()
        assert self.ATTACK in text
        output = nbformat.v4.new_output("stream", text=text)
        cell = nbformat.v4.new_code_cell("print(patterns.describe())", outputs=[output])
        notebook = path.with_name("01-inspect.ipynb")
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
        page = write_report([notebook], path.with_name("report.html"))
        html = page.read_text("utf-8")
        assert "&lt;img src=x onerror" in html
        assert self.ATTACK not in html

    def test_in_the_widgets(self) -> None:
        """The front end puts text into the page as text, and never as HTML."""
        folder = Path(helpers.__file__).parent / "widgets"
        scripts = sorted([*folder.glob("js/*.js"), *folder.glob("static/*.js")])
        assert len(scripts) > 5
        makes_html = re.compile(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser"
            r"|createContextualFragment|setHTMLUnsafe|\beval\b|new Function"
        )
        found = [
            (script.name, match[0])
            for script in scripts
            for match in makes_html.finditer(script.read_text("utf-8"))
        ]
        assert found == []

    def test_in_the_work_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "deep" / "work"
        path = tmp_path / "run.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("..").create_group("..")
            group["frames"] = VALUES
        patterns = open_patterns(path)
        assert patterns.layout.patterns == "/../../frames"
        measured = measure_patterns(patterns, lit_threshold=1)
        write_experiment(folder, patterns, measured, (2.0, 2.0))
        np.testing.assert_array_equal(open_experiment(folder).patterns[:], VALUES)
        found = {each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")}
        assert found == {
            *("run.h5", "deep", "deep/work"),
            *("deep/work/experiment.h5", "deep/work/experiment.json"),
        }


class TestValues:
    @pytest.mark.parametrize("shape", [(3, 5, 1), (1, 1, 1)])
    def test_as_small_as_can_be(self, shape: tuple[int, ...], path: Path) -> None:
        values = np.arange(np.prod(shape)).reshape(shape)
        patterns = open_patterns(write(path, values))
        np.testing.assert_array_equal(patterns[:], values)
        assert patterns.fingerprint
        assert patterns.describe()

    @pytest.mark.parametrize(("value", "dtype"), [(0, "f4"), (7, "i4"), (-3, "f8")])
    def test_constant(self, value: int, dtype: str, path: Path) -> None:
        patterns = open_patterns(write(path, np.full((3, *FRAME), value, dtype)))
        assert (patterns[:] == value).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_nothing_finite(self, value: float, path: Path) -> None:
        patterns = open_patterns(write(path, np.full((3, *FRAME), value)))
        assert patterns.unit == "unknown"
        assert not patterns[:].any()

    @pytest.mark.parametrize(
        ("value", "dtype", "clean"),
        [
            (1e38, "f4", np.float32(1e38)),
            (1e38, "f8", np.float32(1e38)),
            (1e300, "f8", 0),  # beyond float32: left out, like an infinite value
            (np.iinfo("i8").max, "i8", np.float32(2.0**63)),
            (np.iinfo("u8").max, "u8", np.float32(2.0**64)),
        ],
    )
    def test_huge(self, value: Any, dtype: str, clean: Any, path: Path) -> None:
        values = np.full((3, *FRAME), value, dtype)
        patterns = open_patterns(write(path, values))
        np.testing.assert_array_equal(patterns.read_raw(slice(None)), values)
        assert (patterns[:] == clean).all()
        assert patterns.describe()

    def test_most_pixels_bad(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["entry_1/data_1/data"] = VALUES
            file["entry_1/data_1/mask"] = np.eye(*FRAME) == 0
        with pytest.warns(UserWarning, match=r"leaves out 80% of the pixels.*== 0'"):
            open_patterns(path)


@pytest.mark.filterwarnings("ignore:.*of 40 patterns are there:UserWarning")
class TestUnfinished:
    """What is there is read, with a warning."""

    WAYS = pytest.mark.parametrize(
        "options",
        [
            {},
            {"chunks": (4, *FRAME), "libver": "latest"},
            {"chunks": (4, *FRAME), "libver": "latest", "compression": "gzip"},
        ],
        ids=["contiguous", "chunked", "compressed"],
    )

    @WAYS
    def test_cut_short(self, options: dict[str, Any], path: Path) -> None:
        content = write(path, **options).read_bytes()
        path.write_bytes(content[: len(content) * 9 // 10])
        with pytest.warns(UserWarning, match="is cut short: it has") as caught:
            patterns = open_patterns(path)
        assert any("of 40 patterns are there" in str(each.message) for each in caught)
        assert 10 < len(patterns) < 40
        np.testing.assert_array_equal(patterns[:], VALUES[: len(patterns)])
        assert "is cut short" in patterns.describe()
        patterns.close()

    @WAYS
    def test_cut_before_the_first_pattern(
        self, options: dict[str, Any], path: Path
    ) -> None:
        content = write(path, **options).read_bytes()
        for length in (9, 60, 200, 800):
            path.write_bytes(content[:length])
            problem = problems_of(path)
            assert "cut short" in problem or "Copy" in problem

    def test_mask_and_labels_behind_the_end(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["patterns"] = VALUES
            file["labels"] = np.ones(len(VALUES))
            file["mask"] = np.zeros(FRAME)
        path.write_bytes(path.read_bytes()[:4500])
        assert "/mask is not there as a whole" in problems_of(path)
        with pytest.warns(UserWarning, match="is cut short"):
            patterns = open_patterns(path, bad_pixels=np.zeros(FRAME, bool))
        assert len(patterns) > 10
        assert patterns.recorded_labels is None

    def test_program_that_ends_with_such_a_file_open(self, path: Path) -> None:
        path.write_bytes(write(path).read_bytes()[:4500])
        code = (
            "import sys; from helpers.patterns import open_patterns\n"
            f"patterns = open_patterns({str(path)!r}); print(patterns[0].sum())"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        assert float(ran.stdout) == VALUES[0].sum()

    @pytest.mark.parametrize("how", ["swmr", "plain"])
    def test_being_written(self, how: str, path: Path) -> None:
        with being_written(path, how):
            with pytest.warns(UserWarning, match="is being written by another program"):
                patterns = open_patterns(path)
            n = len(patterns)
            assert 3 <= n <= 7
            np.testing.assert_array_equal(patterns[:], VALUES[:n])
            patterns.close()
        assert len(open_patterns(path)) == 9


TEXTS = ["single", "other"] * 20
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_opening, "CPU_SECONDS", 0.5)


@pytest.fixture
def new_child(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without a child process, and leave none."""
    child = hdf5_opening._Child()
    monkeypatch.setattr(hdf5_opening, "_CHILD", child)
    yield
    child.stop()


def write_circle(path: Path, write_loose: Any) -> Path:
    """Write a file, and zeros where texts and lists lie in it: the library hangs."""
    write(path)
    with h5py.File(path, "a") as file:
        write_loose(file)
    content = path.read_bytes()
    heap = content.index(b"GCOL") + 16  # behind its head
    path.write_bytes(content[:heap] + bytes(64) + content[heap + 64 :])
    return path


def write_truth(file: h5py.File) -> None:
    file.create_dataset("truth", data=TEXTS, dtype=h5py.string_dtype())


def write_note(file: h5py.File) -> None:
    file["notes/of/the/run"] = "sample A"


def write_unit(file: h5py.File) -> None:
    file["patterns"].attrs["unit"] = "photons"


def write_virtual(file: h5py.File) -> None:
    file.move("patterns", "raw")
    layout = h5py.VirtualLayout(VALUES.shape, "f4")
    layout[:] = h5py.VirtualSource(".", "raw", VALUES.shape)
    file.create_virtual_dataset("patterns", layout)


def write_lists(file: h5py.File) -> None:
    del file["patterns"]
    file["num_pix"] = FRAME[0] * FRAME[1]
    for name in ("place_ones", "place_multi", "count_multi"):
        lists = file.create_dataset(name, (40,), h5py.vlen_dtype("i4"))
        lists[3] = np.arange(2)


@pytest.mark.usefixtures("impatient")
class TestEndlessLoopsAndCrashes:
    """What the HDF5 library itself does not survive is told by a child process."""

    @pytest.mark.parametrize(
        ("write_loose", "place", "options"),
        [
            (write_truth, "/truth", {}),
            (write_note, "/notes/of/the/run", {}),
            (write_unit, "/patterns", {}),
            (write_virtual, "/patterns", {}),
            (write_lists, "/count_multi", {"dataset": "5x4"}),
        ],
    )
    def test_endless_loop(
        self, write_loose: Any, place: str, options: dict[str, Any], path: Path
    ) -> None:
        problem = problems_of(write_circle(path, write_loose), **options)
        assert f"loops endlessly at {place}, and was stopped after 0.5 s" in (problem)
        assert "Expected a file that can be read from end to end" in problem
        assert "Copy it again" in problem

    def test_in_files_of_labels_and_masks_too(self, path: Path) -> None:
        write_circle(path, write_truth)
        with pytest.raises(PatternsFileError, match="loops endlessly at /truth"):
            open_hdf5(path)

    def test_one_of_several_files(self, tmp_path: Path) -> None:
        damaged = write_circle(tmp_path / "run2.h5", write_truth)
        files = [write(tmp_path / "run1.h5"), damaged, write(tmp_path / "run3.h5")]
        with pytest.raises(PatternsFileError, match="loops endlessly") as caught:
            open_patterns(files)
        assert caught.value.path == damaged

    def test_same_name_when_it_was_copied_again(self, path: Path) -> None:
        assert "loops endlessly" in problems_of(write_circle(path, write_truth))
        with open_patterns(write(path)) as patterns:
            assert len(patterns) == 40

    def test_of_very_many_groups_some_are_tried(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with h5py.File(path, "w") as file:
            for number in range(9):
                file.create_group(f"hit_{number}")
        monkeypatch.setattr(hdf5_opening, "OBJECTS_TRIED", 4)
        places: list[str] = []
        hdf5_opening.visit_everything(path, places.append)
        assert places == ["/", "/hit_0", "/hit_1", "/hit_2"]

    def test_what_lies_beside_damage_is_tried_too(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["a/damaged"] = file["a/whole"] = VALUES
            file["b"] = h5py.SoftLink("/nowhere")
            file.create_dataset("c", data=TEXTS, dtype=h5py.string_dtype())
        content = path.read_bytes()
        node = content.index(b"SNOD", content.index(b"SNOD") + 4)
        path.write_bytes(content[:node] + b"lost" + content[node + 4 :])
        places: list[str] = []
        hdf5_opening.visit_everything(path, places.append)
        assert places == ["/", "/a", "/b", "/c", "/c"]

    @POSIX
    @pytest.mark.usefixtures("new_child")
    @pytest.mark.parametrize(
        ("end", "said"),
        [
            ("os.kill(os.getpid(), signal.SIGSEGV)", "(SIGSEGV)"),
            ("os.abort()", "(SIGABRT)"),
            ("os._exit(3)", "(status 3)"),
        ],
    )
    def test_crash(
        self, end: str, said: str, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code = f"""
import json, os, resource, signal
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print("null", flush=True)
name, seconds = json.loads(input())
print(json.dumps("/truth"), flush=True)
{end}
"""
        monkeypatch.setattr(hdf5_opening, "COMMAND", [sys.executable, "-c", code])
        problem = problems_of(write(path))
        assert f"crashes the HDF5 library at /truth {said}. Expected a file" in problem
        monkeypatch.undo()
        with open_patterns(write(path.with_name("next.h5"))) as patterns:
            assert len(patterns) == 40

    @pytest.mark.usefixtures("new_child")
    @pytest.mark.parametrize(
        "command",
        [
            ["/no/python"],
            [sys.executable, "-c", ""],
            [sys.executable, "-c", "print('Welcome!'); input()"],
        ],
    )
    def test_without_a_second_process(
        self, command: list[str], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hdf5_opening, "COMMAND", command)
        for name in ("one.h5", "two.h5"):
            with open_patterns(write(path.with_name(name))) as patterns:
                assert len(patterns) == 40

    def test_child_process_imports_nothing_slow(self) -> None:
        code = "import sys, helpers.patterns; sys.exit('scipy' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)

    @POSIX
    def test_can_be_interrupted(self, path: Path) -> None:
        write_circle(path, write_truth)
        code = (
            "import sys\nfrom helpers.patterns import hdf5_opening\n"
            "from helpers.patterns import open_patterns\n"
            "hdf5_opening.CPU_SECONDS = 30\nprint('begins', flush=True)\n"
            "open_patterns(sys.argv[1])"
        )
        command = [sys.executable, "-c", code, str(path)]
        pipe = subprocess.PIPE
        with default_signals():
            process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
        assert "KeyboardInterrupt" in said
        assert process.returncode != 0

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_fork_has_its_own_second_process(self, path: Path) -> None:
        assert hdf5_opening.find_fatal_damage(write(path)) == ""
        damaged = write_circle(path.with_name("damaged.h5"), write_truth)
        with warnings.catch_warnings(action="ignore"):  # of threads, from Python 3.12
            fork = os.fork()
        if fork == 0:
            os._exit("loops endlessly" not in hdf5_opening.find_fatal_damage(damaged))
        assert os.waitpid(fork, 0)[1] == 0
        assert hdf5_opening.find_fatal_damage(write(path.with_name("whole.h5"))) == ""

    def test_where_cpu_time_has_no_limit(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        called: list[float] = []

        def later(seconds: float, exit: bool) -> None:
            assert exit
            called.append(seconds)

        monkeypatch.delattr(signal, "setitimer", raising=False)
        monkeypatch.setattr(faulthandler, "dump_traceback_later", later)
        hdf5_opening.end_unless_called_again(1)
        assert called == [300]


class TestFirstNotebook:
    @pytest.mark.parametrize(
        ("shape", "value", "said"),
        [
            ((5, 40, 40), 0, "every value is 0, in 5 patterns of /patterns"),
            pytest.param(
                *((1, 40, 40), 3, "1 pattern of 40 × 40 pixels"), marks=pytest.mark.slow
            ),
            pytest.param(
                *((5, 1, 40), 3, "all patterns are alike, pixel by pixel, in 5 pat"),
                marks=pytest.mark.slow,
            ),
        ],
    )
    def test_ends_with_what_little_there_is(
        self, shape: tuple[int, ...], value: int, said: str, tmp_path: Path
    ) -> None:
        path = write(tmp_path / "run.h5", np.full(shape, value, "i4"))
        work = tmp_path / "work"
        command = ["run", "--patterns", str(path), "--work-dir", str(work)]
        assert main([*command, "--only", "01"]) == 0
        assert said in (work / "reports" / "report.html").read_text("utf-8")


WRITER = """
import sys, h5py, numpy as np
path, how = sys.argv[1:]
values = np.random.default_rng(0).poisson(1, (40, 5, 4)).astype("f4")
with h5py.File(path, "w", libver="latest" if how == "swmr" else None) as file:
    patterns = file.create_dataset(
        "patterns", data=values[:3], maxshape=(None, 5, 4), chunks=(1, 5, 4)
    )
    file.flush()
    if how == "swmr":
        file.swmr_mode = True
        patterns.resize(7, 0)
        patterns[3:7] = values[3:7]
        patterns.flush()
    print("ready", flush=True)
    input()
    patterns.resize(9, 0)
    patterns[3:9] = values[3:9]
"""


@contextmanager
def being_written(path: Path, how: str) -> Iterator[None]:
    """Have another program write 3 or 7 patterns, and 9 when the block ends."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        yield
    finally:
        writer.communicate("go on\n", timeout=60)
