"""The card of the Multi-Realism codec: files of no fewer bits, numbers of an image, patches, round trip."""

import json

import pandas as pd
import pytest
import torch

from helpers.distortions import lpips_embedded, psnr
from helpers.images import quantize
from helpers.networks.multi_realism import MultiRealism
from helpers.rescalers import multi_realism
from helpers.rescalers.multi_realism import decode, encode, prepare
from helpers.stats.findings import CONTRADICTED, NOT_SHOWN, SUPPORTED
from helpers.training import multi_realism as training
from helpers.training import multi_realism_report as report
from helpers.training import recipes
from helpers.weights import store
from tests.pictures import noise, waves
from tests.test_networks_elic import tiny
from tools import codec_card

BETAS = (0.0, 0.64, 2.56)


@pytest.fixture(scope="module")
def codec():
    return prepare(tiny())


@pytest.fixture(autouse=True)
def embedded_alone(monkeypatch):
    monkeypatch.setattr(report, "distances_here", lambda: ["lpips_embedded"])
    monkeypatch.setattr(report, "available", lambda name: f"{name} is not here")


@pytest.mark.parametrize("name", report.RIVALS)
def test_a_rival_has_no_fewer_bytes(name):
    hr, sizes = waves(1, 96, 96), []
    for size in (10, 2500, 10**6):
        image, found = report.rival(hr, name, size)
        assert image.shape == hr.shape and (image - quantize(image)).abs().max() < 1e-6
        sizes.append(found)
    assert sizes[0] >= 10 and sizes[1] >= 2500 and sizes[2] < 10**6  # quality 100 is still smaller
    assert sizes[0] < sizes[1] < sizes[2] < 2 * 10**5
    assert (report.rival(hr, name, 10**6)[0] - hr).abs().mean() < (report.rival(hr, name, 10)[0] - hr).abs().mean()


def test_numbers_of_one_image(codec):
    hr = waves(1, 70, 96)
    found, images = report.of_image(codec, hr, 1, (0.0, 2.56))
    content = encode(codec, hr, 1)
    sr = quantize(decode(codec, content, 2.56))
    assert found["bpp"] == 8 * len(content) / (70 * 96)
    assert found["psnr 2.56"] == pytest.approx(psnr(sr, hr).item())
    assert found["lpips_embedded 2.56"] == pytest.approx(lpips_embedded(sr, hr).item(), rel=1e-5)
    assert found["jpeg psnr"] == pytest.approx(psnr(images["jpeg"], hr).item(), rel=1e-5)
    assert found["jpeg bpp"] >= found["bpp"] and list(images) == ["0", "2.56", "jpeg", "webp"]
    assert {"psnr 0", "lpips_embedded 0", "webp lpips_embedded", "estimated"} <= set(found)


def test_patches_lie_side_by_side():
    image = noise(1, 130, 200)
    found = report.patches(image)
    assert found.shape == (6, 3, 64, 64)
    assert torch.equal(found[4], image[0, :, 64:128, 64:128])


def test_a_card_is_written_and_read(codec, tmp_path, monkeypatch):
    network = tiny()
    curve = pd.DataFrame({"iteration": [3, 6, 9], "seconds": [1.0, 60.0, 120.0], "loss": [3.0, 1.0, 2.0]})
    states = {}
    for stage in ("rates", "realism"):
        states[stage] = tmp_path / f"{stage}.pt"
        saved = {"config": network.config, "iteration": 9, "best": {"iteration": 6, "state": network.state_dict()}}
        torch.save(saved, states[stage])
        curve.to_csv(tmp_path / f"{stage}.csv", index=False)
    (out := tmp_path / "weights").mkdir()
    path = codec_card.ship(states["rates"], states["realism"], out, photographs=5)
    assert path.stat().st_size < 60_000 and (out / "SHA256SUMS").read_text().endswith(f"  {path.name}\n")
    images = [(name, waves(1, 64, 80)) for name in ("a", "b")]
    report.write_card({"two": images}, path)
    facts, tables = report.read_card(path.with_suffix(".json"))
    assert facts["rates"] == {"iterations": 9, "chosen": 6, "minutes": 2.0} and facts["photographs"] == 5
    assert facts["realism"] == {"iterations": 9, "chosen": 9, "minutes": 2.0}  # no number speaks for a discriminator
    assert facts["bytes"] == path.stat().st_size and facts["config"] == json.loads(json.dumps(network.config))
    assert tables["two"][["image", "level"]].values.tolist() == [[n, q] for q in range(3) for n in ("a", "b")]


def test_a_training_without_a_best_state_does_not_ship(tmp_path):
    torch.save({"config": tiny().config, "iteration": 1, "best": {"state": None}}, tmp_path / "t.pt")
    with pytest.raises(ValueError, match="expected a best state, found none after 1 iterations"):
        codec_card.ship(tmp_path / "t.pt", tmp_path / "t.pt", tmp_path, photographs=1)


def test_the_shipped_configuration_is_small_enough():
    network = MultiRealism(**training.SHIPPED)
    assert 2 * sum(each.numel() for each in network.parameters()) < report.LIMIT - 50_000


@pytest.mark.skipif(not (store.EMBEDDED / "multi_realism.json").is_file(), reason="no checkpoint ships yet")
def test_the_card_is_of_the_file_beside_it():
    facts, tables = report.read_card(store.EMBEDDED / "multi_realism.json")
    codec = multi_realism.load()
    assert facts["model"] == codec.digest.hex() and facts["config"] == codec.network.config
    assert facts["bytes"] == (store.EMBEDDED / "multi_realism.safetensors").stat().st_size < report.LIMIT
    for rows in tables.values():
        assert (rows.bpp / rows.estimated).mean() == pytest.approx(1, abs=0.02)
        assert rows.groupby("image").bpp.apply(lambda bits: bits.is_monotonic_increasing).all()


def test_float16_keeps_what_the_codec_needs(tmp_path):
    """The file of half the size writes nearly the same bits; no probability becomes 0."""
    recipes.export(tiny(), tmp_path / "half.safetensors", dtype=torch.float16)
    half, hr = multi_realism.load(tmp_path / "half.safetensors"), waves(1, 64, 128)
    content = encode(half, hr, 1)
    assert len(content) == pytest.approx(len(encode(prepare(tiny()), hr, 1)), rel=0.05)
    assert multi_realism.estimated_bits(half, hr, 1) < 1e6
    assert decode(half, content, 1.0).isfinite().all()


def table_of_tests(realism=1.0, above=1.0):
    """A card's table of eight photographs, in which beta lowers PSNR, LPIPS and KID, and JPEG is worse than beta 0."""
    lines = []
    for number in range(8):
        for level in range(2):
            line = {"image": f"{number}", "level": level, "bpp": 0.3 + 0.9 * level + 0.02 * number}
            for beta in BETAS:
                line |= {f"psnr {beta:g}": 30 + number + level - 0.5 * beta, f"kid {beta:g}": 1 - 0.2 * beta}
                line[f"lpips {beta:g}"] = 0.3 - realism * (0.05 + 0.001 * number) * beta
            for name, worse in (("jpeg", 0.1), ("webp", 0.05)):
                line |= {f"{name} psnr": line["psnr 0"] - above * (1 + 0.1 * number), f"{name} kid": 1.5}
                line |= {f"{name} lpips": 0.3 + worse, f"{name} bpp": line["bpp"] + 0.01}
            lines.append(line)
    return pd.DataFrame(lines)


def test_differences_are_named_by_level_and_rate():
    rows = table_of_tests()
    found = report.differences(rows, {", a": ("psnr 0", "jpeg psnr")})
    assert list(found) == ["level 0 (0.37 bpp), a", "level 1 (1.27 bpp), a"]
    assert found.iloc[:, 1].tolist() == pytest.approx([1 + 0.1 * number for number in range(8)])
    assert report.betas_of(rows) == list(BETAS) and report.measures_of(rows) == ["psnr", "lpips", "kid"]
    assert report.measures_of(rows.drop(columns=["lpips 0", "kid 0"])) == ["psnr", "lpips_embedded"]


def test_the_aims_are_decided_by_the_rows():
    psnr, lpips, kid, jpeg, others = report.aims("waves", table_of_tests())
    assert [each.verdict for each in (psnr, lpips, kid, jpeg, others)] == [SUPPORTED] * 5
    assert psnr.statement.startswith("waves: at the same bytes PSNR (dB) falls") and "(8 photographs)" in psnr.statement
    assert "level 0 (0.37 bpp) +1.35 [" in jpeg.statement and "level 1" not in jpeg.statement  # beyond 1 bit a pixel
    _, lpips, *_, jpeg, others = report.aims("waves", table_of_tests(realism=-1.0, above=-1.0))
    assert lpips.verdict == jpeg.verdict == others.verdict == CONTRADICTED
    assert "; not so: level 0 (0.37 bpp), 0 to 0.64 -0.0" in lpips.statement
    assert "beta 0 -0.1" in others.statement
    noisy = table_of_tests()
    noisy["jpeg psnr"] = noisy["psnr 0"] + (-1.0) ** noisy.image.astype(int)
    assert report.aims("waves", noisy)[3].verdict == NOT_SHOWN


def test_figures_have_the_panels_of_the_card(figure_style):
    tables = {"waves": table_of_tests(), "more": table_of_tests().drop(columns=["kid 0"])}
    assert len(report.rate_distortion(tables).axes) == 4
    axes = report.over_beta(tables).axes
    assert len(axes) == 6 and [ax.axison for ax in axes] == [True] * 5 + [False]
    assert axes[1].get_ylabel() == "LPIPS" and axes[0].get_title("left") == "waves, 8 photographs"
    rates = pd.DataFrame({"iteration": [1, 2], "psnr_0": [20.0, 21.0], "bpp_0": [1.0, 0.9], "loss": [2.0, 1.0]})
    realism = pd.DataFrame({"iteration": [1, 2], "psnr_0": [20.0, 21.0], "lpips_0": [0.3, 0.2], "psnr_2.56": [19, 20]})
    assert [len(ax.lines) for ax in report.curves(rates, realism).axes] == [1, 1, 2, 1]
