"""The shipped flows do what their cards say, on photographs that they were not trained on."""

import functools
import json

import numpy as np
import pytest
import torch

from helpers.datasets import sources
from helpers.degradations import DEGRADATIONS
from helpers.distortions import DISTORTIONS
from helpers.downscalers import DOWNSCALERS, bicubic
from helpers.images import quantize
from helpers.measure import score_image
from helpers.runtime import seeded
from helpers.training import cards
from helpers.upscalers import UPSCALERS, draw_latents, load_compact_flow
from helpers.weights import store
from tests import old_keys

STEMS = [path.stem.removeprefix("compact_flow_") for path in store.EMBEDDED.glob("compact_flow_x*.safetensors")]
FLOWS = sorted((int(stem[1]), stem[2:].lstrip("_")) for stem in STEMS)  # scale and variant
SIDE = 176  # the least of MS-SSIM, in whole LR pixels at x8
CROPS = {name: sources.load("library", name, size=SIDE) for name in sources.names("library", 8, size=SIDE)}


def stem(scale: int, variant: str) -> str:
    return f"compact_flow_x{scale}" + (f"_{variant}" if variant else "")


def card(scale: int, variant: str) -> dict:
    return json.loads((store.EMBEDDED / f"{stem(scale, variant)}.json").read_text())


@functools.cache  # several tests compare the same scores
def score(upscaler: str, scale: int, downscaler: str, degradation: str, level: float, image: str) -> float:
    """1 - MS-SSIM of one draw, of an LR image that is damaged where a degradation is named."""

    def downscale(hr):
        lr = quantize(DOWNSCALERS[downscaler](hr, scale))  # some leave [0, 1]
        return DEGRADATIONS[degradation](lr, level, seeded(0, image, "degradation")) if degradation else lr

    upscale, metric = UPSCALERS[upscaler](scale=scale), DISTORTIONS["1-ms_ssim"]
    return score_image(CROPS[image], downscale, upscale, metric, n_samples=1, key=(0, image)).item()


def scores(downscaler: str, scale: int, upscaler: str = "embedded_flow", damage=("", 0.0), n: int = len(CROPS)):
    """Of each image, shape (n,)."""
    return np.array([score(upscaler, scale, downscaler, *damage, image) for image in list(CROPS)[:n]])


def test_which_flows_are_shipped():
    assert FLOWS == [(2, ""), (4, ""), (4, "first"), (4, "mixed"), (8, ""), (8, "first")]


@pytest.mark.parametrize("scale, variant", FLOWS)
def test_checkpoint_is_small_and_has_a_card(scale, variant):
    path = store.embedded(stem(scale, variant))
    assert path.stat().st_size < 8 * 2**20
    text = (store.EMBEDDED / "README.md").read_text()
    summary = card(scale, variant)["summary"]
    for number in ("bits_per_dimension", "lr_psnr", "psnr_0", "psnr_heat", "ms_ssim_heat"):
        digits = 3 if "psnr" not in number else 2
        assert f"{summary[number]:.{digits}f}" in text, f"the card of x{scale} does not state {number}"


@pytest.mark.parametrize("scale, variant", FLOWS)
def test_card_numbers_are_reproduced(scale, variant, monkeypatch):
    if scale == 2 or variant == "first":  # drawn before version 0.5
        monkeypatch.setattr(cards, "seeded", old_keys.seeded)
    stated = card(scale, variant)["quality"]
    names = list(stated)[:1]
    images = [(name, sources.load("library", name, size=256)) for name in names]
    for row in cards.quality(load_compact_flow(scale, variant=variant), images):
        for key in ("bits_per_dimension", "lr_psnr", "psnr_0", "psnr_heat", "ssim_heat", "ms_ssim_heat"):
            assert row[key] == pytest.approx(stated[row["image"]][key], rel=2e-3, abs=2e-3), (
                row["image"],
                key,
            )


@pytest.mark.parametrize("scale, variant", FLOWS)
def test_no_sample_is_lost_or_explodes_whatever_the_lr_image(scale, variant):
    network = load_compact_flow(scale, variant=variant)
    levels = [("noise", 0.2), ("contrast", 2.5), ("otsu", 5), ("blur", 4), ("jpeg", 10), ("bsrgan", 5)]
    crops = [(name, hr[..., :96, :96]) for name, hr in list(CROPS.items())[:1]]
    rows = cards.stability(network, crops, degradations=levels, n_samples=1)
    assert {row["condition"] for row in rows} >= set(DOWNSCALERS)
    assert all(row["non_finite"] == 0 for row in rows)
    largest = {row["condition"]: row["largest"] for row in rows}
    assert max(largest[name] for name in DOWNSCALERS) < 20, largest
    assert max(largest.values()) < 2000, largest  # strong noise is far from any photograph; the card says how far

    side = 16
    extreme = {
        "random": torch.rand(1, 3, side, side, generator=seeded("random")),
        "checkerboard": (torch.arange(side)[:, None] + torch.arange(side)).remainder(2).expand(1, 3, -1, -1).float(),
        "black": torch.zeros(1, 3, side, side),
        "white": torch.ones(1, 3, side, side),
    }
    for name, lr in extreme.items():
        latents = draw_latents(network.latent_shapes(side, side), [seeded(name)], 1.2)
        with torch.no_grad():
            assert network.decode(lr, latents)[0].isfinite().all(), name


def test_flow_beats_interpolation_and_its_draws_are_sharper():
    network = load_compact_flow(4)
    rows = cards.quality(network, list(CROPS.items())[::2], n_samples=1)
    means = {key: np.mean([row[key] for row in rows]) for key in rows[0] if key != "image"}
    assert means["psnr_0"] > means["psnr_bicubic"] + 0.5
    assert means["ms_ssim_0"] > means["ms_ssim_bicubic"]
    assert means["lr_psnr"] > 40

    def sharpness(x):
        return (x - torch.nn.functional.avg_pool2d(x, 3, 1, 1)).abs().mean().item()

    hr = next(iter(CROPS.values()))
    lr = bicubic(hr, 4)
    with torch.no_grad():
        drawn = [
            network.decode(lr, draw_latents(network.latent_shapes(*lr.shape[-2:]), [seeded(0)], heat))[0].clamp(0, 1)
            for heat in (0.0, 1.0)
        ]
    assert sharpness(drawn[0]) < 0.7 * sharpness(hr) < sharpness(drawn[1]) < 1.5 * sharpness(hr)


@pytest.mark.parametrize("scale", [4, 8])
def test_ranking_of_downscalers_has_the_clear_gaps(scale):
    names = ("bicubic", "bilinear", "lanczos", "dpid", "perceptual", "nearest")
    found = {name: scores(name, scale) for name in names}
    worst_good = np.max([found[name].mean() for name in names[:3]])
    assert worst_good < min(found["dpid"].mean(), found["perceptual"].mean())
    assert max(found["dpid"].mean(), found["perceptual"].mean()) < found["nearest"].mean()
    for name in names[3:]:  # paired: the gap holds on nearly every photograph
        assert np.mean(found[name] > found["bicubic"]) >= 0.75, name


def test_the_mixed_flow_forgives_what_it_has_seen():
    """Trained with LR images by nearest and DPID among others, it loses less on them than the bicubic-only flow."""
    mixed = {name: scores(name, 4, "embedded_flow_mixed") for name in ("nearest", "dpid", "bicubic")}
    for name in ("nearest", "dpid"):
        assert np.mean(mixed[name] < scores(name, 4)) >= 0.75, name
    assert mixed["nearest"].mean() > mixed["bicubic"].mean()  # what is lost stays lost


@pytest.mark.parametrize(
    "name, levels",
    [("blur_full", (0, 0.5, 1, 2)), ("noise", (0, 0.05, 0.1, 0.2)), ("contrast", (1, 1.5, 2, 2.5)),
     ("contrast", (1, 0.75, 0.5, 0.25)), ("otsu", (15, 10, 5))],
)  # fmt: skip
def test_more_damage_scores_worse(name, levels):
    means = [scores("bicubic", 4, damage=(name, level), n=3).mean() for level in levels]
    assert means == sorted(means) and means[-1] > 1.05 * means[0]
