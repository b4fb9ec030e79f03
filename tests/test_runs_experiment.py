"""Experiments name what can be computed, refuse what cannot, and name their rows."""

import math
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.runs import Experiment
from tests.fakes import experiment, fakes_fixture, images_fixture  # noqa: F401


@pytest.mark.parametrize(
    "bad, named",
    [
        ({"n_samples": 0}, "n_samples: expected an integer >= 1, got 0"),
        ({"scale": 4.0}, "scale"),
        ({"seed": -1}, "seed"),
        ({"seed": 0.0}, "seed"),
        ({"upscaler": "srgan"}, "upscaler: expected one of .*bicubic"),
        ({"distortion": "lpis"}, "distortion: .*lpips"),
        ({"degradations": [("blurr", 1.0)]}, "degradation: expected one of blur"),
        ({"degradations": [("blur", None)]}, "level of 'blur': expected a number"),
        ({"where": "during"}, "where: expected one of after, before"),
        ({"downscalers": []}, "downscalers: expected at least one"),
        ({"downscalers": "bicubic"}, "downscalers: expected at least one, in a list"),
        ({"images": ["00", "00"]}, "images: expected each once, got more of 00"),
        ({"downscalers": ["box", ("box", "bicubic")]}, "downscalers: expected each once, got more of box"),
    ],
)
def test_b41_b42_experiments_that_cannot_be(fakes, images, bad, named):
    with pytest.raises(ValueError, match=named):
        experiment(images, **bad)


def test_every_problem_of_an_experiment_is_in_one_message(fakes, images):
    with pytest.raises(ValueError, match="upscaler: .*n_samples: .*seed: "):
        experiment(images, upscaler="x", n_samples=-1, seed=2**63)


def test_a_task_is_small_plain_values(fakes, images):
    one = experiment(images, images=[f"{i:05d}" for i in range(900)])
    assert len(pickle.dumps(replace(one, images=["00001"]))) < 1000


def test_datasets_and_sizes_have_their_own_names_in_the_rows(fakes, tmp_path):
    one = Experiment("library", ["chelsea_y000_x000"], ["box"], 4, "fake", distortion="mse", size=64)
    named = one, replace(one, dataset=("ours", "library")), replace(one, dataset="some/ffhq900.csv")
    assert [each.keys()[0][0] for each in named] == ["library64", "ours", "ffhq900"]


WRONG = {
    "a function": lambda hr, scale: hr,
    "a number": 7.5,
    "None": None,
    "a dict": {"box": "nearest"},
    "a set": {"box"},
    "bytes": b"box",
    "a NumPy number": np.float32(0.5),
    "True": True,
    "a tensor": torch.zeros(2),
    "a nested list": [[["box"]]],
    "nothing": [],
    "a blank": " ",
}
TAKEN = {  # what looks wrong, but is what the field takes
    "heat": ("a number", "None", "a NumPy number"),
}


@pytest.mark.parametrize("field", [field.name for field in fields(Experiment)])
@pytest.mark.parametrize("kind", WRONG)
def test_a_field_of_the_wrong_kind_is_named_with_its_value_and_what_it_takes(fakes, images, field, kind):
    value = WRONG[kind]
    if kind in TAKEN.get(field, ()):
        assert isinstance(getattr(experiment(images, **{field: value}), field), float)
        return
    with pytest.raises(ValueError) as error:
        experiment(images, **{field: value})
    said = str(error.value)
    shown = " ".join(repr(value).split())
    assert said.startswith(f"experiment: {field}: expected ") and shown in said and said.count("expected") == 1


def test_every_field_of_the_wrong_kind_is_in_one_message_in_their_order(fakes, images):
    wrong = {field.name: object() for field in fields(Experiment)}
    with pytest.raises(ValueError) as error:
        Experiment(**wrong)
    said = [part.split(": expected")[0] for part in str(error.value).removeprefix("experiment: ").split("; ")]
    assert said == list(wrong)


def test_a_list_names_the_entry_kinds_it_takes(fakes, images):
    for field, value in (
        ("images", ["00", 1]),
        ("images", [Path("00.png")]),
        ("downscalers", ["box", lambda hr, scale: hr]),
        ("downscalers", [("mine", "box", "nearest")]),
        ("downscalers", [("", "box")]),
        ("degradations", ["blur"]),
        ("degradations", ("blur", 1.0)),
        ("degradations", [("blur", "1")]),
        ("degradations", [("blur", True)]),
        ("degradations", [("noise", math.nan)]),
        ("distortion", ["mse", None]),
        ("dataset", ("ours", "library", "x")),
    ):
        with pytest.raises(
            ValueError, match=f"experiment: {field}: expected .*in a list|experiment: dataset: expected"
        ):
            experiment(images, **{field: value})


def test_paths_and_numbers_of_numpy_become_plain(fakes, images, tmp_path):
    (tmp_path / "mine.py").write_text("def mine(hr, scale):\n    return hr[..., ::scale, ::scale]\n")
    spec = tmp_path / "mine.py:mine"
    plain = {
        "dataset": images, "downscalers": ["box", str(spec)], "scale": 4, "n_samples": 3, "seed": 0, "heat": 0.1,
        "size": 256, "degradations": [("noise", 0.1)], "images": ["00", "01"], "distortion": ["mse"],
    }  # fmt: skip
    whole = {"scale": np.int64(4), "n_samples": np.int32(3), "seed": np.uint8(0), "size": np.int16(256)}
    given = whole | {
        "dataset": Path(images), "downscalers": np.array(["box", str(spec)]), "heat": np.float32(0.1),
        "degradations": [["noise", np.float64(0.1)]], "images": np.array(["00", "01"]), "distortion": ("mse",),
    }  # fmt: skip
    one, plain = experiment(images, **given), experiment(images, **plain)
    assert one == plain and one.keys() == plain.keys()
    for field in fields(Experiment):
        value = getattr(one, field.name)
        assert type(value) in (str, int, float, list), field.name
        assert all(type(each) in (str, tuple) for each in value) if isinstance(value, list) else True
    pairs = experiment(images, dataset=["ours", Path(images)], downscalers=[("mine", spec)])
    assert pairs.specs == {"mine": str(spec)} and (pairs.dataset_name, pairs.source) == ("ours", images)


@pytest.mark.parametrize("heat", ["nan", "inf", "-1", -1, math.nan, math.inf, "1e400", "", "1.0+nan", "-0.1+1", "1+"])
def test_heats_are_finite_and_at_least_0(fakes, images, heat):
    name = "embedded_flow_x2+embedded_flow_x2" if "+" in str(heat) else "fake"
    with pytest.raises(ValueError, match="experiment: heat: expected .*, got "):
        experiment(images, upscaler=name, heat=heat)


def test_what_is_deterministic_is_drawn_once(fakes, images):
    """One row a cell with heat 0, whoever asks for five, of a network, of the flow, and of a cascade of both."""
    for upscaler, heat in (
        ("bsrgan", 0.0),
        ("real_esrgan_x4", None),
        ("embedded_flow", 0),
        ("bicubic_x2+bsrgan_x2", "0+0"),
    ):
        one = experiment(images, upscaler=upscaler, heat=heat, n_samples=5)
        assert one.n_samples == 1 and len(one.keys()) == len(one.images) * len(one.downscalers) * len(one.metrics)
    for upscaler, heat in (("embedded_flow", 0.1), ("bicubic_x2+embedded_flow_x2", "0+1")):
        assert experiment(images, upscaler=upscaler, heat=heat, n_samples=5).n_samples == 5
