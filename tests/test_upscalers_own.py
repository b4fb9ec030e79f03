"""A reader's own upscaler and distortion in a run: rows, names, checks."""

import re
from dataclasses import replace

import pytest
import torch

from helpers import distortions, results
from helpers.images import quantize
from helpers.runs import methods, pairs
from helpers.runtime import seeded
from helpers.stats import rankings
from tests.fakes import experiment, fakes_fixture, images_fixture, noisy, run  # noqa: F401

UPSCALE = """import torch

def upscale(lr, generators):
    big = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return torch.cat([big + 0.1 * torch.randn(big.shape, generator=g) for g in generators])

def still(lr, generators):
    return lr.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(len(generators), -1, -1, -1)

def distance(sr, hr):
    return (sr - hr).abs().mean((1, 2, 3))
"""


def write(folder, text=UPSCALE):
    path = folder / "mine.py"
    path.write_text(text)
    return str(path)


def test_rows_are_those_of_the_same_function_of_ours(fakes, images, tmp_path):
    """The fake draws the same noise from the same generators."""
    own = experiment(images, upscaler=f"{write(tmp_path)}:upscale")
    ours, mine = run(experiment(images), tmp_path / "ours"), run(own, tmp_path / "mine")
    assert (ours.value == mine.value).all() and len(mine) == len(own.keys())
    (name,) = mine.upscaler.unique()
    assert re.fullmatch("upscale@[0-9a-f]{8}", name) and mine.heat.eq(1).all()
    assert mine.weights.nunique() == 1 and re.fullmatch("[0-9a-f]{12}", mine.weights[0])


def test_an_own_distortion_is_a_column_of_the_same_draws(fakes, images, tmp_path):
    own = experiment(images, distortion=["mse", f"{write(tmp_path)}:distance"])
    rows = run(own, tmp_path / "rows")
    (name,) = set(rows.distortion) - {"mse"}
    assert re.fullmatch("distance@[0-9a-f]{8}", name) and results.lower_is_better(name)
    one = own.images[0]
    row = rows[(rows.image == one) & (rows.downscaler == "box") & (rows.distortion == name)].sort_values("sample")
    hr, lr = pairs.pair(own, one, "box")
    sr = quantize(noisy(lr, [seeded(own.seed, one, q) for q in range(own.n_samples)]))
    assert row.value.tolist() == pytest.approx((sr - hr).abs().mean((1, 2, 3)).tolist())
    assert row.metric.str.fullmatch(f"{name}: a function of the reader's, [0-9a-f]{{12}}").all()
    assert len(rankings.per_image(rows[rows.distortion == name])["mean"])  # a direction is known


def test_edited_code_makes_new_rows(fakes, images, tmp_path):
    for changed in ("upscale", "distance"):
        path = write(tmp_path)
        how = {"upscaler": f"{path}:upscale"} if changed == "upscale" else {"distortion": f"{path}:distance"}
        one = experiment(images, images=["00"], **how)
        before = run(one, tmp_path / changed)
        assert len(run(one, tmp_path / changed)) == len(before)
        write(tmp_path, UPSCALE.replace("0.1 *", "0.2 *").replace("abs()", "square()"))
        after = run(one, tmp_path / changed)
        assert not set(before.checksum) & set(after.checksum) and not (before.value == after.value).any()
        assert len(results.read(tmp_path / changed)) == 2 * len(before)


def test_a_deterministic_one_is_drawn_once(fakes, images, tmp_path):
    one = experiment(images, upscaler=f"{write(tmp_path)}:still(stochastic=false)", heat=0, n_samples=3)
    rows = run(one, tmp_path / "rows")
    assert one.n_samples == 1 and set(rows["sample"]) == {0} and rows.heat.eq(0).all()
    with pytest.raises(ValueError, match="heat: expected 0.0 for .*still.stochastic=false.', it has no noise, got 1.0"):
        replace(one, heat=1.0)
    with pytest.raises(ValueError, match="heat: expected 1.0 for .*its noise is its own, got 0.5"):
        experiment(images, upscaler=f"{write(tmp_path)}:upscale", heat=0.5)
    with pytest.raises(ValueError, match="precision: expected float32 for .*, got 'bf16'"):
        replace(one, precision="bf16")


BAD = {
    "global": ("torch.rand(len(generators), *big.shape[1:])", "(two|one) SR images? of (two|one) generators?, got"),
    "same": ("big.expand(len(generators), -1, -1, -1)", "two SR images of two generators, got one twice; use them, or"),
    "place": (
        "torch.cat([big + 0.1 * (q + 1) * torch.randn(big.shape, generator=g) for q, g in enumerate(generators)])",
        "the same samples in a batch, got samples that differ by",
    ),
    "small": ("big[..., ::2].repeat(len(generators), 1, 1, 1)", "shape .*got"),
    "levels": (
        "255 * torch.cat([big + 0.01 * torch.randn(big.shape, generator=g) for g in generators])",
        "values in .0, 1., got .*divide 8-bit levels by 255",
    ),
    "numpy": ("big.numpy()", "expected a torch.Tensor, got ndarray"),
    "nan": (
        "torch.cat([big + torch.nan * torch.randn(big.shape, generator=g) for g in generators])",
        "finite values, got 768 that are not",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_upscaler_that_breaks_a_promise_is_refused_before_any_row(fakes, images, tmp_path, kind):
    body, message = BAD[kind]
    big = "lr.repeat_interleave(4, 2).repeat_interleave(4, 3)"
    text = f"import torch\n\ndef upscale(lr, generators):\n    big = {big}\n    return {body}\n"
    one = experiment(images, upscaler=f"{write(tmp_path, text)}:upscale")
    with pytest.raises(ValueError, match=message):
        run(one, tmp_path / "rows")
    assert len(results.read(tmp_path / "rows")) == 0


@pytest.mark.parametrize(
    "body, message",
    [
        ("-(sr - hr).abs().mean((1, 2, 3))", "less for a nearer image, got .* more is better"),
        ("torch.zeros(len(sr))", "a constant ranks nothing"),
        ("(sr - hr).abs().mean()", r"one value for each SR image, shape \(2,\), got \(\)"),
        ("(sr - hr).abs().mean((1, 2, 3)) / 0", "expected real numbers for finite images, got"),
        ("(sr - hr).abs().mean((1, 2, 3)) + (sr - sr.mean(0)).abs().mean()", "whatever stands beside it"),
        ("(sr - hr).abs().mean((1, 2, 3)) * (1 + next(calls))", "the same value at each call, got"),
    ],
)
def test_a_distortion_that_breaks_a_promise_is_refused_before_any_row(fakes, images, tmp_path, body, message):
    text = f"import itertools\nimport torch\n\ncalls = itertools.count()\n\ndef distance(sr, hr):\n    return {body}\n"
    one = experiment(images, distortion=f"{write(tmp_path, text)}:distance")
    with pytest.raises(ValueError, match=message):
        run(one, tmp_path / "rows")
    assert len(results.read(tmp_path / "rows")) == 0


def test_one_that_says_it_is_deterministic_and_is_not(fakes, images, tmp_path):
    one = experiment(images, upscaler=f"{write(tmp_path)}:upscale(stochastic=false)", heat=None)
    with pytest.raises(ValueError, match="expected one SR image whatever the generator is, got two"):
        run(one, tmp_path / "rows")


def test_what_cannot_be_loaded_is_said_of_an_upscaler_or_a_distortion(fakes, images, tmp_path):
    path = write(tmp_path, "def upscale(lr):\n    return lr\n")
    for name, message in (
        (
            f"{path}:upscale",
            r"upscaler '.*mine.py:upscale': expected a function of \(lr, generators\), got one of \(lr\)",
        ),
        (f"{path}:other", "upscaler .*expected a function 'other', found upscale"),
        (f"{tmp_path}/none.py:upscale", "upscaler .*expected a Python file, found none"),
    ):
        with pytest.raises(ValueError, match=message):
            run(experiment(images, upscaler=name), tmp_path / "rows")
    with pytest.raises(
        ValueError, match=r"distortion '.*:upscale': expected a function of \(sr, hr\), got one of \(lr\)"
    ):
        run(experiment(images, distortion=f"{path}:upscale"), tmp_path / "rows")


NEIGHBOUR = """import torch
import {neighbour} as neighbour

def upscale(lr, generators):
    big = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return torch.cat([big + neighbour.SPREAD * torch.randn(big.shape, generator=g) for g in generators])

def distance(sr, hr):
    return neighbour.SPREAD * (sr - hr).abs().mean((1, 2, 3))
"""
KINDS = [("upscaler", "upscale"), ("distortion", "distance")]


def beside(folder, spread, neighbour="utils"):
    """The same file beside a neighbour of another content."""
    folder.mkdir(exist_ok=True)
    (folder / f"{neighbour}.py").write_text(f"SPREAD = {spread}\n")
    return write(folder, NEIGHBOUR.format(neighbour=neighbour))


@pytest.mark.parametrize("field, function", KINDS)
def test_equal_files_with_other_neighbours_never_share_a_row(fakes, images, tmp_path, field, function):
    one, two = (f"{beside(tmp_path / name, spread)}:{function}" for name, spread in (("one", 0.1), ("two", 0.2)))
    ones, twos = (experiment(images, images=["00"], **{field: each}) for each in (one, two))
    assert ones.keys() == twos.keys()
    with pytest.raises(ValueError, match=f"{field} '{function}@.*expected one thing of this name in the rows"):
        run([ones, twos], tmp_path / "rows")
    first = run(ones, tmp_path / "rows")
    with pytest.warns(UserWarning, match="rows stale: 6 (weights|metric) changed"):
        second = run(twos, tmp_path / "rows")
    assert not (first.value == second.value).any()
    assert (second.value == run(twos, tmp_path / "alone").value).all()


@pytest.mark.parametrize("field, function", KINDS)
def test_a_pair_gives_an_own_method_another_name(fakes, images, tmp_path, field, function):
    one, two = (f"{beside(tmp_path / name, spread)}:{function}" for name, spread in (("one", 0.1), ("two", 0.2)))
    named = [("one", one), ("two", two)]
    if field == "distortion":
        with pytest.raises(ValueError, match="distortion: rows would call '.*one.*' and '.*two.*' both 'distance@.*"):
            experiment(images, distortion=["mse", one, two])
        rows = run(experiment(images, distortion=["mse", *named]), tmp_path / "rows")
    else:
        rows = run([experiment(images, upscaler=each) for each in named], tmp_path / "rows")
    parts = dict(list(rows.groupby(rows[field].str.partition("@")[0])))
    assert set(parts) - {"mse"} == {"one", "two"} and len(parts["one"]) == len(parts["two"])
    assert (parts["one"].value.to_numpy() < parts["two"].value.to_numpy()).all()
    assert all(results.lower_is_better(name) for name in rows.distortion)


@pytest.mark.parametrize("pair", [("my name", "{}:distance"), ("mine", "mse"), ("mine",), ("mine", "{}:distance", "x")])
def test_pairs_that_name_no_own_method(fakes, images, tmp_path, pair):
    pair = tuple(each.format(write(tmp_path)) for each in pair)
    for field in ("upscaler", "distortion"):
        with pytest.raises(ValueError, match=f"{field}: .*expected .*pair"):
            experiment(images, **{field: [pair] if field == "distortion" else pair})


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("field, function", KINDS)
def test_an_edited_neighbour_makes_the_rows_stale(fakes, images, tmp_path, field, function, lazily):
    """Also one that is imported in a call, or makes no difference to the test image."""
    path = beside(tmp_path / "mine", 0.1)
    if lazily:
        text = "def distance(sr, hr):\n    import utils\n    return utils.SPREAD * (sr - hr).abs().mean((1, 2, 3))\n"
        text += UPSCALE.partition("def still")[0].replace("big =", "import utils\n    big =")
        write(tmp_path / "mine", text.replace("0.1 *", "utils.SPREAD *"))
    one = experiment(images, images=["00"], **{field: f"{path}:{function}"})
    before = run(one, tmp_path / "rows")
    assert run(one, tmp_path / "rows").checksum.equals(before.checksum)
    beside_it = tmp_path / "mine" / "utils.py"
    beside_it.write_text("SPREAD = 0.2\n")
    with pytest.warns(UserWarning, match="rows stale: 6 (weights|metric) changed"):
        after = run(one, tmp_path / "rows")
    assert not (before.value == after.value).any() and set(before[field]) == set(after[field])
    beside_it.write_text("SPREAD = 0.1 + 0.1\n")
    with pytest.warns(UserWarning, match="rows stale: 6 (weights|metric) changed"):
        run(one, tmp_path / "rows")


@pytest.mark.parametrize("field, function", KINDS)
def test_a_replaced_checkpoint_makes_the_rows_stale(fakes, images, tmp_path, field, function):
    text = NEIGHBOUR.replace("import {neighbour} as neighbour", "from types import SimpleNamespace\nimport os")
    text += "\nneighbour = SimpleNamespace(SPREAD=torch.load(os.path.join(os.path.dirname(__file__), 'net.pt')))\n"
    one = experiment(images, images=["00"], **{field: f"{write(tmp_path, text)}:{function}"})
    torch.save(torch.tensor(0.1), tmp_path / "net.pt")
    before = run(one, tmp_path / "rows")
    assert run(one, tmp_path / "rows").checksum.equals(before.checksum)
    torch.save(torch.tensor(0.2), tmp_path / "net.pt")
    with pytest.warns(UserWarning, match="rows stale: 6 (weights|metric) changed"):
        after = run(one, tmp_path / "rows")
    assert not (before.value == after.value).any()
    torch.save(torch.tensor(0.1), tmp_path / "net.pt")
    with pytest.warns(UserWarning, match="rows stale"):
        assert (run(one, tmp_path / "rows").value == before.value).all()


def test_what_is_loaded_beside_it_changes_no_hash(fakes, images, tmp_path):
    """Neither another file of the folder, nor the folder's place, nor the order of runs."""
    path = beside(tmp_path / "mine", 0.1)
    one = experiment(images, images=["00"], upscaler=f"{path}:upscale")
    before = run(one, tmp_path / "rows")
    (tmp_path / "mine" / "other.py").write_text("import more\ndef other(hr, scale):\n    return hr[..., ::4, ::4]\n")
    (tmp_path / "mine" / "more.py").write_text("")
    both = replace(one, downscalers=["box", f"{tmp_path / 'mine' / 'other.py'}:other"])
    assert set(run(both, tmp_path / "rows").weights) == set(before.weights)
    (tmp_path / "mine").rename(tmp_path / "moved")
    moved = replace(one, upscaler=f"{tmp_path / 'moved' / 'mine.py'}:upscale")
    assert run(moved, tmp_path / "rows").checksum.equals(before.checksum)


def test_one_that_takes_no_test_image_is_known_by_its_code(fakes, images, tmp_path):
    text = UPSCALE.replace("    big =", "    assert lr.shape[2] == 4\n    big =", 1)
    one = experiment(images, images=["00"], upscaler=f"{write(tmp_path, text)}:upscale")
    before = run(one, tmp_path / "rows")
    assert run(one, tmp_path / "rows").checksum.equals(before.checksum)


def test_ours_pass_through(fakes, images):
    hr = torch.rand(1, 3, 16, 16)
    assert methods.against("mse", hr)(hr).item() == 0 and methods.describe("mse") == distortions.describe("mse")
    assert methods.is_search("embedded_pulse") and not methods.is_search("mine.py:upscale")


def test_a_first_image_that_cannot_be_read_costs_nothing_but_itself(fakes, images, tmp_path):
    (tmp_path / "images" / "00.png").write_bytes(b"no picture")
    own = experiment(images, upscaler=f"{write(tmp_path)}:upscale")
    rows = run(own, tmp_path / "rows")
    assert set(rows.image) == {*own.images} - {"00"}


KEEPING = """
first = {}

def kept(lr, generators):
    return upscale(first.setdefault(lr.shape, lr), generators)

def down(hr, scale):
    return first.setdefault(hr.shape, hr)[..., ::scale, ::scale]
"""


def test_methods_that_keep_something_of_the_first_image_are_said_of(fakes, images, tmp_path):
    path = write(tmp_path, UPSCALE + KEEPING)
    with pytest.warns(UserWarning) as said:
        one = experiment(images, downscalers=["box", ("mine", f"{path}:down")], upscaler=f"{path}:kept")
        run(one, tmp_path / "rows")
    texts = " ".join(str(each.message) for each in said)
    assert re.search("upscaler '.*:kept': expected another SR image of another LR image, got the same; it does", texts)
    assert "downscaler 'mine': expected another LR image of another HR image, got one for 00, 01, 02, 03; it" in texts
    assert "'box'" not in texts
