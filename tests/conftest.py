import os
import warnings
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the suite runs one process a core
SHARED = os.environ.get("IDA_RD_SHARED")
LONG = ("test_nb_", "test_embedded", "test_devices", "test_upscalers_pulse", "test_faults", "test_runs_")
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()


def pytest_collection_modifyitems(items: list) -> None:
    """Files that take half a minute come first, so that the processes of `make test` end together."""
    items.sort(key=lambda item: not item.path.name.startswith(LONG))


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Tests that draw without a generator of their own draw the same numbers each time."""
    torch.manual_seed(0)


@pytest.fixture
def shared() -> Path:
    """Folder with the reference vectors and photographs that do not come with the repository."""
    if not SHARED:
        pytest.skip("needs the reference data: set IDA_RD_SHARED")
    return Path(SHARED)


@pytest.fixture
def figure_style():
    """The project's style for a test, and no figure left open after it."""
    import matplotlib.pyplot as plt

    from helpers import figures

    with plt.rc_context():
        figures.use_style()
        yield
    plt.close("all")


@pytest.fixture(params=DEVICES)
def device(request) -> torch.device:
    """Every kind of device that this machine has."""
    return torch.device(request.param)


def pytest_terminal_summary(terminalreporter):
    skipped = sum("IDA_RD_SHARED" in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    where = f"IDA_RD_SHARED={SHARED}" if SHARED else "IDA_RD_SHARED is not set"
    terminalreporter.write_line(f"{where}: {skipped} tests that need the reference data were skipped")


@pytest.fixture(autouse=True)
def no_autocast_of_another_test():
    """Start each test without autocast, and say so where an earlier test of the process has left one open."""
    left = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    torch.autocast_increment_nesting()
    depth = torch.autocast_decrement_nesting()
    if left or depth:
        warnings.warn(f"an earlier test left {depth} autocasts open, on {', '.join(left) or 'no device'}", stacklevel=1)
        for kind in left:
            torch.set_autocast_enabled(kind, False)
        for _ in range(depth):
            torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
