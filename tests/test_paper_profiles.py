"""The paper's setting of each notebook fits the notebook, and what is missing for it is said."""

import ast

import papermill
import pytest
import yaml

from helpers import weights
from helpers.paper import profiles
from helpers.weights import store

PROFILES = sorted(path.stem for path in (profiles.NOTEBOOKS / "paper").glob("*.yaml"))


def test_every_numbered_notebook_after_the_quickstart_has_a_profile():
    numbered = {path.stem for path in profiles.NOTEBOOKS.glob("[0-9]*.ipynb")}
    assert set(PROFILES) == numbered - {"00_quickstart"}


@pytest.mark.parametrize("name", PROFILES)
def test_profile_names_parameters_of_its_notebook_and_says_where_values_come_from(name):
    profile = profiles.read_profile(name)
    assert profile.items() <= profiles.parameters(name).items()
    defaults = papermill.inspect_notebook(profiles.NOTEBOOKS / f"{name}.ipynb")
    kinds = {key: type(ast.literal_eval(defaults[key]["default"])) for key in profile}
    assert {key: type(value) for key, value in profile.items()} == kinds
    lines = (profiles.NOTEBOOKS / "paper" / f"{name}.yaml").read_text().splitlines()
    assert sum("#" in line for line in lines) >= len(profile) / 2


@pytest.fixture
def nothing_here(monkeypatch):
    monkeypatch.setattr(weights, "locate", lambda name: None)


def test_weights_and_folders_that_are_not_here_are_named_with_their_source(nothing_here):
    profile = {
        "upscalers": ["srflow_celeba_8x+srflow_df2k_4x", "embedded_flow"],
        "distortion": ["lpips", "mse"],
        "dataset": "../data/local/ffhq1024",
        "sets": {"cats": "../data/local/afhq_cat"},
        "n_images": 900,
    }
    lines = profiles.lacking(profile)
    assert len(lines) == 5
    assert "ffhq-features-dataset" in profiles.lacking({"features": "download"})[0]
    assert "BRISQUE" in " ".join(profiles.lacking({"measures": ["niqe", "brisque"]}))
    for part in ("SRFlow_CelebA_8X.pth", "SRFlow_DF2K_4X.pth", "alexnet", "ffhq-dataset", "stargan-v2"):
        assert any(part in line for line in lines), part


@pytest.mark.parametrize(
    "values, files",
    [
        ({"downscalers": ["bicubic", "irn_official"], "scale": 4}, ["IRN_x4.pth"]),
        ({"rescalers": ["irn_official", "hcd_official"], "scales": [2, 4]}, ["IRN_x2.pth", "IRN_x4.pth"]),
        ({"upscaler": "sain_official", "scale": 2}, ["SAINx2_JPEG.pth"]),
        ({"upscalers": ["tirn_official_x4", "bsrgan"], "scale": 2}, ["TIRNx4.pth", "BSRGANx2.pth"]),
        ({"rescaler": "hyperthumbnail_official"}, ["HyperThumbnail_4x_net_g_latest.pth"]),
        ({"downscalers": ["irn", "sain"], "scale": 2}, []),  # these come with the package
    ],
)
def test_official_files_of_rescalers_are_named_at_the_scale(nothing_here, values, files):
    assert [piece.name for piece in profiles.pieces(values)] == files


@pytest.mark.parametrize(
    "here, missing",
    [
        ((), ["pulse_synthesis", "pulse_gaussian_fit"]),
        (("pulse_synthesis",), ["pulse_gaussian_fit"]),
        (("pulse_mapping",), ["pulse_synthesis"]),  # the fit can be computed from it
        (("pulse_synthesis", "pulse_gaussian_fit"), []),
    ],
)
def test_official_files_of_pulse_are_named(monkeypatch, tmp_path, here, missing):
    for name in here:
        (tmp_path / weights.WEIGHTS[name].file).write_bytes(b"PK" + name.encode() * 100)
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "problem", lambda path, entry: None)
    for value in ("pulse", ["pulse(preset=pulse,loss=100*L2+0.05*GEOCROSS)", "embedded_flow"]):
        assert profiles.lacking({"upscalers": value}) == [weights.missing(name) for name in missing]
    assert profiles.lacking({"upscaler": "embedded_pulse(steps=100)"}) == []


def test_nothing_is_missing_for_what_is_embedded():
    assert profiles.lacking({"upscaler": "embedded_flow", "distortion": "1-ms_ssim", "dataset": "library"}) == []


def test_too_few_images_are_counted(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "local" / "ffhq"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"x")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(profiles, "NOTEBOOKS", tmp_path / "notebooks")
    assert "has 1 images, 900 are asked for" in profiles.lacking({"dataset": "../data/local/ffhq", "n_images": 900})[0]


def test_a_profile_that_does_not_fit_stops(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="expected a notebook with a profile .*got '99_no'"):
        profiles.read_profile("99_no")
    name = PROFILES[0]
    (tmp_path / "paper").mkdir()
    (tmp_path / f"{name}.ipynb").write_bytes((profiles.NOTEBOOKS / f"{name}.ipynb").read_bytes())
    monkeypatch.setattr(profiles, "NOTEBOOKS", tmp_path)
    for text, message in (("- a", "expected lines 'parameter: value'"), (yaml.dump({"n_imagse": 3}), "got n_imagse")):
        (tmp_path / "paper" / f"{name}.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            profiles.read_profile(name)


def test_a_wrong_file_put_by_hand_is_missing_and_says_why(tmp_path, monkeypatch):
    (tmp_path / "SRFlow_DF2K_4X.pth").write_bytes(b"")
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    (piece,) = profiles.pieces({"upscaler": "srflow_df2k_4x"})
    assert piece.name == "SRFlow_DF2K_4X.pth" and "got an empty file" in piece.missing
    assert profiles.pieces({"upscaler": "embedded_flow"}) == []


def test_a_folder_without_images_is_missing(tmp_path):
    (tmp_path / "00000").mkdir()
    for name, value in (("dataset", str(tmp_path)), ("sets", {"a": str(tmp_path)})):
        (why,) = profiles.lacking({name: value})
        assert "cannot be used" in why and "got 1 other entries" in why
