import hashlib
from enum import IntEnum

import numpy as np
import pytest
import torch

from helpers import runtime
from tests import old_keys


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


def test_keys_that_agree_in_32_bits_draw_differently():
    """torch takes 32 bits of a seed: of 2e5 keys about five pairs share them. Here a pair draws two pictures."""
    seen, pairs = {}, []
    for number in range(200_000):
        digest = hashlib.blake2b(repr((0, "image", number)).encode(), digest_size=8).digest()
        seed = (int.from_bytes(digest, "little") >> 1) % 2**32
        if (other := seen.setdefault(seed, number)) != number:
            pairs.append((other, number))
    assert 0 < len(pairs) < 20
    for pair in pairs:
        keys = [(0, "image", number) for number in pair]
        assert torch.equal(*(torch.rand(8, generator=old_keys.seeded(*key)) for key in keys))
        assert not torch.equal(*(torch.rand(8, generator=runtime.seeded(*key)) for key in keys))


def test_the_whole_state_is_drawn_from_the_key():
    """Each of the 624 words differs between keys in half of its bits, and torch draws what NumPy's twister draws."""
    states = [runtime.seeded(0, "a", q).get_state().numpy().view(np.uint64)[3 : 3 + 624] for q in range(64)]
    bits = np.unpackbits(np.stack(states).astype("<u4").view(np.uint8), axis=1).reshape(64, 624, 32)
    assert np.abs(bits.mean((0, 2)) - 0.5).max() < 0.06 and np.abs(bits.mean(0) - 0.5).max() < 0.4
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": states[5].astype(np.uint32), "pos": 624}}
    ours = torch.empty(2000, dtype=torch.int64).random_(0, 2**24, generator=runtime.seeded(0, "a", 5))
    assert np.array_equal(ours.numpy(), twister.random_raw(2000) % 2**24)
    draws = torch.cat([torch.randn(3, generator=runtime.seeded(0, "a", q)) for q in range(20_000)])
    assert abs(draws.mean()) < 0.02 and abs(draws.std() - 1) < 0.02  # of the first draws of many keys


def test_equal_names_and_numbers_of_other_types_are_one_key():
    kind = IntEnum("Kind", {"FIRST": 1})
    one, other = (runtime.seeded(*key).get_state() for key in ((0, "ü", 1), (0, np.str_("ü"), kind.FIRST)))
    assert torch.equal(one, other)


def test_another_form_of_the_state_is_refused(monkeypatch):
    runtime._fresh_state.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "_FIRST", 4)  # as if a torch kept one more counter
        with pytest.raises(RuntimeError, match="state holds the 624 words of MT19937 from byte 32 on"):
            runtime.seeded(0)
    runtime.seeded(0)


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
    for wrong in (None, 1.5, ["cpu"]):
        with pytest.raises(ValueError, match="expected device 'auto', 'cpu', .*, got "):
            runtime.pick_device(wrong)


def test_integers_are_those_of_numpy_too_and_no_bool():
    assert all(runtime.is_whole(value) for value in (1, np.int8(1), np.uint64(3), 2**70))
    assert not any(runtime.is_whole(value) for value in (0, True, np.bool_(True), 1.0, np.float32(1), "1", None, -1))
    assert runtime.is_whole(0, 0) and runtime.is_whole(-1, -2)
    assert type(runtime.check_seed(np.uint8(7))) is int


def test_record_names_versions_and_device():
    record = runtime.record("cpu")
    assert torch.__version__.startswith(record["torch"])
    assert record["device"] == "cpu"
    assert record["revision"]
