"""Training of the embedded generator: growth changes nothing at first, a stopped run goes on, and it learns."""

import io
import math
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from helpers.networks import stylegan
from helpers.networks.style_discriminator import Discriminator, DownConv
from helpers.training import generator as generator_training
from helpers.training import loop

TINY = generator_training.Widths(fmap_base=16, fmap_max=8, style_size=8, mapping_layers=2)
STAGES = (generator_training.Stage(8, 96, 0.3), generator_training.Stage(16, 160, 0.5))


def faces(count: int = 32, side: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(60, 200, (count, 3, 1, 1), generator=generator)
    return (colours + torch.arange(side).view(1, 1, side, 1).expand(-1, -1, -1, side) * 3).clamp(0, 255).byte()


def train(checkpoint, **options) -> generator_training.Generator:
    options = {"stages": STAGES, "widths": TINY, "batch": 8, "fade": 64, "every": 48, "bfloat16": False} | options
    return generator_training.train_generator(faces(), faces(16, seed=1), checkpoint, progress=False, **options)


# ---- networks


def test_a_grown_generator_first_draws_the_old_images_twice_as_large():
    small, large = generator_training.Generator(8, TINY), generator_training.Generator(16, TINY, fades=True)
    generator_training.grow(small, large, "synthesis.torgb")
    before = generator_training.draw(small, 4, torch.Generator().manual_seed(0))
    latents, cuts = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(0)), torch.full((4,), 99)
    noise = [torch.zeros(4, *shape) for shape in large.synthesis.noise_shapes()]
    small_images = small(latents, cuts, noise[:-2])
    assert before.shape == (4, 3, 8, 8)
    torch.testing.assert_close(large(latents, cuts, noise, share=0.0), F.interpolate(small_images, scale_factor=2))
    assert (large(latents, cuts, noise, share=1.0) - large(latents, cuts, noise, share=0.0)).abs().max() > 0.1


def test_a_grown_discriminator_first_judges_half_the_size():
    torch.manual_seed(0)
    small, large = Discriminator(8, 16, 8), Discriminator(16, 16, 8, fades=True)
    generator_training.grow(small, large, "fromrgb")
    images = torch.rand(8, 3, 16, 16)
    torch.testing.assert_close(large(images, share=0.0), small(F.avg_pool2d(images, 2)))
    assert (large(images, share=1.0) - large(images, share=0.0)).abs().max() > 1e-3


def test_the_styles_change_at_the_cut():
    network = generator_training.Generator(16, TINY)
    noise = [torch.zeros(2, *shape) for shape in network.synthesis.noise_shapes()]
    one, two = torch.randn(2, 8), torch.randn(2, 8)
    both = torch.stack([one, two], 1)
    ends = [network(both, torch.tensor([cut, cut]), noise) for cut in (0, 8)]
    alone = [network(torch.stack([z, z], 1), torch.tensor([4, 4]), noise) for z in (two, one)]
    torch.testing.assert_close(ends, alone)
    assert (network(both, torch.tensor([4, 4]), noise) - ends[0]).abs().max() > 1e-2


@pytest.mark.parametrize("size", [2, 4])
def test_the_strided_kernel_is_centred(size):
    conv = DownConv(1, 1, size)
    with torch.no_grad():
        conv.weight.fill_(1 / conv.scale)
    image = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(conv(image).flip(2, 3), conv(image.flip(2, 3)))
    assert conv(image).shape == (1, 1, 4, 4)


def test_equal_images_have_no_spread_and_others_have():
    critic = Discriminator(8, 16, 8)
    seen = []
    critic.conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, -1]))
    critic(torch.rand(1, 3, 8, 8).expand(4, -1, -1, -1))
    critic(torch.rand(4, 3, 8, 8))
    assert seen[0].max() < 1e-3 < seen[1].min()


# ---- images


def test_translation_moves_each_image_by_itself_and_leaves_black():
    images = torch.rand(64, 1, 8, 8) + 1
    moved = generator_training.translate(images, 0.25, torch.Generator().manual_seed(0))
    shifts = set()
    for before, after in zip(images, moved, strict=True):
        rows, columns = after[0].sum(1).nonzero()[:, 0], after[0].sum(0).nonzero()[:, 0]
        there = after[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        fits = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(F.pad(before, (2, 2, 2, 2))[0, 2 - down :, 2 - right :][:8, :8], after[0])
        ]
        assert len(fits) == 1 and there.shape == tuple(8 - abs(shift) for shift in fits[0])
        shifts.update(fits)
    assert len(shifts) > 15


def test_translation_passes_the_gradient():
    images = torch.rand(2, 1, 8, 8, requires_grad=True)
    moved = generator_training.translate(images, 0.25, torch.Generator().manual_seed(1))
    moved.sum().backward()
    assert images.grad.sum() == (moved != 0).sum()


def test_faces_are_read_from_archives_and_folders_alike(tmp_path):
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for name in "ba":
            image = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
            data = io.BytesIO()
            image.save(data, "png")
            archive.writestr(f"{name}.png", data.getvalue())
        archive.writestr("notes.txt", "no image")
    with zipfile.ZipFile(tmp_path / "faces.zip") as archive:
        archive.extractall(tmp_path / "folder")
    one, two = (
        generator_training.read_faces([tmp_path / "faces.zip"], 8),
        generator_training.read_faces([tmp_path / "folder"], 8),
    )
    assert one.shape == (2, 3, 8, 8) and one.dtype == torch.uint8
    assert torch.equal(one, two)
    with pytest.raises(ValueError, match=r"a\.png: expected a square of at least 32, got \(16, 16\)"):
        generator_training.read_faces([tmp_path / "folder"], 32)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found none in"):
        generator_training.read_faces([tmp_path / "empty"], 8)
    with pytest.raises(ValueError, match="expected a zip archive or a folder"):
        generator_training.read_faces([tmp_path / "nowhere.zip"], 8)


# ---- training


def test_a_stopped_run_ends_where_an_unbroken_one_does(tmp_path):
    """Stopped in the second stage, it grows a third with the same first weights; the global generator is left alone."""
    stages = [generator_training.Stage(side, 24, 0.3) for side in (8, 16, 32)]
    options = {"stages": stages, "widths": TINY, "batch": 8, "fade": 16, "every": 48, "progress": False}
    before = torch.get_rng_state()
    whole = generator_training.train_generator(faces(side=32), faces(16, 32, 1), tmp_path / "whole.pt", **options)
    assert torch.equal(torch.get_rng_state(), before)
    for call in range(9):  # of one step each
        torch.manual_seed(call)
        broken = generator_training.train_generator(
            faces(side=32), faces(16, 32, 1), tmp_path / "broken.pt", seconds=0.0, **options
        )
    for (name, one), (_, two) in zip(whole.state_dict().items(), broken.state_dict().items(), strict=True):
        assert torch.equal(one, two), name
    rows = (tmp_path / "whole.csv").read_text().splitlines()
    assert rows[0].startswith("iteration,seconds,loss_d,loss_g,real,fake,images,") and rows[-1].startswith("9,")
    assert [row.split(",")[0] for row in rows[1:]] == ["3", "6", "9"]  # the ends of the stages


def test_the_checkpoint_that_the_judge_likes_best_is_returned(tmp_path):
    seen = []

    def judge(images: torch.Tensor) -> float:
        seen.append(images.mean().item())
        return 1.0 if len(seen) == 2 else 2.0 + len(seen)

    network = train(tmp_path / "a.pt", judge=judge)
    assert len(seen) > 2
    chosen = generator_training.samples(network, 2000, generator_training.seeded(0, "judge"))
    assert chosen.mean().item() == pytest.approx(seen[1], abs=1e-6)


def test_it_learns_a_colour(tmp_path):
    red = torch.tensor([200, 40, 40]).view(1, 3, 1, 1).expand(32, -1, 8, 8).byte()
    options = {
        "stages": [generator_training.Stage(8, 2400, 0.1)],
        "widths": TINY,
        "batch": 8,
        "half_life": 200,
        "seed": 1,
    }
    network = generator_training.train_generator(
        red, red, tmp_path / "a.pt", progress=False, peak=5e-3, bfloat16=False, **options
    )
    colour = generator_training.samples(network, 64, torch.Generator().manual_seed(0)).mean((0, 2, 3)) * 255
    assert (colour - torch.tensor([200.0, 40, 40])).abs().max() < 40


def test_wrong_stages_and_widths_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"doubling sizes up to 16, got \[8, 32\]"):
        train(tmp_path / "a.pt", stages=(generator_training.Stage(8, 8, 1.0), generator_training.Stage(32, 8, 1.0)))
    train(tmp_path / "a.pt", seconds=0.0)
    with pytest.raises(ValueError, match=r"widths: expected \(16, 8, 8, 2\), as in .*a\.pt, got \(16, 8, 8, 3\)"):
        train(tmp_path / "a.pt", widths=TINY._replace(mapping_layers=3))


def test_losses_that_are_no_numbers_stop_the_run_and_leave_the_checkpoint(tmp_path):
    train(tmp_path / "a.pt", seconds=0.0)
    before = (tmp_path / "a.pt").read_bytes()
    with pytest.raises(FloatingPointError, match="the last checkpoint is whole"):
        train(tmp_path / "a.pt", peak=math.inf)
    assert (tmp_path / "a.pt").read_bytes() == before


def test_an_exported_generator_comes_back_with_its_fit(tmp_path):
    network = train(tmp_path / "a.pt", seconds=0.0).eval()
    loop.export(generator_training.tensors(network), tmp_path / "g.safetensors", data="colours")
    state = load_file(tmp_path / "g.safetensors")
    parts = {
        part: {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(part)}
        for part in ("mapping", "synthesis", "fit")
    }
    mapping, synthesis = stylegan.mapping_of(parts["mapping"]), stylegan.synthesis_of(parts["synthesis"])
    latents = torch.randn(2000, 8)
    with torch.no_grad():
        torch.testing.assert_close(mapping(latents), network.mapping(latents))
        before = F.leaky_relu(mapping(latents), 5.0)
        styles = mapping(latents[:2])[:, None].expand(-1, synthesis.layers, -1)
        noise = [torch.zeros(2, *shape) for shape in synthesis.noise_shapes()]
        again = network(torch.stack([latents[:2]] * 2, 1), torch.tensor([9, 9]), noise)
        torch.testing.assert_close(synthesis(styles, noise), again)
    torch.testing.assert_close(parts["fit"]["std"], before.std(0), rtol=0.1, atol=0.01)
    assert len(state) == len(network.state_dict()) + 2
