"""No-reference measures: values of the released code, named parameters, sizes that are refused, safe loading."""

import json
import pickle
import re

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from torchvision import models

from helpers import iqa
from helpers.datasets import sources
from helpers.degradations import blur_full
from helpers.downscalers.filters import resize
from helpers.images import quantize
from helpers.iqa import natural, trained
from helpers.weights import store

OURS = ["niqe", "niqe_small", "niqe_tiny"]


@pytest.fixture(autouse=True)
def no_files(monkeypatch, tmp_path):
    """An empty cache and no network, so that only the embedded parameters are here."""
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def astronaut():
    return sources.load("library", "astronaut_y000_x000", size=512)


def sample(name: str, astronaut: torch.Tensor) -> torch.Tensor:
    """The picture of a golden value: a whole photograph, or the astronaut resized by Pillow's bicubic filter."""
    if name == "chelsea":
        from skimage.data import chelsea

        return torch.from_numpy(chelsea()).permute(2, 0, 1)[None] / 255
    side = 512 if name == "astronaut" else int(name.split("_")[-1])
    return astronaut if side == 512 else resize(astronaut, (side, side))


# ---- values of the released MATLAB code


def test_features_and_scores_are_those_of_the_released_code(shared, astronaut):
    golden = json.loads((shared / "golden/classic/nriqa.json").read_text())
    niqe = natural.read_niqe(shared / "golden/classic/nriqa_models/niqe_pristine.npz")
    brisque = natural.read_brisque(shared / "golden/classic/nriqa_models/brisque_svr.npz")
    assert len(golden) == 9
    for name, expected in golden.items():
        images = sample(name, astronaut)
        assert np.abs(natural.brisque_features(images)[0] - expected["brisque_features"]).max() < 5e-13
        # the released program rounds features to six digits on the way
        assert abs(natural.brisque(images, brisque, minimum_side=8).item() - expected["brisque"]) < 1e-3
        if expected["niqe"] is None:
            with pytest.raises(ValueError, match="two blocks each way"):
                natural.niqe(images, niqe)
            continue
        features = natural.niqe_features(images)[0]
        assert len(features) == expected["niqe_blocks"]
        assert np.abs(features.mean(0) - expected["niqe_feature_mean"]).max() < 1e-9
        assert abs(natural.niqe(images, niqe).item() - expected["niqe"]) < 1e-9


def test_two_features_of_the_released_code(astronaut):
    assert natural.niqe_features(astronaut)[0].mean(0)[:2] == pytest.approx([1.94832, 0.6097608614709212], abs=1e-9)
    assert natural.brisque_features(astronaut)[0, :2] == pytest.approx([1.45, 0.20007274369388162], abs=1e-12)


def test_half_size_is_matlabs_for_even_sides_and_defined_for_odd_ones():
    x = torch.rand(2, 3, 20, 34, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = resize(x, (10, 17), "bicubic", convention="matlab", rounded=False)[:, 1].numpy()
    assert np.abs(natural._half(x[:, 1].numpy()) - expected).max() < 1e-14
    assert natural._half(np.ones((1, 7, 9))) == pytest.approx(np.ones((1, 4, 5)), abs=1e-14)


def test_the_shape_of_a_generalised_gaussian_is_found():
    rng = np.random.default_rng(0)
    left, right = 0.5 * np.abs(rng.laplace(size=40_000)), 2 * np.abs(rng.laplace(size=40_000))
    # both sides have the same density at 0, so the wider one has more mass
    sides = np.concatenate([-left[: 40_000 // 4], right])
    alpha, skew, low, high = natural._asymmetric(rng.permutation(sides)[None].reshape(1, 100, -1))
    assert alpha[0] == pytest.approx(1, abs=0.05) and skew[0] > 0
    assert (low[0], high[0]) == pytest.approx((0.5, 2), rel=0.05)


# ---- properties


@pytest.mark.parametrize("name", OURS)
def test_batches_do_not_matter_and_gradients_of_no_kind_come_out(name, astronaut):
    images = torch.cat([astronaut[..., :192, :192], astronaut[..., 128:320, 192:384]])
    together = iqa.IQA[name](images)
    assert together.shape == (2,) and together.dtype == torch.float64 and (together > 0).all()
    assert torch.equal(together, torch.cat([iqa.IQA[name](image[None]) for image in images]))


@pytest.mark.parametrize("name", OURS)
def test_more_blur_is_worse_on_a_photograph(name, astronaut):
    images = torch.cat([quantize(blur_full(astronaut, sigma)) for sigma in (0, 1, 2, 4)])
    assert (iqa.IQA[name](images).diff() > 0).all()


def test_batch_of_features_is_the_features_of_each(astronaut):
    images = torch.cat([astronaut[..., :100, :90], astronaut[..., 128:228, 192:282]])
    both = natural.brisque_features(images)
    assert both.shape == (2, 36)
    assert np.array_equal(both, np.concatenate([natural.brisque_features(image[None]) for image in images]))


def test_only_eight_bit_levels_are_looked_at(astronaut):
    crop = astronaut[..., :192, :192]
    assert torch.equal(natural.niqe(crop), natural.niqe((crop + 1e-4).clamp(0, 1)))


def test_a_flat_image_has_no_score():
    flat = torch.full((2, 3, 192, 192), 0.5)
    flat[1] = torch.rand(3, 192, 192, generator=torch.Generator().manual_seed(0))
    scores = natural.niqe(flat)
    assert scores[0].isnan() and scores[1].isfinite()
    assert np.isnan(natural.brisque_features(flat)[0]).any() and np.isfinite(natural.brisque_features(flat)[1]).all()


# ---- what is refused


@pytest.mark.parametrize("name", [*OURS, "brisque"])
def test_small_images_are_refused_with_the_reason(name):
    side = iqa.MINIMUM_SIDE[name]
    with pytest.raises(ValueError, match=rf"at least {side} pixels \(.+\), got \({side - 1}, 300\)"):
        iqa.IQA[name](torch.rand(1, 3, side - 1, 300))


@pytest.mark.parametrize("name", iqa.IQA)
@pytest.mark.parametrize(
    "images",
    [
        torch.rand(1, 1, 224, 224),
        torch.rand(3, 224, 224),
        torch.rand(1, 3, 224, 224) * 255,
        torch.full((1, 3, 224, 224), torch.nan),
        torch.randint(0, 255, (1, 3, 224, 224)),
    ],
    ids=["grey", "no batch", "0 to 255", "NaN", "integers"],
)
def test_bad_images_are_refused(name, images, monkeypatch):
    monkeypatch.setattr(trained, "find_spec", lambda name: True)
    with pytest.raises(ValueError, match="images: expected"):
        iqa.IQA[name](images)


# ---- which parameters


def test_every_name_has_a_direction_a_size_and_a_description_of_its_own():
    assert set(iqa.IQA) == set(iqa.LOWER_IS_BETTER) == set(iqa.MINIMUM_SIDE)
    assert not iqa.LOWER_IS_BETTER["maniqa"] and not iqa.LOWER_IS_BETTER["contrique"] and iqa.LOWER_IS_BETTER["niqe"]
    descriptions = [iqa.describe(name) for name in iqa.IQA]
    assert len(set(descriptions)) == len(iqa.IQA)
    assert "508 images" in iqa.describe("niqe") and "blocks of 96" in iqa.describe("niqe")
    assert "blocks of 32" in iqa.describe("niqe_small") and "official" in iqa.describe("niqe_official")
    for question in (iqa.available, iqa.describe):
        with pytest.raises(ValueError, match="expected a measure of niqe, .*, got 'niq'"):
            question("niq")


@pytest.mark.parametrize("name", ["niqe_official", "brisque", "brisque_opencv", "maniqa", "contrique"])
def test_what_is_not_here_is_said_and_never_replaced(name):
    reason = iqa.available(name)
    assert reason.startswith(f"{name}: ") and "is missing" in reason and "IDA_RD_WEIGHTS" in reason
    with pytest.raises(ValueError, match="is missing"):
        iqa.IQA[name](torch.rand(1, 3, 224, 224))


@pytest.mark.parametrize("name", OURS)
def test_ours_are_always_here(name):
    assert iqa.available(name) is None
    model = natural.niqe_model(name)
    assert model.mean.dtype == model.covariance.dtype == np.float64
    assert np.linalg.eigvalsh(model.covariance).min() > 0


def test_the_folder_of_the_user_brings_the_official_parameters(shared, monkeypatch, astronaut):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data/weights"))
    assert iqa.available("niqe_official") is None and iqa.available("brisque_opencv") is None
    assert iqa.available("brisque") and iqa.available("contrique")
    assert iqa.IQA["niqe_official"](astronaut).item() == pytest.approx(3.066637499629157, abs=1e-9)
    assert natural.niqe(astronaut).item() != pytest.approx(3.0666, abs=0.05)  # ours stays ours
    assert iqa.IQA["brisque_opencv"](astronaut).item() < iqa.IQA["brisque_opencv"](blur_full(astronaut, 2)).item()
    model = natural.brisque_model("brisque_opencv")
    assert model.vectors.shape == (774, 36) and model.rho == pytest.approx(-149.635, abs=1e-3)


def test_the_regressor_under_its_documented_name_is_used(shared, monkeypatch, tmp_path, astronaut):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "brisque_svr.npz").write_bytes((shared / "golden/classic/nriqa_models/brisque_svr.npz").read_bytes())
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(folder))
    assert iqa.available("brisque") is None
    assert iqa.IQA["brisque"](astronaut).item() == pytest.approx(2.8790, abs=1e-3)


def test_the_card_of_our_pristine_model_holds(shared):
    card = (store.EMBEDDED / "README.md").read_text().split("<!-- niqe -->")[1].split("<!-- /niqe -->")[0]
    stated = [[float(x) for x in re.findall(r"[-+]?[\d.]+", line)] for line in card.strip().splitlines()[2:]]
    official = natural.read_niqe(shared / "data/weights/niqe_pris_params.npz")
    crops = torch.cat([sources.load("library", name) for name in sources.names("library", 24)])
    for sigma, *numbers in stated:
        images = quantize(blur_full(crops, sigma))
        ours, theirs = natural.niqe(images).numpy(), natural.niqe(images, official).numpy()
        gap = ours - theirs
        measured = [ours.mean(), theirs.mean(), gap.mean(), gap.std(ddof=1), spearmanr(ours, theirs).statistic]
        assert measured == pytest.approx(numbers, abs=0.0051)
    assert [sigma for sigma, *_ in stated] == [0, 1, 2]


# ---- fitting


def test_a_pristine_model_is_fitted_to_the_sharp_blocks(astronaut):
    images = [astronaut, blur_full(astronaut, 0.3)[..., :480]]
    every, sharp = natural.fit_niqe(images, block=32, sharpness=0), natural.fit_niqe(images, block=32, sharpness=0.5)
    assert every.source == "fitted here, 2 images, 492 blocks of 32" and every.block == 32  # 4 are black
    features, deviation = natural._niqe_blocks(astronaut, 32)
    wanted = features[0][deviation[0] > 0.3 * deviation[0].max()]
    only = natural.fit_niqe([astronaut], block=32, sharpness=0.3)
    assert only.mean == pytest.approx(wanted.mean(0)) and only.covariance == pytest.approx(np.cov(wanted.T))
    assert len(wanted) < 256 and sharp.source != every.source
    assert natural.niqe(astronaut, only).item() < natural.niqe(blur_full(astronaut, 2), only).item()


@pytest.mark.parametrize("options", [{"block": 33}, {"block": 4}, {"sharpness": 1}, {"sharpness": -0.1}])
def test_impossible_fits_are_refused(options, astronaut):
    with pytest.raises(ValueError, match="expected an even block"):
        natural.fit_niqe([astronaut], **options)


def test_too_few_blocks_are_refused(astronaut):
    for images, n in (([], 0), ([astronaut], 1)):
        with pytest.raises(ValueError, match=f"at least 37 sharp blocks .* of {n} images"):
            natural.fit_niqe(images)


# ---- files


def test_regressors_from_text_files(tmp_path):
    model = "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv 2\nrho -7.5\nSV\n"
    model += "3 1:0.5 36:-1 \n-2 2:0.25 \n"
    ranges = "x\n-1 1\n" + "".join(f"{k} {k / 100} {k + 1}\n" for k in range(1, 37))
    arrays = natural.parse_libsvm(model, ranges)
    np.savez(tmp_path / "brisque_svr.npz", **arrays)
    found = natural.read_brisque(tmp_path / "brisque_svr.npz")
    assert found.vectors[0, [0, 1, 35]].tolist() == [0.5, 0, -1] and found.vectors[1, 1] == 0.25
    assert found.coefficients.tolist() == [3, -2] and (found.gamma, found.rho) == (0.05, -7.5)
    assert found.low[1] == 0.02 and found.high[35] == 37 and found.source == "brisque_svr.npz"
    middle = (found.low + found.high) / 2
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    x = (natural.brisque_features(images)[0] - middle) / (found.high - found.low) * 2
    expected = 3 * np.exp(-0.05 * ((x - found.vectors[0]) ** 2).sum()) + 7.5
    expected -= 2 * np.exp(-0.05 * ((x - found.vectors[1]) ** 2).sum())
    assert natural.brisque(images, found).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="epsilon_svr"):
        natural.parse_libsvm(model.replace("epsilon_svr", "c_svc"), ranges)
    with pytest.raises(ValueError, match="36 features"):
        natural.parse_libsvm(model, ranges.rsplit("\n", 2)[0])


@pytest.mark.parametrize("read", [natural.read_niqe, natural.read_brisque])
def test_other_arrays_are_refused(read, tmp_path):
    np.savez(tmp_path / "a.npz", sv=np.zeros((5, 18)), coef=np.zeros(5), mu=np.zeros(18), gamma=1.0, rho=0.0)
    with pytest.raises(ValueError, match=r"expected .*36.*got .*sv \(5, 18\)"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickled_ridge_gives_its_arrays(tmp_path, protocol):
    rng = np.random.default_rng(0)
    fitted = Ridge(alpha=0.1).fit(rng.normal(size=(9, 4096)).astype(np.float32), rng.normal(size=9))
    (tmp_path / "a.save").write_bytes(pickle.dumps(fitted, protocol=protocol))
    coefficients, intercept = trained.read_ridge(tmp_path / "a.save")
    assert coefficients.dtype == np.float64 and coefficients == pytest.approx(fitted.coef_)
    assert intercept == pytest.approx(fitted.intercept_)


class Runs:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("content", ["code", "eval", "another class", "text", "short"])
def test_a_pickle_with_anything_else_is_refused(tmp_path, content):
    trace = tmp_path / "trace"
    bad = {
        "code": Runs(exec, f"open({str(trace)!r}, 'w')"),
        "eval": Runs(eval, f"open({str(trace)!r}, 'w')"),
        "another class": store.Entry("a", (), "", None, ""),
        "text": "hello",
        "short": Ridge().fit(np.zeros((2, 3)), np.zeros(2)),
    }
    (tmp_path / "a.save").write_bytes(pickle.dumps(bad[content]))
    with pytest.raises(ValueError, match="expected a pickled Ridge|expected 4096 weights"):
        trained.read_ridge(tmp_path / "a.save")
    assert not trace.exists()


# ---- networks


@pytest.fixture
def contrique_files(monkeypatch, tmp_path):
    """A CONTRIQUE checkpoint of random numbers, with the keys of the real one, and a regressor."""
    folder = tmp_path / "weights"
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = torch.nn.Sequential(*list(models.resnet50(weights=None).children())[:-2])
    state = {f"encoder.{key}": value for key, value in trunk.state_dict().items()}
    torch.save(state | {"projector.0.weight": torch.zeros(3)}, folder / "CONTRIQUE_checkpoint25.tar")
    rng = np.random.default_rng(0)
    ridge = Ridge(alpha=0.1).fit(rng.normal(size=(9, 4096)), rng.normal(size=9))
    (folder / "CLIVE.save").write_bytes(pickle.dumps(ridge))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(folder))
    return trunk.eval(), ridge


def test_contrique_is_the_trunk_and_the_regression(contrique_files):
    trunk, ridge = contrique_files
    assert iqa.available("contrique") is None
    images = torch.rand(2, 3, 64, 70, generator=torch.Generator().manual_seed(2))
    scores = iqa.IQA["contrique"](images)
    assert scores.shape == (2,) and scores.dtype == torch.float64
    with torch.no_grad():
        pools = [trunk(x).mean((2, 3)) for x in (images, resize(images, (32, 35)))]
    features = torch.cat([pool / pool.norm(dim=1, keepdim=True) for pool in pools], 1)
    assert scores.numpy() == pytest.approx(ridge.predict(features.numpy()), abs=1e-5)
    with pytest.raises(ValueError, match="clive or koniq"):
        iqa.IQA["contrique"](images, regressor="live")
    with pytest.raises(ValueError, match="at least 2 pixels"):
        iqa.IQA["contrique"](images[..., :1, :])


def test_maniqa_says_what_to_install(monkeypatch):
    monkeypatch.setattr(trained, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[iqa\]'"):
        iqa.IQA["maniqa"](torch.rand(1, 3, 64, 64))
    assert "pyiqa is missing" in iqa.available("maniqa") and "ckpt_koniq10k.pt" in iqa.available("maniqa")
    monkeypatch.setattr(trained, "find_spec", lambda name: True)
    assert "pyiqa is missing" not in iqa.available("maniqa") and "ckpt_koniq10k.pt" in iqa.available("maniqa")
