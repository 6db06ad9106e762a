"""The certificates' files as they change: taken together and once, or refused and told once."""

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from asgi_master.errors import SettingsError
from asgi_master.master.certificates import Certificates, check
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.upgrade_state import StateSection
from asgi_master.settings.model import Settings, SocketSettings, TlsSettings
from asgi_master.tls.bundle import Bundle, read_bundle
from certificates import Authority, put

AUTHORITY = Authority()
SECURE = SocketSettings(bind=("https://127.0.0.1:0",))


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Fleet:
    """What `Certificates` asks of the children."""

    def __init__(self, *settings):
        self.settings = settings
        self.given = []
        self.takes = True

    def settings_by_generation(self):
        return dict(enumerate(self.settings, 1))

    def give_certificates(self, generations, fd):
        self.given.append((generations, Bundle.of_memory(fd)))
        return self.takes


class World:
    def __init__(self, directory, *, days=None):
        self.directory = directory
        self.clock = Clock()
        settings = Settings(tls=AUTHORITY.write(directory, "site", days=days), sockets=SECURE)
        self.running = RunningSettings(settings)
        self.fleet = Fleet(settings)
        self.certificates = Certificates(self.fleet, self.running, directory, self.clock)

    @property
    def settings(self):
        return self.running.current

    def load(self):
        self.certificates.load(self.settings)
        return self

    def pass_time(self, seconds):
        for _ in range(int(seconds * 2)):
            self.clock.now += 0.5
            self.certificates.sweep()

    def bundle(self):
        return Bundle.of_memory(self.certificates.descriptor(self.settings.tls))


@pytest.fixture
def world(tmp_path, caplog):
    caplog.set_level(logging.INFO, "asgi_master")
    world = World(tmp_path)
    yield world.load()
    world.certificates.close()


def told(caplog):
    return [record.getMessage() for record in caplog.records]


def test_while_nothing_changes_nothing_happens(world, caplog):
    world.pass_time(60)
    assert world.fleet.given == []
    assert told(caplog) == []


def test_new_files_go_to_the_workers_once(world, caplog):
    AUTHORITY.write(world.directory, "site")
    world.pass_time(4)
    ((generations, bundle),) = world.fleet.given
    assert generations == {1}
    assert bundle.pairs[0].certificate == (world.directory / "site.pem").read_text()
    assert bundle == world.bundle(), "workers that come later get them too"
    (line,) = told(caplog)
    assert line.startswith("TLS: certificates renewed: site.pem until ")
    world.pass_time(60)
    assert len(world.fleet.given) == 1


def test_workers_that_could_not_be_notified_are_notified_later(world, caplog):
    world.fleet.takes = False
    AUTHORITY.write(world.directory, "site")
    world.pass_time(6)
    assert len(world.fleet.given) > 2
    assert sum("it is retried" in line for line in told(caplog)) == 1
    world.fleet.takes = True
    world.pass_time(2)
    told_so_far = len(world.fleet.given)
    world.pass_time(60)
    assert len(world.fleet.given) == told_so_far
    assert world.fleet.given[-1][1] == world.bundle()


def test_a_half_written_pair_is_waited_out(world, caplog):
    before = world.bundle()
    key = (world.directory / "site.key").read_text()
    AUTHORITY.write(world.directory, "site")
    new_key = (world.directory / "site.key").read_text()
    put(world.directory / "site.key", key)
    world.pass_time(3)
    assert world.bundle() == before
    assert told(caplog) == []
    put(world.directory / "site.key", new_key)
    world.pass_time(3)
    assert len(world.fleet.given) == 1
    assert world.bundle().pairs[0].key == new_key


def test_a_bad_file_is_refused_and_logged_once(world, caplog):
    before = world.bundle()
    put(world.directory / "site.pem", "not a certificate")
    world.pass_time(60)
    (line,) = told(caplog)
    assert line == (
        "TLS: the changed certificates are refused, the old ones stay in use: "
        'certfile: "site.pem" holds no certificate in PEM'
    )
    assert world.fleet.given == []
    assert world.bundle() == before
    # Another bad one is told again, and a good one ends it.
    (world.directory / "site.pem").unlink()
    world.pass_time(60)
    assert len(told(caplog)) == 2
    assert "No such file" in told(caplog)[1]
    AUTHORITY.write(world.directory, "site")
    world.pass_time(3)
    assert len(world.fleet.given) == 1


def test_files_that_come_back_as_they_were_change_nothing(world, caplog):
    text = (world.directory / "site.pem").read_text()
    put(world.directory / "site.pem", "not a certificate")
    world.pass_time(2)
    put(world.directory / "site.pem", text)
    world.pass_time(60)
    assert told(caplog) == []
    assert world.fleet.given == []


@pytest.fixture
def reading(monkeypatch):
    """What reading the files fails with; nothing at first."""
    fails_with = []

    def read(tls, directory):
        if fails_with:
            raise SettingsError(list(fails_with))
        return read_bundle(tls, directory)

    monkeypatch.setattr("asgi_master.master.certificates.read_bundle", read)
    return fails_with


def test_new_files_that_may_be_read_only_later(world, reading):
    """Tests may run as root, who may read all: so it is this process that refuses."""
    reading.append("Permission denied")
    AUTHORITY.write(world.directory, "site")
    world.pass_time(10)
    reading.clear()
    (world.directory / "site.key").chmod(0o640)
    world.pass_time(3)
    assert len(world.fleet.given) == 1


def test_passing_trouble_is_logged_once_and_survived(world, reading, caplog):
    reading.append("Too many open files")
    AUTHORITY.write(world.directory, "site")
    world.pass_time(100)
    (line,) = told(caplog)
    assert line.endswith("Too many open files")
    # Another is worth a word.
    reading[:] = ["Input/output error"]
    world.pass_time(100)
    assert len(told(caplog)) == 2
    reading.clear()
    world.pass_time(31)
    assert len(world.fleet.given) == 1
    assert "renewed" in told(caplog)[2]


def test_without_a_descriptor_for_them_the_old_ones_stay_until_there_is_one(world, monkeypatch, caplog):
    def to_memory(_bundle):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    AUTHORITY.write(world.directory, "site")
    with monkeypatch.context() as patched:
        patched.setattr(Bundle, "to_memory", to_memory)
        world.pass_time(60)
        with pytest.raises(SettingsError, match="Too many open files"):
            world.load()
    assert world.fleet.given == []
    assert len(told(caplog)) == 1
    world.pass_time(31)
    assert len(world.fleet.given) == 1


def test_a_directory_that_is_switched_as_kubernetes_does(tmp_path, caplog):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        AUTHORITY.write(tmp_path / name, "tls")
    (tmp_path / "now").symlink_to("one")
    world = World(tmp_path)
    tls = TlsSettings(certfile=("now/tls.pem",), keyfile=("now/tls.key",))
    world.running.propose(replace(world.settings, tls=tls))
    world.fleet.settings = (world.settings,)
    world.load()
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "now")
    world.pass_time(3)
    ((_generations, bundle),) = world.fleet.given
    assert bundle.pairs[0].certificate == (tmp_path / "two/tls.pem").read_text()
    world.certificates.close()


def test_a_reload_reads_at_once(world):
    AUTHORITY.write(world.directory, "site")
    world.load()
    assert len(world.fleet.given) == 1
    put(world.directory / "site.key", "")
    before = world.bundle()
    with pytest.raises(SettingsError, match="holds no private key"):
        world.load()
    assert world.bundle() == before


def test_generations_have_their_own(world):
    other = replace(world.settings, tls=AUTHORITY.write(world.directory, "other"))
    world.certificates.load(other)
    old = world.settings
    world.running.propose(other)
    world.fleet.settings = (old, other)
    assert world.fleet.given == []
    AUTHORITY.write(world.directory, "site")
    world.pass_time(3)
    assert [generations for generations, _bundle in world.fleet.given] == [{1}]
    fd = world.certificates.descriptor(old.tls)
    world.fleet.settings = (other,)
    world.pass_time(3)
    with pytest.raises(KeyError):
        world.certificates.descriptor(old.tls)
    with pytest.raises(OSError):
        os.fstat(fd)
    assert world.certificates.descriptor(other.tls) >= 0


@pytest.mark.parametrize(
    ("days", "level", "text"), [(13, "WARNING", "in 13 day(s); renew it"), (0, "WARNING", "in 0 day(s)")]
)
def test_a_near_expiry_is_logged_at_the_start_and_daily(tmp_path, caplog, days, level, text):
    world = World(tmp_path, days=days).load()
    (record,) = caplog.records
    assert record.levelname == level
    assert text in record.getMessage()
    world.certificates.sweep()
    world.pass_time(3600)
    first_day = len(caplog.records)
    assert first_day == 1
    world.clock.now += 24 * 3600
    world.certificates.sweep()
    assert len(caplog.records) == first_day + 1
    world.certificates.close()


def test_one_that_has_ended_is_an_error_and_serves_on(tmp_path, caplog):
    world = World(tmp_path, days=-3).load()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "clients refuse it" in told(caplog)[0]
    world.certificates.close()


def test_an_end_that_is_far_is_not_told(tmp_path, caplog):
    world = World(tmp_path, days=15).load()
    world.pass_time(10)
    assert told(caplog) == []
    world.certificates.close()


def test_across_an_upgrade(world):
    left = copy_of(world.certificates.export_state())
    put(world.directory / "site.pem", "broken meanwhile")
    after = Certificates(world.fleet, world.running, world.directory, world.clock).import_state(left)
    assert Bundle.of_memory(after.descriptor(world.settings.tls)) == world.bundle()
    after.close()


def copy_of(section):
    """The section as the next program finds it, with descriptors of its own."""
    values = {"loaded": [{**known, "fd": os.dup(known["fd"])} for known in section.values["loaded"]]}
    return StateSection(values, {str(known["fd"]): known["fd"] for known in values["loaded"]})


def test_without_tls_nothing_is_read(tmp_path):
    settings = Settings(tls=TlsSettings(certfile=("missing.pem",)))
    assert check(settings, tmp_path) == []
    certificates = Certificates(Fleet(settings), RunningSettings(settings), Path(tmp_path))
    certificates.load(settings)
    certificates.sweep()
    certificates.close()


def descriptors():
    return set(Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left(tmp_path):
    before = descriptors()
    world = World(tmp_path).load()
    for _ in range(3):
        AUTHORITY.write(tmp_path, "site")
        world.pass_time(3)
    world.certificates.close()
    assert descriptors() <= before
