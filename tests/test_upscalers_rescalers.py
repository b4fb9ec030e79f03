"""A rescaler's own decoder as an upscaler: the private distortion in ordinary rows, and a reader's own pair."""

import pytest
import torch

from helpers import files, results, runs, upscalers
from helpers.images import quantize
from helpers.networks.hyperthumbnail import HyperThumbnail
from helpers.rescalers import irn, registry
from helpers.runs import pairs
from helpers.runtime import seeded
from helpers.upscalers import UPSCALERS
from tests.fakes import experiment, run, write_images
from tests.pictures import waves
from tests.rescaling import fill
from tests.test_rescalers_irn import embedded, small
from tests.test_rescalers_sain import small as small_sain

HYPER = {"width": 4, "depth": 1, "features": 4, "blocks": 1, "hidden": 4}


@pytest.fixture(name="here")
def here_fixture(tmp_path, monkeypatch):
    """Small networks under the names of the embedded ones."""
    networks = {"irn_x4": small("irn_x4"), "irn_x2": small(), "dlv_style_x4": small("irn_x4", 0.1, extra=1)}
    networks |= {"tirn_x2": small("tirn_x2"), "sain_x2": small_sain()}
    networks["hyperthumbnail_x4"] = fill(HyperThumbnail(**HYPER)).eval()
    embedded(monkeypatch, tmp_path, **networks)
    registry.made.cache_clear()
    yield tmp_path
    registry.made.cache_clear()


def test_every_rescaler_is_an_upscaler_that_knows_its_downscaler():
    for name, record in registry.RESCALERS.items():
        own = UPSCALERS[name]
        assert not own.blind and (own.files, own.scales) == (record.files, record.scales)
        assert own.stochastic == ("heat" in record.options)
    assert [UPSCALERS[name].usual for name in ("irn", "hcd", "sain", "irn_official")] == [0, 0, 1, 1]


def test_private_rows_are_those_of_the_pair(here, tmp_path):
    folder = write_images(tmp_path / "images", 2, side=32)
    one = experiment(folder, downscalers=["bicubic", "irn"], upscaler="irn", distortion="mse", n_samples=3, heat=None)
    rows = run(one, tmp_path / "rows")
    assert one.heat == 0 and one.n_samples == 1 and rows.upscaler.eq("irn").all() and len(rows) == 4
    assert set(rows.weights) == {files.sha256_of(here / "irn_x4.safetensors")[:12]}
    downscale, upscale = irn.pair(small("irn_x4"))
    for row in rows[rows.downscaler == "irn"].itertuples():
        hr = pairs.load(one, row.image)
        sr = quantize(upscale(downscale(hr), seeded(0)))
        assert row.value == pytest.approx((sr - hr).square().mean().item(), rel=1e-5)
    assert len(run(one, tmp_path / "rows")) == 4  # and none is computed twice


def test_the_default_heat_of_an_experiment_is_the_upscaler_s_own(here, tmp_path):
    for name, scale, heat in (("irn", 4, 0.0), ("sain", 2, 1.0), ("hyperthumbnail", 4, 0.0), ("embedded_flow", 4, 1.0)):
        made = runs.Experiment(
            dataset=str(tmp_path), images=["a"], downscalers=["bicubic"], scale=scale, upscaler=name, n_samples=3
        )
        assert (made.heat, made.n_samples) == (heat, 3 if heat else 1)


def test_draws_follow_their_generators_where_a_latent_is_drawn(here):
    lr = quantize(waves(1, 16, 16))
    for name, scale, heat in (
        ("irn", 4, 0.5),
        ("dlv_style", 4, 0.5),
        ("tirn", 2, 0.5),
        ("hcd", 2, 1.0),
        ("sain", 2, 1),
    ):
        upscale = upscalers.build(name, scale=scale, heat=heat)
        one, two = (upscale(lr, [seeded(q)]) for q in (0, 1))
        assert one.shape == (1, 3, 16 * scale, 16 * scale) and not torch.equal(one, two)
        assert torch.equal(upscale(lr, [seeded(0)]), one)
        still = upscalers.build(name, scale=scale, heat=0.0)(lr, [seeded(0), seeded(1)])
        torch.testing.assert_close(*still, rtol=0, atol=1e-6)
    thumbnail = upscalers.build("hyperthumbnail", scale=4)
    assert torch.equal(*thumbnail(lr, [seeded(0), seeded(1)]))
    with pytest.raises(ValueError, match="hyperthumbnail: expected heat 0.0, there are no latents, got 1.0"):
        upscalers.build("hyperthumbnail", scale=4, heat=1.0)


@pytest.mark.parametrize("what", ["downscalers", "upscaler"])
def test_a_name_without_a_checkpoint_is_one_error_before_any_row(what, tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.weights.store.EMBEDDED", tmp_path)
    registry.made.cache_clear()
    folder = write_images(tmp_path / "images", 2, side=32)
    how = {"downscalers": ["tirn"]} if what == "downscalers" else {"upscaler": "tirn", "downscalers": ["bicubic"]}
    one = experiment(folder, **({"upscaler": "bicubic"} | how), scale=2, distortion="mse", heat=None)
    with pytest.raises(ValueError, match="no embedded checkpoint 'tirn_x2'"):
        run(one, tmp_path / "rows")
    assert not len(results.read(tmp_path / "rows"))


def test_a_name_in_the_rows_cannot_be_given_to_another_downscaler(tmp_path):
    folder = write_images(tmp_path / "images", 1, side=32)
    with pytest.raises(ValueError, match="expected another name than 'irn', which is ours"):
        experiment(folder, downscalers=[("irn", "bicubic")], upscaler="bicubic", heat=0)


# ---- a reader's own pair

PAIR = """import torch

def down(hr, scale):
    return torch.nn.functional.avg_pool2d(hr, scale)

def alone(hr):
    return hr

def up(lr, generators):
    big = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return torch.cat([big + 0.1 * torch.randn(big.shape, generator=g) for g in generators])

def still(lr, generators):
    return lr.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(len(generators), -1, -1, -1)
"""


def write(folder, text=PAIR):
    (path := folder / "pair.py").write_text(text)
    return path


@pytest.mark.parametrize("halves", ["down,up", "down, still(stochastic=false)"])
def test_a_reader_s_own_pair_is_a_downscaler_and_an_upscaler(tmp_path, halves):
    folder, path = write_images(tmp_path / "images", 1, side=32), write(tmp_path)
    downscaler, upscaler = runs.rescaler(f"{path}:{halves}")
    how = {"downscalers": [downscaler, "bicubic"], "upscaler": upscaler, "distortion": "mse", "heat": None}
    one = experiment(folder, **how, n_samples=2)
    before = run(one, tmp_path / "rows")
    digest = files.sha256_of(path)[:8]
    name = "still" if "still" in halves else "up"
    assert set(before.downscaler) == {f"down@{digest}", "bicubic"} and set(before.upscaler) == {f"{name}@{digest}"}
    assert one.n_samples == (1 if name == "still" else 2)
    write(tmp_path, PAIR.replace("avg_pool2d(hr, scale)", "avg_pool2d(hr, scale) * 1.0"))
    after = run(experiment(folder, **how, n_samples=2), tmp_path / "rows")
    assert not set(after.downscaler) & set(before.downscaler) - {"bicubic"}


def test_ours_are_pairs_by_name():
    assert runs.rescaler("sain") == ("sain", "sain")


@pytest.mark.parametrize(
    "spec, message",
    [
        ("iirn", "rescaler: expected one of irn, .*, or 'my_file.py:downscale,upscale', got 'iirn'"),
        ("{}:down", "or 'my_file.py:downscale,upscale', got '.*pair.py:down'"),
        ("{}:down,up,still", "or 'my_file.py:downscale,upscale', got"),
        ("{}:down,none", "upscaler '.*pair.py:none': expected a function 'none', found alone, down, still, up"),
        ("{}:alone,up", r"downscaler '.*pair.py:alone': expected a function of \(hr, scale\), got one of \(hr\)"),
        ("nowhere.py:down,up", "downscaler '.*nowhere.py:down': expected a Python file, found none"),
    ],
)
def test_what_is_no_pair_says_so(tmp_path, spec, message):
    with pytest.raises(ValueError, match=message):
        runs.rescaler(spec.format(write(tmp_path)))


def test_a_pair_that_breaks_a_promise_is_refused(tmp_path):
    folder = write_images(tmp_path / "images", 1, side=32)
    path = write(tmp_path, PAIR.replace("generator=g", "generator=None"))
    downscaler, upscaler = runs.rescaler(f"{path}:down,up")
    with pytest.raises(ValueError, match="two|one"):
        run(experiment(folder, downscalers=[downscaler], upscaler=upscaler, distortion="mse"), tmp_path / "rows")
