"""What the cards of the twin upscalers state, on photographs that were not trained on, image by image.

A checkpoint serves two upscalers: its mean image, and draws around it. Beside them stand the embedded flow of the same
scale and bicubic interpolation, on the same bicubic LR images. Acceptance (1), that a draw depends on its key, is the
test suite's; (4), the order of the downscalers, is that of published rows.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.distortions import DISTORTIONS, psnr
from helpers.downscalers import bicubic
from helpers.images import quantize
from helpers.iqa import kid
from helpers.networks.residual_shift import ResidualShift
from helpers.runtime import seeded
from helpers.stats import findings
from helpers.training.cards import SPECKLE
from helpers.training.residual_shift import damage
from helpers.upscalers import embedded_flow, residual_shift

STEPS = (4, 8, 15)
HEATS = (0.8, 0.9, 1.0)  # of the flow
PATCH = 64  # HR pixels of the side of what KID compares
SPREAD, CONSISTENT, DETAIL = 0.01, 45.0, 0.2  # acceptance (2), (3), (5): more, more, less


def detail(images: Tensor, scale: int) -> Tensor:
    """Power above the Nyquist frequency of the LR image, mean of the channels, squared intensities.

    Args:
        images: in [0, 1], (N, 3, H, W).
        scale: s.

    Returns:
        (N,).
    """
    height, width = images.shape[-2:]
    down, right = torch.fft.fftfreq(height).abs()[:, None], torch.fft.rfftfreq(width)[None]
    kept = torch.fft.irfft2(torch.fft.rfft2(images) * ((down > 0.5 / scale) | (right > 0.5 / scale)), s=(height, width))
    return kept.square().mean((1, 2, 3))


@torch.no_grad()
def measure(
    network: ResidualShift, name: str, hr: Tensor, flow, *, n_samples: int = 5, n_others: int = 2,
    distortion: str = "lpips", steps: Sequence[int] = STEPS, heats: Sequence[float] = HEATS, seed: int = 0,
) -> tuple[dict[str, float], dict[str, Tensor]]:  # fmt: skip
    """Measure a twin, the flow and interpolation on the bicubic LR image of one photograph.

    Args:
        network: in eval mode, on the CPU.
        name: of the image; draw q takes the key (seed, name, q), as it does in `runs`.
        hr: HR image in [0, 1], (1, 3, H, W), sides multiples of s.
        flow: heat -> upscaler to compare with.
        n_samples: draws with the usual number of steps.
        n_others: draws with each other number of steps, and of the flow.
        distortion: D, a name in `DISTORTIONS`.
        steps, heats: numbers of steps beside the usual, and heats of the flow.

    Returns:
        psnr in dB and D ("lpips") of "mean" (the mean image), "draw", "average" (of all draws; psnr alone) and
        "bicubic"; D of "steps 4" and so on, and of "flow 0.8" and so on; psnr of "flow", at the last heat; lr_psnr in
        dB, of draws downscaled again against the LR image; spread, the deviation between draws; detail_mean,
        detail_draw and detail_flow as multiples of the photograph's `detail`; speckle and speckle_flow, the share of
        pixels of draws further than `SPECKLE` from their mean in some channel; damaged_psnr and damaged_D of the mean
        image of an LR image after `residual_shift.damage`.
        And one image of each kind for KID: "hr", "mean", "draw", "flow", "bicubic".
    """
    scale, against = network.scale, DISTORTIONS[distortion]
    lr = quantize(bicubic(hr, scale))
    keys = [seeded(seed, name, q) for q in range(n_samples)]
    draws = quantize(residual_shift.sample(network, lr, keys))
    mean = quantize(network.encoder(lr)[1])
    plain = quantize(F.interpolate(lr, scale_factor=scale, mode="bicubic"))
    harmed = quantize(network.encoder(damage(lr, seeded(seed, name, "damage")))[1])
    row = {
        "psnr_mean": psnr(mean, hr), "psnr_draw": psnr(draws, hr), "psnr_average": psnr(draws.mean(0, True), hr),
        "psnr_bicubic": psnr(plain, hr), f"{distortion}_mean": against(mean, hr),
        f"{distortion}_draw": against(draws, hr), f"{distortion}_bicubic": against(plain, hr),
        "lr_psnr": psnr(bicubic(draws, scale), lr), "lr_psnr_mean": psnr(bicubic(mean, scale), lr),
        "damaged_psnr": psnr(harmed, hr), f"damaged_{distortion}": against(harmed, hr),
        "spread": draws.var(0).mean().sqrt(), "speckle": _speckle(draws),
    }  # fmt: skip

    def few() -> list:
        return [seeded(seed, name, q) for q in range(n_others)]

    for count in steps:
        row[f"{distortion}_steps {count}"] = against(quantize(residual_shift.sample(network, lr, few(), count)), hr)
    for heat in heats:
        others = quantize(flow[heat](lr, few()))
        row[f"{distortion}_flow {heat:g}"] = against(others, hr)
    row |= {"psnr_flow": psnr(others, hr), "speckle_flow": _speckle(others)}
    images = {"hr": hr, "mean": mean, "draw": draws[:1], "flow": others[:1], "bicubic": plain}
    own = detail(hr, scale)
    several = {"mean": mean, "draw": draws, "flow": others}
    row |= {f"detail_{kind}": detail(each, scale).mean() / own for kind, each in several.items()}
    return {key: value.double().mean().item() for key, value in row.items()}, images


def _speckle(draws: Tensor) -> Tensor:
    return ((draws - draws.mean(0)).abs().amax(1) > SPECKLE).double().mean()


class Tables:
    """Lines of a set, and what is measured once over all sets: a `table` for `rescaler_report.write_card`."""

    def __init__(self, distortion: str = "lpips", **how) -> None:
        self.how, self.kinds = {"distortion": distortion, **how}, {}

    def __call__(self, name: str, images: Sequence[tuple[str, Tensor]], file: str | Path = "") -> pd.DataFrame:
        """`measure` of each image, a line each."""
        network, rows = residual_shift.load(file or name), {}
        flow = {heat: embedded_flow(scale=network.scale, heat=heat) for heat in self.how.get("heats", HEATS)}
        for image, hr in images:
            rows[image], seen = measure(network, image, hr, flow, **self.how)
            for kind, each in seen.items():
                patches = F.unfold(each, PATCH, stride=PATCH)[0].T.view(-1, 3, PATCH, PATCH)
                self.kinds.setdefault(kind, []).append(patches)
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("image")

    def over_all(self) -> dict[str, float]:
        """KID of patches of each kind to those of the photographs, over all images seen so far; {} of none."""
        if not self.kinds:
            return {}
        seen = {kind: kid.features(torch.cat(parts)) for kind, parts in self.kinds.items()}
        found = {kind: kid.distances(each, seen["hr"])["kid"] for kind, each in seen.items() if kind != "hr"}
        return {kind: round(value, 4) for kind, value in found.items()} | {"patches": len(seen["hr"])}


@torch.no_grad()
def seconds(file: str | Path, *, side: int = 192, draws: int = 5, times: int = 3) -> Mapping[str, float]:
    """Processor seconds of a draw on this machine, one of several of one image, the best of some times.

    Args:
        file: the checkpoint.
        side: of the HR image, pixels.
        draws: how many share an LR image.
        times: tries.

    Returns:
        "4 steps" and so on, "flow" and "mean".
    """
    network = residual_shift.load(file)
    lr = torch.rand(1, 3, side // network.scale, side // network.scale, generator=seeded("seconds"))
    flow = embedded_flow(scale=network.scale)
    tasks = {f"{n} steps": lambda n=n: residual_shift.sample(network, lr, _keys(draws), n) for n in STEPS}
    tasks |= {"flow": lambda: flow(lr, _keys(draws)), "mean": lambda: network.encoder(lr)}
    found = {}
    for name, task in tasks.items():
        spent = []
        for _ in range(times):
            began = time.process_time()
            task()
            spent.append((time.process_time() - began) / (1 if name == "mean" else draws))
        found[name] = round(min(spent), 4)
    return found


def aims(tables: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, object]]:
    """What the photographs of a card decide about the statements that were written before the training.

    Args:
        tables: of a card, by name of the set: "photographs", and "faces" where there are some.

    Returns:
        Statement -> its verdict (of each part) and the values of its sentence, intervals over photographs. "draws":
        they differ, by a deviation of spread, and agree with their LR image, lr in dB. "detail": that of draws, and of
        the flow, as multiples of the photographs'. "lpips": gap of draws with as many steps as are best to the flow at
        its best heat. "speckle": gap of the share of pixels to the flow's, on faces.
    """
    rows, faces = tables["photographs"], tables.get("faces")
    n, found = len(rows), {column: findings.mean(rows[column]) for column in rows}
    apart = findings.verdict(found["spread"], above=SPREAD)
    consistent = findings.verdict(found["lr_psnr"], above=CONSISTENT)
    detailed = findings.verdict(found["detail_draw"], above=1 - DETAIL, below=1 + DETAIL)
    heat = min(HEATS, key=lambda heat: rows[f"lpips_flow {heat:g}"].mean())
    steps = min(STEPS, key=lambda steps: rows[f"lpips_steps {steps}"].mean())
    gap = findings.mean(rows[f"lpips_steps {steps}"] - rows[f"lpips_flow {heat:g}"])
    decided = {
        "draws": {"verdict": [apart, consistent], "spread": found["spread"], "lr": found["lr_psnr"], "n": n},
        "detail": {"verdict": detailed, "detail": found["detail_draw"], "flow": found["detail_flow"], "n": n},
        "lpips": {"verdict": findings.verdict(gap, below=0), "heat": heat, "gap": gap, "steps": steps, "n": n},
    }
    if faces is not None:
        gap = findings.mean(faces.speckle - faces.speckle_flow)
        decided["speckle"] = {"verdict": findings.verdict(gap, below=0), "gap": gap, "n": gap.n}
    return decided


def blindness(plain: pd.DataFrame, blind: pd.DataFrame) -> dict[str, object]:
    """Whether the blind mean image is nearer to the photograph after damage, and further from it without.

    Args:
        plain, blind: the table of the same photographs in the card of each.

    Returns:
        The verdict of each part; gain and price in dB, with and without damage, blind minus plain; n, photographs.
    """
    gain, price = (findings.mean(blind[column] - plain[column]) for column in ("damaged_psnr", "psnr_mean"))
    decided = [findings.verdict(gain, above=0), findings.verdict(price, below=0)]
    return {"verdict": decided, "gain": gain, "price": price, "n": gain.n}


def _keys(count: int) -> list[torch.Generator]:
    return [seeded("seconds", q) for q in range(count)]
