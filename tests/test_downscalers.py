"""What holds for every downscaler: shapes, constants, batches, devices, refused input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize
from tests.pictures import noise, waves
from tests.test_downscalers_filters import PILLOW


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_shape_constants_and_input_kept(name):
    for height, width, scale in ((48, 72, 4), (15, 35, 5), (16, 8, 2), (12, 12, 1)):
        grey = torch.full((2, 3, height, width), 77 / 255)
        grey[:, 1] = 1.0
        grey[1, 2] = 0.0
        lr = DOWNSCALERS[name](grey, scale)
        assert lr.shape == (2, 3, height // scale, width // scale) and lr.dtype == torch.float32
        assert torch.allclose(lr, grey[:, :, :1, :1].expand_as(lr), atol=1e-5)
    hr = noise()
    DOWNSCALERS[name](hr, 4)
    assert torch.equal(hr, noise())


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_batch_is_its_images(name):
    hr = torch.cat([waves(2, 48, 72), noise(2)])
    together = DOWNSCALERS[name](hr, 4)
    alone = torch.cat([DOWNSCALERS[name](one[None], 4) for one in hr])
    # hard thresholds may turn the last bit of a matrix product into a visible difference of the L0 methods
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-3 if name.startswith("l0") else 1e-6)
    assert together.isfinite().all()


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_every_device(name, device):
    hr = torch.cat([waves(1, 48, 72), noise()])
    lr = DOWNSCALERS[name](hr.to(device), 4)
    assert lr.device.type == device.type
    if name in PILLOW:
        assert torch.equal(lr.cpu(), DOWNSCALERS[name](hr, 4))
    else:
        assert (lr.cpu() - DOWNSCALERS[name](hr, 4)).abs().mean() < 1e-3


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_each_differs_from_the_others(name):
    for other in DOWNSCALERS.keys() - {name}:
        assert (DOWNSCALERS[name](waves(), 4) - DOWNSCALERS[other](waves(), 4)).abs().max() > 1e-3, other


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_mean_is_kept(name):
    smooth = 0.5 + 0.4 * (waves() - 0.5)
    error = (quantize(DOWNSCALERS[name](smooth, 4)).mean((2, 3)) - smooth.mean((2, 3))).abs().max()
    assert error < 0.02


@pytest.mark.parametrize(
    "name, options",
    [
        ("dpid", {"lam": 0.5}),
        ("dpid", {"matlab_bug": True}),
        ("perceptual", {"patch": 3}),
        ("perceptual", {"epsilon": 1e-3}),
        ("l0", {"lam": 2e-2}),
        ("l0", {"kappa": 8.0}),
        ("l0_smooth", {"lam": 2e-2}),
        ("l0_smooth", {"kappa": 8.0}),
        ("matlab_bicubic", {"rounded": False}),
        ("matlab_bilinear", {"rounded": False}),
    ],
)
def test_every_option_changes_something(name, options):
    assert not torch.equal(DOWNSCALERS[name](waves(), 4, **options), DOWNSCALERS[name](waves(), 4))


@pytest.mark.parametrize("name", DOWNSCALERS)
@pytest.mark.parametrize(
    "hr, scale, message",
    [
        (noise(), 0, "scale"),
        (noise(), 2.0, "scale"),
        (noise(), True, "scale"),
        (noise(), 5, "multiples of 5"),
        (noise() * 255, 4, "finite values in"),
        (noise() * 2 - 1, 4, "finite values in"),
        (torch.full((1, 3, 8, 8), torch.nan), 4, "finite values in"),
        ((noise() * 255).to(torch.uint8), 4, "floats"),
        (noise()[0], 4, "shape"),
        (noise()[:, :1], 4, "shape"),
        (noise().numpy(), 4, "torch.Tensor"),
    ],
)
def test_bad_input(name, hr, scale, message):
    with pytest.raises(ValueError, match=message):
        DOWNSCALERS[name](hr, scale)


LEVELS = """
import sys
from helpers import datasets
from helpers.downscalers import DOWNSCALERS
from helpers.images import to_uint8
from helpers.rescalers import registry
hr = datasets.load("photographs", "kodim08_y000_x256")[..., :128, :128]
for name in sys.argv[1:]:
    f_ds = DOWNSCALERS.get(name) or registry.downscaler(name)
    scales = (2, 4, 8) if name in DOWNSCALERS else registry.RESCALERS[name].scales
    print(name, [to_uint8(f_ds(hr, s)).numpy().tobytes().hex() for s in scales])
faces = [datasets.load("generated", name) for name in datasets.names("generated", 8)]
print("faces", [to_uint8(face).numpy().tobytes().hex() for face in faces])
"""
OLD = {  # a processor of 2006, to torch and its libraries
    "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_CBWR": "COMPATIBLE",
}  # fmt: skip


def test_levels_do_not_depend_on_the_processor():
    """A row says of which HR and LR pixels it is; on another machine it would be stale if a sum were rounded otherwise.

    Those in the precision of the HR image are left out, and the search of HCD, whose steps no precision holds together.
    """
    names = [name for name in DOWNSCALERS if name not in ("bicubic_float", "torch_bicubic", "torch_bilinear")]
    names += ["irn", "tirn", "sain", "hyperthumbnail"]
    root = Path(__file__).parents[1]
    shown = [
        subprocess.run(
            [sys.executable, "-c", LEVELS, *names], check=True, capture_output=True, text=True, cwd=root,
            env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": threads} | how,
        ).stdout.splitlines()
        for threads, how in (("2", {}), ("1", OLD))
    ]  # fmt: skip
    assert len(shown[0]) == len(shown[1]) == len(names) + 1
    assert [here.split()[0] for here, there in zip(*shown, strict=True) if here != there] == []
