"""Checkpoints are found and verified, wherever they lie."""

import hashlib
import os

import pytest
from safetensors.torch import save_file

from helpers.files import sha256_of
from helpers.paper import profiles
from helpers.weights import WEIGHTS, Entry, embedded, fetch, load_state, locate, store
from tests.checkpoints import CONTENT, SHA256, STATE, WHOLE, cached, empty_home, server, write_state

pytestmark = pytest.mark.usefixtures("empty_home")


# ---- where a file may lie


def test_shared_folder_is_taken_first_and_never_written(server, monkeypatch, tmp_path):
    server.answers[:] = ["whole"]
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(folder))
    assert fetch("a") == tmp_path / "cache" / "a.pth" and list(folder.iterdir()) == []
    (folder / "a.pth").write_bytes(CONTENT)
    assert fetch("a") == locate("a") == folder / "a.pth"
    (folder / "a.pth").write_bytes(CONTENT[:-1])  # wrong: as if it were not there, and not ours to rename
    assert fetch("a") == tmp_path / "cache" / "a.pth"
    (tmp_path / "cache" / "a.pth").unlink()
    with pytest.raises(
        ValueError, match="a.pth is missing: put it into .*shared, .*; .*shared/a.pth: SHA-256 expected"
    ):
        fetch("a", offline=True)
    assert [path.name for path in folder.iterdir()] == ["a.pth"] and len(server.asked) == 1


def test_hash_recorded_in_the_shared_folder_needs_no_cache_that_can_be_written(monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), "", None, "ours"))
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(tmp_path))
    write_state(tmp_path / "a.pth")
    record = f"{sha256_of(tmp_path / 'a.pth')}".upper() + "  a.pth\n"  # as some programs write it
    (tmp_path / "a.pth.sha256").write_text(record)
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "a.pth" / "cache"))  # below a file
    assert fetch("a") == tmp_path / "a.pth"
    (tmp_path / "a.pth").write_bytes(WHOLE)
    assert locate("a") is None


def test_cache_that_cannot_be_written_is_said_before_anything_is_asked(server, monkeypatch, tmp_path):
    server.answers[:] = ["whole"]
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ValueError, match="a.pth is missing.*expected a cache that can be written, .*IDA_RD_CACHE"):
        fetch("a")
    assert server.asked == []
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(tmp_path))
    (tmp_path / "a.pth").write_bytes(CONTENT)
    assert fetch("a") == tmp_path / "a.pth"  # a known hash needs no record


@pytest.mark.parametrize("variable", ["IDA_RD_WEIGHTS", "IDA_RD_SHARED_CACHE", "IDA_RD_CACHE"])
def test_file_under_the_name_of_another_programs_cache(monkeypatch, tmp_path, variable):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), SHA256, None, "ours", also=("0123_a.pth",)))
    monkeypatch.setenv(variable, str(tmp_path))
    assert locate("a") is None
    (tmp_path / "0123_a.pth").write_bytes(CONTENT)
    assert fetch("a") == tmp_path / "0123_a.pth"
    (tmp_path / "a.pth").write_bytes(CONTENT)
    assert fetch("a") == tmp_path / "a.pth"


def test_git_hash_proves_a_file(monkeypatch, tmp_path):
    git = "6f9af6b4a4a3b1b1a1b1a1b1a1b1a1b1a1b1a1b1"
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), "", None, "ours", git=git))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    (tmp_path / "a.pth").write_bytes(b"hello\n")
    with pytest.raises(ValueError, match=f"git hash expected {git}, found ce013625030ba8dba906f756967f9e9ca394464a"):
        locate("a")  # what `echo hello | git hash-object --stdin` prints
    entry = WEIGHTS["a"]._replace(git="ce013625030ba8dba906f756967f9e9ca394464a", sha256="0" * 64)
    monkeypatch.setitem(WEIGHTS, "a", entry)
    assert locate("a") == tmp_path / "a.pth" and cached(tmp_path) == []
    (tmp_path / "a.pth").write_bytes(b"hello!\n")
    with pytest.raises(ValueError, match="SHA-256 expected 0000"):
        locate("a")


def test_another_entry_does_instead(server, monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "b", Entry("b.pth", ("http://127.0.0.1:9/b",), "0" * 8, None, "ours", instead="a"))
    with pytest.raises(ValueError, match="b.pth is missing.*127.0.0.1:9.*nor is what would do instead: a.pth is miss"):
        server.answers[:] = ["404"]
        fetch("b")
    server.answers[:] = ["whole"]
    assert locate("b") is None
    assert fetch("b") == locate("b") == tmp_path / "cache" / "a.pth"
    (tmp_path / "cache" / "b.pth").write_bytes(CONTENT)
    monkeypatch.setitem(WEIGHTS, "b", WEIGHTS["b"]._replace(sha256=SHA256))
    assert fetch("b") == tmp_path / "cache" / "b.pth"  # its own file is preferred


def test_files_of_pulse():
    for name, number in (
        ("pulse_synthesis", "1TCViX1YpQyRsklTVYEJwdbmK91vklCo8"),
        ("pulse_mapping", "14R6iHGf5iuVx3DMNsACAl7eBr7Vdpd0k"),
        ("face_landmarks", "1huhv8PYpNNKbGCLOaYUjOgR1pY5pmbJx"),
    ):
        entry, url = WEIGHTS[name], f"https://drive.google.com/uc?id={number}"
        assert entry.also == (f"{hashlib.md5(url.encode()).hexdigest()}_{entry.file}",)  # drive.py:36-43
        assert f"{url}#{entry.file}" in entry.urls and all(number in each for each in entry.urls[:2])
        assert "never seen" in entry.note and "commercial" in entry.licence
    assert {WEIGHTS[name].instead for name in ("pulse_synthesis", "pulse_mapping")} == {"stylegan_ffhq_for_g_all"}


def test_unknown_name():
    with pytest.raises(ValueError, match="expected a checkpoint of alexnet, .* got 'alexnett'"):
        fetch("alexnett")


def test_entries_are_complete():
    for entry in WEIGHTS.values():
        assert entry.licence and entry.note and len(entry.sha256) in (0, 8, 64)
        assert all(url.startswith("https://") and url.endswith(entry.file) for url in entry.urls)
        if entry.urls and entry.sha256 and "-" in entry.file:  # torchvision's convention
            assert entry.file.removesuffix(".pth").rsplit("-", 1)[1] == entry.sha256[:8]


def test_known_file_of_the_reference_data(shared, monkeypatch):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data" / "weights"))
    state = load_state(fetch("alexnet_features"))
    assert len(state) == 10 and sum(value.numel() for value in state.values()) == 2_469_696


# ---- embedded


def test_embedded_checkpoints_are_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "EMBEDDED", tmp_path)
    with pytest.raises(ValueError, match="no embedded checkpoint 'flow': expected one of none"):
        embedded("flow")
    path = write_state(tmp_path / "flow.safetensors")
    with pytest.raises(ValueError, match="SHA256SUMS"):
        embedded("flow")
    (tmp_path / "SHA256SUMS").write_text(f"{sha256_of(path)}  flow.safetensors\n")
    assert embedded("flow") == path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # loads without an error, with another value
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    load_state(path)
    with pytest.raises(ValueError, match="flow.safetensors: expected SHA-256"):
        embedded("flow")


def test_every_embedded_checkpoint_of_the_repository():
    for path in store.EMBEDDED.glob("*.safetensors"):
        assert embedded(path.stem) == path and load_state(path)
        assert path.stat().st_size <= 8_000_000


def test_safetensors_that_begin_like_a_web_page_are_opened(tmp_path):
    """The file begins with the length of its header: 15,392 bytes are written as a space and "<"."""
    path = tmp_path / "x.safetensors"
    save_file(STATE, path, {"pad": ""})
    missing = 15_392 - int.from_bytes(path.read_bytes()[:8], "little")
    save_file(STATE, path, {"pad": "x" * missing})
    assert path.read_bytes()[:8] == b" <" + bytes(6)
    assert load_state(path).keys() == STATE.keys()


# ---- which notebook needs what


@pytest.mark.parametrize("notebook", sorted(path.stem for path in (profiles.NOTEBOOKS / "paper").glob("*.yaml")))
def test_needed_has_every_file_that_a_profile_lacks(notebook, monkeypatch):
    monkeypatch.setattr(store, "locate", lambda name: None)
    lacking = " ".join(profiles.lacking(profiles.parameters(notebook)))
    named = {name for name, entry in WEIGHTS.items() if f"{entry.file} is missing" in lacking}
    needed = {name for name, entry in WEIGHTS.items() if notebook[:2] in entry.needed}
    assert named == needed, f"see `needed` in weights.table, {notebook[:2]}"


def test_needed_names_notebooks_that_exist():
    numbers = {number for entry in WEIGHTS.values() for number in entry.needed}
    assert numbers <= {path.stem[:2] for path in profiles.NOTEBOOKS.glob("[0-9]*.ipynb")}
    assert "00" not in numbers and "05" in WEIGHTS["pulse_synthesis"].needed
