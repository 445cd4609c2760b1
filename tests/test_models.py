"""The networks, what they are given, and the files they are kept in."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from helpers.classifier import (
    NETWORKS,
    ArticleNetwork,
    Calibration,
    TrainedModel,
    check_model_fits,
    load_model,
    make_images,
    make_network,
    restore_network,
    save_model,
)
from helpers.classifier.calibration import logit_of
from helpers.classifier.kernel_head import KernelHead
from helpers.classifier.trained_model import describe_patterns
from helpers.errors import ModelError, ParameterError
from helpers.patterns import Patterns, open_patterns
from helpers.ranking import scale_to_255


@pytest.fixture
def patterns(tmp_path: Path) -> Patterns:
    values = np.random.default_rng(0).poisson(3.0, (5, 36, 34)).astype(np.float32)
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["patterns"] = values
    return open_patterns(tmp_path / "run.h5")


@pytest.fixture(params=["article", "invariant"])
def trained(request: pytest.FixtureRequest, patterns: Patterns) -> TrainedModel:
    """Either network with calibration and threshold; the weights are random."""
    told = {"image_size": 32, "channels": 1, "centre": (17.5, 16.5)}
    network = make_network(request.param, patterns, **told)
    keras_model = network.build()
    rng = np.random.default_rng(0)
    if isinstance(keras_model, KernelHead):
        landmarks = rng.normal(0, 0.1, (5, keras_model.n_features))
        kernel = keras_model.choices[-1]
        keras_model.set_fit(kernel, landmarks, rng.normal(size=5))
    else:
        for weights in keras_model.trainable_weights:
            weights.assign(rng.normal(0, 0.1, weights.shape))
    metadata = describe_patterns(patterns) | {"metrics": {}, "history": {}}
    return TrainedModel(
        network, keras_model, Calibration(0.7, -0.2, 0.5), 0.4, metadata
    )


# --- images ---------------------------------------------------------------------------


def test_scaling_is_the_articles():
    pattern = np.array([[[-3, 0], [2, 4]], [[-1, -2], [0, 0]]], np.float32)
    expected = [[[0, 0], [127.5, 255]], [[0, 0], [0, 0]]]
    assert np.array_equal(scale_to_255(pattern), expected)


def test_scaling_leaves_its_input_alone_and_forgets_the_pulse_energy():
    patterns = np.random.default_rng(0).normal(1, 2, (3, 8, 8)).astype(np.float32)
    before = patterns.copy()
    assert scale_to_255(7 * patterns) == pytest.approx(scale_to_255(patterns), rel=1e-6)
    assert np.array_equal(patterns, before)


def test_images_of_half_the_size_are_local_means():
    patterns = np.zeros((1, 64, 64), np.float32)
    patterns[0, 16:48, 16:48] = 9
    image = make_images(patterns, 32)[0, ..., 0]
    assert image.shape == (32, 32)
    assert image[16, 16] == 255
    assert image[0, 0] == 0
    # antialiased: what a pixel loses its neighbours get
    assert image.sum() == pytest.approx(255 * 32 * 32 / 4, rel=1e-3)


def test_three_channels_are_copies():
    patterns = np.random.default_rng(0).random((2, 40, 50), dtype=np.float32)
    images = make_images(patterns, 48, channels=3)
    assert images.shape == (2, 48, 48, 3)
    assert images.dtype == np.float32
    assert np.array_equal(images[..., [0]], make_images(patterns, 48))
    assert np.array_equal(images[..., 2], images[..., 0])


# --- the article's network ------------------------------------------------------------


def test_the_articles_network_layer_by_layer():
    model = ArticleNetwork(256, channels=3).build()
    convolutions = [
        (layer.filters, layer.kernel_size, layer.padding)
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert model.input_shape == (None, 256, 256, 3)
    assert convolutions == [(n, (3, 3), "valid") for n in (32, 32, 64, 64)]
    assert [
        type(layer).__name__ for layer in model.layers if "random" not in layer.name
    ] == [
        *("Rescaling", "Conv2D", "Dropout", "MaxPooling2D"),
        *("Conv2D", "MaxPooling2D", "Conv2D", "MaxPooling2D"),
        *("ZeroPadding2D", "Conv2D", "Dropout", "MaxPooling2D"),
        *("Flatten", "Dense", "Dropout", "Dense"),
    ]
    assert [layer.units for layer in model.layers if hasattr(layer, "units")] == [64, 1]
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 987_297
    assert isinstance(model.optimizer, keras.optimizers.RMSprop)
    assert model.loss == "binary_crossentropy"


def test_images_change_at_random_in_training_only():
    model = ArticleNetwork(32).build()
    image = np.random.default_rng(0).random((1, 32, 32, 1), dtype=np.float32) * 255
    augmentation = [layer for layer in model.layers if "random" in layer.name]
    assert len(augmentation) == 5
    for layer in augmentation:
        changed = [np.asarray(layer(image, training=True)) for _ in range(4)]
        assert any(not np.array_equal(c, image) for c in changed)
        assert np.array_equal(layer(image, training=False), image)


def test_same_seed_same_weights():
    first, again, other = (ArticleNetwork(32).build(seed) for seed in (1, 1, 2))
    equal = [
        np.array_equal(a, b)
        for a, b in zip(first.get_weights(), again.get_weights(), strict=True)
    ]
    assert all(equal)
    assert not np.array_equal(first.layers[-1].kernel, other.layers[-1].kernel)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("yolo", {}, "model is 'yolo'; expected one of article, invariant"),
        ("article", {"size": 64}, "no network has a parameter size; expected centre, "),
        ("article", {"image_size": 16}, "image_size=16"),
        ("article", {"channels": 2}, "channels=2"),
    ],
)
def test_impossible_networks_are_refused(patterns, name, parameters, message):
    with pytest.raises(ParameterError, match=message):
        make_network(name, patterns, **parameters)


def test_settings_that_are_not_those_of_a_network_are_refused():
    with pytest.raises(
        ParameterError, match="are shape; expected bad_pixels, centre, "
    ):
        restore_network("invariant", {"shape": [40, 40]})


def test_every_network_is_known_by_its_own_name():
    assert all(name == network.name for name, network in NETWORKS.items())


# --- calibration ----------------------------------------------------------------------


def test_logit_is_finite_at_the_ends_and_right_between():
    raw = np.array([0, 0.5, 0.75, 1], np.float32)
    logit = logit_of(raw)
    assert np.isfinite(logit).all()
    assert logit[1:3] == pytest.approx([0, np.log(3)])


def test_no_calibration_leaves_probabilities_alone():
    raw = np.linspace(0.01, 0.99, 9, dtype=np.float32)
    assert Calibration().apply(raw) == pytest.approx(raw, abs=1e-6)


def test_the_curve_bends_where_the_probability_is_one_half():
    curve = Calibration(slope=2, offset=-1, below=0.25)
    logit = np.array([-3.5, -0.5, 0.5, 1.5])
    assert curve.calibrated_logit(logit) == pytest.approx([-2, -0.5, 0, 2])
    raw = expit(logit).astype(np.float32)
    assert curve.apply(raw) == pytest.approx(expit([-2, -0.5, 0, 2]), abs=1e-6)


# --- files ----------------------------------------------------------------------------


def test_a_saved_model_gives_the_same_numbers(trained, patterns, tmp_path):
    save_model(trained, tmp_path / "work")
    again = load_model(tmp_path / "work")
    assert again.network == trained.network
    assert again.calibration == trained.calibration
    assert again.threshold == trained.threshold
    assert np.array_equal(
        again.predict_uncalibrated(patterns[:]),
        trained.predict_uncalibrated(patterns[:]),
    )


def test_a_calibration_without_a_bend_is_a_straight_line(trained, tmp_path):
    save_model(trained, tmp_path)
    metadata = json.loads((tmp_path / "model.json").read_text())
    assert metadata["calibration"] == {"slope": 0.7, "offset": -0.2, "below": 0.5}
    del metadata["calibration"]["below"]  # as older versions wrote it
    (tmp_path / "model.json").write_text(json.dumps(metadata))
    assert load_model(tmp_path).calibration == Calibration(0.7, -0.2)


def test_the_weights_alone_fit_a_new_network(trained, tmp_path):
    save_model(trained, tmp_path)
    model = trained.network.build(9)
    model.load_weights(tmp_path / "model.weights.h5")
    assert np.array_equal(
        model.layers[-1].kernel, trained.keras_model.layers[-1].kernel
    )


def break_model(work_dir: Path, how: str) -> None:
    metadata = json.loads((work_dir / "model.json").read_text())
    match how:
        case "no json":
            (work_dir / "model.json").unlink()
        case "json cut short":
            (work_dir / "model.json").write_text('{"model": ')
        case "json lacks threshold":
            del metadata["threshold"]
        case "other classes":
            metadata["classes"] = ["cat", "dog"]
        case "unknown network":
            metadata["model"] = "yolo"
        case "no keras file":
            (work_dir / "model.keras").unlink()
        case "keras file changed":
            with (work_dir / "model.keras").open("r+b") as file:
                file.write(b"?")
    if how in {"json lacks threshold", "other classes", "unknown network"}:
        (work_dir / "model.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no json", r"model.json is not there.*Run 05-train"),
        ("json cut short", r"model.json cannot be read"),
        ("json lacks threshold", r"model.json is not what.*lacks threshold"),
        ("other classes", r"classes cat, dog; expected not_single, single"),
        ("unknown network", r"model.json .*model is 'yolo'"),
        ("no keras file", r"model.keras is no file, but model.json is"),
        ("keras file changed", r"model.keras is not the file that model.json"),
    ],
)
def test_a_broken_model_is_refused(trained, tmp_path, how, message):
    save_model(trained, tmp_path)
    break_model(tmp_path, how)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


def test_a_model_with_other_inputs_is_refused(trained, tmp_path):
    other = keras.Sequential([keras.Input((7,)), keras.layers.Dense(1)])
    save_model(replace(trained, keras_model=other), tmp_path)
    with pytest.raises(ModelError, match=r"inputs of shape \(7,\); the network now"):
        load_model(tmp_path)


def test_code_in_a_model_file_is_not_run(tmp_path):
    code = keras.Sequential(
        [keras.Input((32, 32, 1)), keras.layers.Lambda(lambda x: x)]
    )
    network = ArticleNetwork(32)
    save_model(TrainedModel(network, code, Calibration(), 0.5, {}), tmp_path)
    with pytest.raises(ModelError, match=r"may run code .*: keras.layers.Lambda"):
        load_model(tmp_path)


def test_a_model_fits_other_runs_of_the_same_detector_only(trained, patterns, tmp_path):
    check_model_fits(trained, patterns)
    bad = np.zeros(patterns.shape[1:], bool)
    bad[3, 4] = True
    with pytest.raises(ModelError, match=r"run.h5: 1 bad pixels, which are not those"):
        check_model_fits(trained, patterns.with_bad_pixels(bad))
    with h5py.File(tmp_path / "small.h5", "w") as file:
        file["patterns"] = np.ones((4, 20, 20), np.float32)
    with pytest.raises(ModelError, match=r"shape \[20, 20\].*trained on \[36, 34\]"):
        check_model_fits(trained, open_patterns(tmp_path / "small.h5"))


def test_the_image_decoder_and_the_network_see_the_same_pattern(patterns, tmp_path):
    image = np.rint(scale_to_255(patterns[:1])[0]).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "0.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "0.png")), image)


# --- start-up -------------------------------------------------------------------------


def test_importing_the_rooms_imports_no_keras():
    modules = run_python("import sys, helpers.classifier; print(*sys.modules)").split()
    assert not {"keras", "tensorflow", "sklearn", "matplotlib.pyplot"} & set(modules)


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    ).stdout


TWO_DEVICES = """
import numpy as np
import tensorflow as tf
from helpers.classifier import Schedule, network_base
from helpers.classifier.networks import ArticleNetwork

cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
network_base.list_gpus = lambda: ["/device:CPU:0", "/device:CPU:1"]

rng = np.random.default_rng(0)
single = np.arange(33) % 2 == 0
images = rng.uniform(0, 255, (33, 32, 32, 1)).astype("f4")
images[single] /= 2
part = images, single
article = ArticleNetwork(32)
model = article.build(3)
before = model.get_weights()
parts = {"training": part, "validation": part}
fitted = article.fit(model, parts, images[:0], Schedule(2, 8, 3))
assert fitted.how["devices"] == 2, fitted.how
assert np.isfinite(fitted.history["loss"]).all()
after = model.get_weights()
assert all(np.isfinite(each).all() for each in after)
assert any((a != b).any() for a, b in zip(before, after))
expected = network_base.KerasOutputs(model)(images)
packed = network_base.KerasOutputs(model).__reduce__()
for number in (0, 1):
    network_base.number_of_worker = lambda: number
    make, given = packed
    there = make(*given)
    devices = {each.value.device[-5:] for each in there._keras_model.weights}
    assert devices == {f"CPU:{number}"}, devices
    np.testing.assert_array_equal(there(images), expected)
"""


@pytest.mark.slow
def test_several_devices_share_training_and_workers_take_turns_with_them() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
