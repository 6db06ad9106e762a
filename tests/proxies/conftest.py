import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxies import Proxies, TwoHosts


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    """Proxies to start. Their place is not below pytest's directory, which only its owner may enter."""
    with tempfile.TemporaryDirectory(prefix="proxies-") as name:
        if os.geteuid() == 0:
            shutil.chown(name, "nobody")
        Path(name).chmod(0o755)
        proxies = Proxies(Path(name))
        yield proxies
        proxies.close()


@pytest.fixture
def two_hosts() -> Iterator[TwoHosts]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    try:
        hosts = TwoHosts()
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")
    yield hosts
    hosts.close()
