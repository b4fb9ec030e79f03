import pytest
import torch

from helpers import runtime


def test_seeded_depends_on_the_key_alone():
    first = torch.rand(4, generator=runtime.seeded(0, "image", 3))
    torch.manual_seed(99)
    torch.rand(7)
    assert torch.equal(first, torch.rand(4, generator=runtime.seeded(0, "image", 3)))
    for other in [(1, "image", 3), (0, "image2", 3), (0, "image", 4), (0, "image")]:
        assert not torch.equal(first, torch.rand(4, generator=runtime.seeded(*other)))


def test_seeded_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    torch.rand(10, generator=runtime.seeded(1))
    assert torch.equal(torch.rand(3), expected)


def test_keys_of_text_and_number_differ():
    assert runtime.seeded(0, "1").initial_seed() != runtime.seeded(0, 1).initial_seed()
    assert runtime.seeded("ab", "c").initial_seed() != runtime.seeded("a", "bc").initial_seed()


def test_b41_seeds():
    assert runtime.check_seed(0) == 0
    for bad in (-1, 2**63, 1.0, True, "0", None):
        with pytest.raises(ValueError, match="seed"):
            runtime.check_seed(bad)
    for bad in [(), (1.5,), (None,), (True,)]:
        with pytest.raises(ValueError, match="key"):
            runtime.seeded(*bad)


def test_b43_missing_device_is_an_error_and_never_the_cpu():
    assert runtime.pick_device("cpu").type == "cpu"
    assert runtime.pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="CUDA devices"):
        runtime.pick_device(f"cuda:{torch.cuda.device_count()}")
    with pytest.raises(ValueError, match="got 'gpu'"):
        runtime.pick_device("gpu")


def test_record_names_versions_and_device():
    record = runtime.record("cpu")
    assert torch.__version__.startswith(record["torch"])
    assert record["device"] == "cpu"
    assert record["revision"]
