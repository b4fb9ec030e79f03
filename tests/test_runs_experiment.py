"""Experiments name what can be computed, refuse what cannot, and name their rows."""

import pickle
from dataclasses import replace

import pytest

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
