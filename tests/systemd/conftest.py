"""One systemd for all tests here, with the shipped units installed as the guide says."""

import itertools
from collections.abc import Iterator

import pytest

from systemd_container import UNITS, Box, Service, why_not

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    if reason := why_not():
        pytest.skip(reason)
    box = Box()
    try:
        box.boot()
        for unit in ("asgi-master@.service", "asgi-master@.socket"):
            box.write(f"/etc/systemd/system/{unit}", (UNITS / unit).read_text())
        if box.version < 253:
            drop_in = (UNITS / "drop-ins/notify.conf").read_text()
            box.write("/etc/systemd/system/asgi-master@.service.d/notify.conf", drop_in)
        box.write("/etc/sysusers.d/asgi-master.conf", (UNITS / "asgi-master.sysusers").read_text())
        box.write("/etc/tmpfiles.d/asgi-master.conf", (UNITS / "asgi-master.tmpfiles").read_text())
        box.run("systemd-sysusers")
        box.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/asgi-master.conf")
        box.run("systemctl", "daemon-reload")
        yield box
    finally:
        box.close()


@pytest.fixture
def service(box: Box) -> Iterator[Service]:
    """An instance of the unit, to be deployed and started."""
    service = Service(box, f"app{next(_numbers)}")
    yield service
    service.close()
