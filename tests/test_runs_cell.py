"""Rows of one image: the LR image, the draws and the distortion that they come from; searches; own downscalers."""

import re
import time
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers import degradations, distortions, generators, results, transmission
from helpers.downscalers import DOWNSCALERS, filters
from helpers.images import quantize
from helpers.measure import score_image
from helpers.runs import cell, driver, pairs
from helpers.runs.experiment import row_name
from helpers.runtime import seeded
from helpers.upscalers import pulse, pulse_losses, registry
from tests.fakes import experiment, fakes_fixture, images_fixture, noisy, published, run, write_images  # noqa: F401
from tests.test_upscalers_registry import embed_small_generator


def test_rows_are_what_score_image_says(fakes, images, tmp_path):
    rows = run(experiment(images, seed=7, heat=0.5), tmp_path / "rows")
    assert len(rows) == 4 * 2 * 3 and (rows.dataset == "images").all() and (rows.heat == 0.5).all()
    hr = pairs.datasets.load(images, "02")
    ours = rows[(rows.image == "02") & (rows.downscaler == "box")]
    values = score_image(
        hr,
        lambda x: torch.nn.functional.avg_pool2d(x, 4),
        lambda lr, g: noisy(lr, g, 0.5),
        distortions.DISTORTIONS["mse"],
        n_samples=3,
        key=(7, "02"),
    )
    assert ours.value.tolist() == pytest.approx(values.tolist(), abs=1e-4)  # Pillow's box rounds
    assert set(ours.height) == {16} and set(ours.metric) == {distortions.describe("mse")}
    bits = rows.groupby(["image", "downscaler"]).lr_bits.first()
    assert bits["00", "box"] == transmission.file_bits(pairs.pair(experiment(images), "00", "box")[1])
    assert (rows.seconds > 0).all() and set(rows.version) == {results.VERSION} and set(rows.device) == {"cpu"}


def test_rows_are_computed_by_one_thread(fakes, images, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(cell, "score_lr", lambda *args, **how: seen.append(torch.get_num_threads()) or 1 / 0)
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="all failed"):
            run(experiment(images), tmp_path / "rows")
        assert torch.get_num_threads() == 2 and set(seen) == {1}
    finally:
        torch.set_num_threads(1)


def test_a_rescaler_makes_its_lr_image_once_for_all_damages(images, monkeypatch):
    one, calls = experiment(images, downscalers=["irn", "box"], upscaler="bicubic", n_samples=1), []
    check = pairs.check_downscaler
    monkeypatch.setattr(pairs, "check_downscaler", lambda *args, **how: calls.append(args[1]) or check(*args, **how))
    monkeypatch.setattr(pairs, "_made", {})
    hr = pairs.load(one, "00")
    damages = [("", None), ("noise", 0.1), ("blur", 1.0), ("", None)]
    found = {name: [pairs.lr_of(one, "00", hr, name, *each) for each in damages] for name in one.downscalers}
    assert calls == ["irn", *["box"] * 4]
    for name, (whole, noisier, blurred, again) in found.items():
        assert torch.equal(whole, again) and not torch.equal(whole, noisier) and not torch.equal(whole, blurred), name
    other = pairs.lr_of(one, "01", pairs.load(one, "01"), "irn", "", None)
    before = pairs.lr_of(replace(one, where="before"), "00", hr, "irn", "noise", 0.1)
    assert calls[5:] == ["irn", "irn"] and not torch.equal(other, before)
    for number in range(pairs.REMEMBERED):
        pairs.lr_of(one, "00", (hr + number / 255).clamp(0, 1), "irn", "", None)
    assert len(pairs._made) == pairs.REMEMBERED


def test_degradation_comes_after_or_before_with_one_noise_for_all_levels(fakes, images, tmp_path, monkeypatch):
    seen = []

    def spy(image, level, generator):
        seen.append((image.shape[-1], level, generator.initial_seed()))
        return (image + level * torch.randn(image.shape, generator=generator)).clamp(0, 1)

    monkeypatch.setitem(degradations.DEGRADATIONS, "noise", spy)
    levels = [("", None), ("noise", 0.1), ("noise", 0.2)]
    after = run(experiment(images, degradations=levels), tmp_path / "rows")
    before = run(experiment(images, degradations=levels, where="before"), tmp_path / "rows")
    assert {side for side, *_ in seen[: len(seen) // 2]} == {4} and {side for side, *_ in seen[len(seen) // 2 :]} == {
        16
    }
    assert len({seed for *_, seed in seen}) == 4 and {level for _, level, _ in seen} == {
        0.1,
        0.2,
    }  # one an image
    means = after.groupby(["degradation", "level", "where"], dropna=False).value.mean()
    assert means["", :, ""].item() < means["noise", 0.1, "after"] < means["noise", 0.2, "after"]
    assert set(before["where"]) == {"", "before"}
    same = (after.degradation == "").tolist(), (before.degradation == "").tolist()
    assert after.value[same[0]].tolist() == before.value[same[1]].tolist()
    assert (after.value[~after.degradation.eq("")].values != before.value[~before.degradation.eq("")].values).all()


def test_hr_is_read_once_and_its_features_are_computed_once(fakes, images, tmp_path, monkeypatch):
    counts = {"load": 0, "against": 0}

    def count(module, name):
        function = getattr(module, name)

        def counted(*args, **options):
            counts[name] += 1
            return function(*args, **options)

        monkeypatch.setattr(module, name, counted)

    count(pairs.datasets, "load")
    count(distortions, "against")
    run(experiment(images, downscalers=["box", "nearest", "bicubic", "lanczos"]), tmp_path / "rows")
    assert counts == {"load": 4, "against": 4 + 1}  # and once for nothing but its weights


def test_a_metric_is_taken_in_its_lower_is_better_form(fakes, images, tmp_path):
    rows = run(experiment(images, distortion="ssim"), tmp_path / "rows")
    assert set(rows.distortion) == {"1-ssim"} and rows.value.between(0, 2).all()


def test_edited_code_makes_new_rows(fakes, images, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text("def mine(hr, scale):\n    return hr[..., ::scale, ::scale]\n")
    one = experiment(images, downscalers=["box", f"{code}:mine"])
    first = run(one, tmp_path / "rows")
    code.write_text("def mine(hr, scale):\n    return hr[..., 1::scale, 1::scale]\n")
    second = run(one, tmp_path / "rows")
    names = [next(name for name in rows.downscaler if name.startswith("mine@")) for rows in (first, second)]
    assert names[0] != names[1]
    values = [rows[rows.downscaler == name].value.tolist() for rows, name in zip((first, second), names, strict=True)]
    assert values[0] != values[1]
    named = run(experiment(images, downscalers=[("ours", f"{code}:mine")]), tmp_path / "rows")
    assert named.value.tolist() == values[1] and set(named.downscaler) == {"ours"}


def test_b30_b33_bad_callables_are_named_and_luck_is_remarked(fakes, images, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text(
        "import torch\n"
        "def small(hr, scale):\n    return hr[..., ::8, ::8]\n"
        "def fair(hr, scale):\n    return hr[..., ::scale, ::scale]\n"
        "def lucky(hr, scale):\n    return torch.rand_like(hr[..., ::scale, ::scale])\n"
    )
    with (
        pytest.raises(RuntimeError, match=r"downscaler 'small@\w{8}', image '0\d': expected shape"),
        pytest.warns(UserWarning, match="could not be looked at: .*expected a finite LR image of floats"),
    ):
        run(experiment(images, downscalers=[f"{code}:small"]), tmp_path / "rows")
    with pytest.warns(UserWarning) as said:
        run(experiment(images, downscalers=[f"{code}:lucky", f"{code}:fair"]), tmp_path / "rows")
    lucky = row_name(f"{code}:lucky")
    assert [
        str(remark.message).partition(": two calls differ on ")[::2] for remark in said if "calls" in str(remark)
    ] == [(f"downscaler {lucky!r} is not deterministic", image) for image in ("00", "01")]
    assert str(said[0].message).startswith(f"downscaler {lucky!r}: the LR image hardly follows the HR image")


def test_clipping_is_said_in_one_line_for_each_downscaler(fakes, images, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text(
        "def fair(hr, scale):\n    return hr[..., ::scale, ::scale]\n"
        "def some(hr, scale):\n    lr = fair(hr, scale).clone()\n    lr[0, 0, 0, :int(hr.mean() * 8)] = 1.5\n"
        "    return lr\n"
        "def much(hr, scale):\n    lr = fair(hr, scale).clone()\n    lr[0, 0, 0] = -hr.mean()\n    return lr\n"
    )
    own = [(name, f"{code}:{name}") for name in ("fair", "some", "much")]
    levels = [("", None), ("noise", 0.1)]
    one = experiment(images, downscalers=[*own, "bicubic_float"], degradations=levels)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        rows = run(one, tmp_path / "rows")
    shares = (
        rows[rows.clipped > 0.01].groupby(["downscaler", "image"]).clipped.max().drop("bicubic_float", errors="ignore")
    )
    texts = [str(each.message) for each in said if "of the values outside" in str(each.message)]
    for text, name in zip(texts, ("some", "much"), strict=True):
        own = shares[name]
        assert text.startswith(f"downscaler '{name}', image '{own.idxmax()}': expected values in [0, 1]")
        assert f"got {own.max():.1%} of the values outside" in text
        assert text.endswith(f"(so on {len(own)} images; this one is the worst)") and len(own) > 1


def test_b25_folder_of_lr_images_pairs_by_stem_or_stops_with_the_stems(fakes, images, tmp_path):
    lr = tmp_path / "lr"
    lr.mkdir()
    for path in Path(images).glob("*.png"):
        Image.open(path).resize((4, 4), Image.Resampling.BOX).save(lr / path.name)
    rows = run(experiment(images, downscalers=["box", f"folder: {lr}"]), tmp_path / "rows")
    assert rows[rows.downscaler == "box"].value.tolist() == rows[rows.downscaler != "box"].value.tolist()
    run(experiment(images, images=["01"], downscalers=[f"folder: {lr}"], seed=1), tmp_path / "rows")  # a part of X
    (lr / "02.png").rename(lr / "2.png")
    with pytest.raises(ValueError, match="no file for '02'"):
        run(experiment(images, downscalers=[f"folder: {lr}"], seed=2), tmp_path / "rows")


def test_several_distortions_are_rows_of_the_same_draws(fakes, images, tmp_path):
    one = run(experiment(images, distortion="mse"), tmp_path / "one")
    names = ["mse", "psnr", "mse_of_mean", "1-ssim", "lr_mse", "consistency_mse"]
    both = experiment(images, distortion=names)
    assert len(both.keys()) == 5 * len(one)  # psnr is mse
    rows = run(both, tmp_path / "rows")
    assert rows[rows.distortion == "mse"].value.tolist() == one.value.tolist()
    assert set(rows.distortion) == {"mse", "mse_of_mean", "1-ssim", "lr_mse", "consistency_mse"}
    assert rows.groupby("distortion").metric.nunique().eq(1).all() and rows.metric.nunique() == 5
    first = rows[rows["sample"] == 0].pivot(index=["image", "downscaler"], columns="distortion", values="value")
    assert first.mse_of_mean.tolist() == pytest.approx(first.mse.tolist())


def test_pair_and_draw_are_what_the_rows_saw(fakes, tmp_path, monkeypatch):
    """An odd LR side too: nobody crops to 2 s."""
    folder = write_images(tmp_path / "images", 1, side=22)
    seen = []

    def spy(lr, generators):
        seen.append(lr)
        return noisy(lr, generators)

    monkeypatch.setitem(registry.UPSCALERS, "spy", registry.Upscaler(lambda *, scale, heat, device: spy))
    levels = [("", None), ("noise", 0.1)]
    for where in ("after", "before"):
        one = experiment(folder, upscaler="spy", degradations=levels, where=where)
        seen.clear()
        rows = run(one, tmp_path / where)
        for lr, (name, damage) in zip(list(seen), product(one.downscalers, levels), strict=True):
            hr, ours = pairs.pair(one, "00", name, *damage)
            assert hr.shape == (1, 3, 20, 20) and torch.equal(ours, lr)
            of_cell = (rows.downscaler == name) & (rows.degradation == damage[0])
            assert (rows[of_cell].height == 20).all()
            values = distortions.DISTORTIONS["mse"](cell.draw(one, "00", name, *damage), hr)
            assert rows[of_cell].value.tolist() == values.tolist()
    assert pairs.pair(one, "00", "dpid")[1].shape == (1, 3, 5, 5)  # none of the experiment's


# ---- searches: residual and converged of each sample


@pytest.fixture(name="faces")
def faces_fixture(fakes, monkeypatch):
    """The embedded generator is a small one of 16x16 images."""
    yield embed_small_generator(monkeypatch, fakes)
    generators.networks.cache_clear()


def searched(folder, **other):
    settings = {"upscaler": "embedded_pulse(steps=3, eps=0.02)", "downscalers": ["bicubic_float", "nearest"]}
    return experiment(folder, **settings | {"n_samples": 5} | other)


def answer(images, image, name, n_samples, f_ds=None, lr=None, eps=0.02):
    """What the search says of one image when it is called by hand."""
    hr = pairs.datasets.load(images, image)
    lr = quantize(DOWNSCALERS[name](hr, 4)) if lr is None else lr
    keys = [seeded(0, image, q) for q in range(n_samples)]
    return pulse.search(lr, generators.embedded_generator(), keys, steps=3, eps=eps, f_ds=f_ds)


def of_cell(rows, image, name):
    return rows[(rows.image == image) & (rows.downscaler == name)].sort_values("sample")


def agrees(rows, expected):
    """Whether residuals are those of the samples, to rounding, and `converged` to the letter."""
    same = rows.residual.tolist() == pytest.approx(expected.residual.tolist(), rel=1e-3)
    return same and rows.converged.tolist() == expected.converged.double().tolist()


def test_rows_of_a_search_say_how_well_each_sample_agrees(faces, images, tmp_path):
    one = searched(images)
    assert one.upscaler == "embedded_pulse(eps=0.02,steps=3)"
    rows = run(one, tmp_path / "rows")
    assert len(rows) == 4 * 2 * 5 and set(rows.upscaler) == {one.upscaler} and rows.heat.eq(1).all()
    for image in one.images:
        for name in one.downscalers:
            assert agrees(of_cell(rows, image, name), answer(images, image, name, 5))
    assert rows.residual.nunique() > 30 and set(rows.converged) == {0.0, 1.0}
    stored = results.read(tmp_path / "rows")
    assert stored.residual.tolist() == rows.residual.tolist()
    assert (stored.converged == (stored.residual <= 0.02)).all()
    assert driver.plan(one, tmp_path / "rows").missing == []
    plain = run(experiment(images, upscaler="bicubic", heat=0.0), tmp_path / "plain")
    assert plain.residual.isna().all() and plain.converged.isna().all()


def test_every_distortion_of_a_sample_has_its_residual(faces, images, tmp_path):
    rows = run(searched(images, distortion=["mse", "mse_of_mean"], images=["00"]), tmp_path / "rows")
    for _, both in rows.groupby(["downscaler", "sample"]):
        assert len(both) == 2 and both.residual.nunique() == both.converged.nunique() == 1
    assert rows.groupby("downscaler").residual.nunique().tolist() == [5, 5]


def test_residuals_stay_with_their_samples_where_memory_runs_out(faces, images, tmp_path, monkeypatch):
    sizes, search = [], pulse.search

    def hungry(lr, network, generators, **options):
        sizes.append(len(generators))
        if len(sizes) == 3:  # when two samples are already there
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return search(lr, network, generators, **options)

    monkeypatch.setattr(pulse, "search", hungry)
    rows = run(searched(images, images=["01"]), tmp_path / "rows")
    assert sizes == [1] * (3 + 5 + 5)  # the cell is tried again after the other
    monkeypatch.setattr(pulse, "search", search)
    for name in ("bicubic_float", "nearest"):
        assert agrees(of_cell(rows, "01", name), answer(images, "01", name, 5))


def test_a_row_of_a_search_depends_on_its_key_alone(faces, images, tmp_path, monkeypatch):
    search = pulse.search

    def touchy(lr, network, generators, **options):
        """A search in which rounding has grown until everybody can see it."""
        found = search(lr, network, generators, **options)
        return found._replace(sr=found.sr / len(generators), residual=found.residual + len(generators))

    monkeypatch.setattr(pulse, "search", touchy)
    three, five = searched(images, n_samples=3), searched(images, n_samples=5)
    run(five, tmp_path / "fresh", batch=5)
    first = run(three, tmp_path / "resumed", batch=2)
    rows = run(five, tmp_path / "resumed", batch=8)
    assert published(tmp_path / "resumed") == published(tmp_path / "fresh")
    assert rows[rows["sample"] < 3].value.tolist() == first.value.tolist()
    hr = pairs.load(five, "01")
    values = distortions.DISTORTIONS["mse"](cell.draw(five, "01", "nearest"), hr)
    assert of_cell(rows, "01", "nearest").value.tolist() == values.tolist()


def test_a_stopped_search_goes_on_to_the_same_bytes(faces, images, tmp_path, monkeypatch):
    one, calls, search = searched(images), [], pulse.search
    run(one, tmp_path / "whole")

    def stopped(*args, **options):
        calls.append(1)
        if len(calls) == 26:
            raise KeyboardInterrupt
        return search(*args, **options)

    monkeypatch.setattr(pulse, "search", stopped)
    with pytest.raises(KeyboardInterrupt, match="2 of 4 images done"):
        run(one, tmp_path / "rows")
    local = tmp_path / "rows" / "local.csv"
    local.write_bytes(local.read_bytes()[:-20])  # and its last line is torn
    assert len(results.read(tmp_path / "rows")) == 19
    run(one, tmp_path / "rows")
    assert published(tmp_path / "rows") == published(tmp_path / "whole")
    more = run(replace(one, n_samples=6), tmp_path / "rows")
    assert agrees(of_cell(more, "03", "nearest"), answer(images, "03", "nearest", 6))


def test_a_broken_sample_is_a_nan_draw_that_did_not_converge(faces, images, tmp_path, monkeypatch):
    draw_starts, second = pulse.draw_starts, {seeded(0, image, 1).initial_seed() for image in ("00", "01", "02", "03")}

    def broken_start(*args, **options):
        latents, noise = draw_starts(*args, **options)
        if args[1][0].initial_seed() in second:
            latents[0] = torch.nan
        return latents, noise

    monkeypatch.setattr(pulse, "draw_starts", broken_start)
    other = "embedded_pulse(f_ds=true,steps=3,eps=0.02)"
    for upscaler in ("embedded_pulse(steps=3,eps=0.02)", other):
        rows = run(searched(images, upscaler=upscaler, downscalers=["bicubic_float"]), tmp_path / "rows")
        lost = rows["sample"] == 1
        assert rows.value.isna().tolist() == rows.residual.isna().tolist() == lost.tolist()
        assert (rows.converged[lost] == 0).all() and rows.converged.notna().all()


def test_the_search_looks_through_the_downscaler_and_what_follows_it(faces, images, tmp_path):
    levels = [("", None), ("noise", 0.1)]
    options = {"images": ["00"], "downscalers": ["bicubic_float"], "degradations": levels}

    def by_hand(hr, scale):
        lr = filters.bicubic_float(hr, scale)
        lr = quantize(lr.detach()) + (lr - lr.detach())
        noises = [seeded(0, "00", "degradation") for _ in hr]
        lr = degradations.noise(lr, 0.1, noises)
        return quantize(lr.detach()) + (lr - lr.detach())

    lr = quantize(by_hand(pairs.datasets.load(images, "00"), 4))
    found = {}
    for f_ds in ("bicubic", "true", "straight-through"):
        name = f"embedded_pulse(f_ds={f_ds},steps=3,eps=0)"
        rows = run(searched(images, upscaler=name, **options), tmp_path / "rows")
        found[f_ds] = rows[rows.degradation == "noise"].sort_values("sample")
    inside = {"bicubic": None, "true": by_hand, "straight-through": pulse_losses.straight_through(by_hand)}
    for f_ds, rows in found.items():
        assert agrees(rows, answer(images, "00", "bicubic_float", 5, inside[f_ds], lr, eps=0.0)), f_ds
    assert len({tuple(each.value) for each in found.values()}) == 3


BACKWARD = """
import torch
from settings import GAIN, LIFT
from helpers.downscalers.filters import bicubic_float


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hr):
        ctx.shape = hr.shape
        with torch.no_grad():
            return bicubic_float(hr, 4) + (hr.std() > 0.28) * LIFT  # noise, no picture of the data set

    @staticmethod
    def backward(ctx, slope):
        return torch.nn.functional.interpolate(slope, ctx.shape[2:]) * GAIN


def mine(hr, scale):
    return Own.apply(hr).clamp(0, 1)
"""


@pytest.mark.parametrize("f_ds, edit", [("true", "GAIN"), ("true", "LIFT"), ("straight-through", "LIFT")])
def test_rows_of_a_search_know_what_it_sees_through_a_users_downscaler(faces, images, tmp_path, f_ds, edit):
    """A backward pass, or values at other images than the photograph, that the LR image does not show."""
    for path in Path(images).glob("*.png"):
        Image.open(path).resize((4, 4)).resize((16, 16), Image.Resampling.BICUBIC).save(path)  # no noise
    (tmp_path / "mine.py").write_text(BACKWARD)
    (tmp_path / "settings.py").write_text("GAIN = 1.0\nLIFT = 0.0\n")
    own = ("mine", f"{tmp_path / 'mine.py'}:mine")
    few = {"images": ["00"], "n_samples": 2}
    one = searched(images, downscalers=["bicubic_float", own], upscaler=f"embedded_pulse(f_ds={f_ds},steps=3)", **few)
    plain, rows_dir = replace(one, upscaler="embedded_pulse(steps=3)"), tmp_path / "rows"
    first, blind = run(one, rows_dir), run(plain, rows_dir)
    assert driver.plan([one, plain], rows_dir).summary == "all 8 rows are there"
    assert first.lr[first.downscaler == "mine"].str.fullmatch(r"[0-9a-f]{12}/[0-9a-f]{12}").all()
    assert not first.lr[first.downscaler != "mine"].str.contains("/").any() and not blind.lr.str.contains("/").any()
    (tmp_path / "settings.py").write_text(
        {"GAIN": "GAIN = 1.5\nLIFT = 0.0\n", "LIFT": "GAIN = 1.0\nLIFT = 0.1\n"}[edit]
    )
    stale = "2 rows stale: 2 LR images or gradients inside the search changed (mine on 1 images)"
    assert stale in driver.plan([one, plain], rows_dir).summary
    with pytest.warns(UserWarning, match=re.escape(stale)):
        again = run(one, rows_dir)
    assert published(rows_dir) and run(plain, rows_dir).equals(blind)
    fresh = run(one, tmp_path / "fresh")
    assert again.value.tolist() == fresh.value.tolist() and again.lr.tolist() == fresh.lr.tolist()
    if edit == "GAIN":
        assert again.value.tolist() != first.value.tolist()
    assert run(one, rows_dir).equals(again)


def test_rows_of_a_search_from_before_the_second_hash_are_computed_anew(faces, images, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from helpers.downscalers.filters import bicubic_float as f\ndef mine(*a):\n    return f(*a)\n"
    )
    own = ("mine", f"{tmp_path / 'mine.py'}:mine")
    one = searched(images, downscalers=[own], upscaler="embedded_pulse(f_ds=true,steps=1)", images=["00"])
    rows = run(one, tmp_path / "rows")
    older = rows.assign(lr=rows.lr.str.partition("/")[0]).drop(columns="checksum")
    results.append(older.to_dict("records"), tmp_path / "old")
    assert "5 rows stale: 5 LR images or gradients inside" in driver.plan(one, tmp_path / "old").summary
    assert len(run(one, tmp_path / "old", trust=["mine"])) == 5
    assert driver.plan(one, tmp_path / "rows", trust=["mine"]).summary == "all 5 rows are there"


def test_a_downscaler_without_a_gradient_is_named(faces, images, tmp_path):
    one = searched(images, upscaler="embedded_pulse(f_ds=true)", downscalers=["box"])
    with pytest.raises(ValueError, match="f_ds, box: .* zero everywhere, .*straight-through"):
        run(one, tmp_path / "rows", strict=True)
    after = replace(one, downscalers=["bicubic_float"], degradations=[("otsu", 5)])
    with pytest.raises(ValueError, match="f_ds, bicubic_float otsu: .* without gradient"):
        run(after, tmp_path / "rows", strict=True)
    lr = tmp_path / "lr"
    lr.mkdir()
    for path in Path(images).glob("*.png"):
        Image.open(path).resize((4, 4), Image.Resampling.BOX).save(lr / path.name)
    folder = replace(one, downscalers=[("mine", f"folder: {lr}")])
    with pytest.raises(ValueError, match="downscaler 'mine': expected one that can be called on samples, got LR files"):
        run(folder, tmp_path / "rows", strict=True)
    assert len(run(replace(folder, upscaler="embedded_pulse(steps=1)"), tmp_path / "rows")) == 20


def test_images_of_another_size_are_refused_with_the_right_one(faces, images, tmp_path):
    for path in Path(images).glob("*.png"):
        Image.open(path).resize((24, 24)).save(path)
    with pytest.raises(RuntimeError, match="expected HR images of 16x16 pixels, what the generator draws, got 24x24"):
        run(searched(images), tmp_path / "rows")


def test_names_of_many_images_are_held_against_the_data_set_in_one_pass(fakes, tmp_path, monkeypatch):
    names = [f"{number:05d}" for number in range(20_000)]
    monkeypatch.setattr(pairs.datasets, "names", lambda *_, **__: names)
    start = time.process_time()
    assert cell.facts(experiment(tmp_path, images=names))["device"] == "cpu"
    assert time.process_time() - start < 2  # a set for each of them: 6 s and more
