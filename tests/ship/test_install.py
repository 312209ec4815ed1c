"""`updater install`: a host's root, its launcher and its unit, all below a directory that stands for /."""

import configparser
import json
import os
import shutil
import subprocess
import sys

import pytest

from helpers.packaged import configure, libraries, unpacked
from helpers.trees import snapshot
from lab.fleet import end_all_of, until
from ship.pyz import HERE
from updater import __version__
from updater.errors import Misconfigured
from updater.self_update.install_package import InstallOptions, install

UNIT = "etc/systemd/system/ops-updater.service"
ROOT = "opt/ops-updater"


@pytest.fixture
def host(tmp_path):
    """What stands for / of a host."""
    directory = tmp_path / "host"
    directory.mkdir()
    yield directory
    end_all_of(directory)


@pytest.fixture
def package(warm, tmp_path):
    """A package that was started before, so that these tests do not wait for that."""
    return shutil.copytree(warm, tmp_path / "package", copy_function=os.link)


@pytest.fixture
def installing(package, bare, host):
    def run(*arguments):
        return bare.run(package / "control", "install", "--destdir", host, *arguments)

    return run


def test_it_makes_a_host_ready(installing, host):
    done = installing("--server", "meta.example:2000")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"wrote {host}/{ROOT}/cfg.json",
        f"wrote {host}/{ROOT}/ops-updater/{__version__}",
        f"wrote {host}/{ROOT}/ops-updater/.version",
        f"wrote {host}/{ROOT}/run",
        f"wrote {host}/{UNIT}",
        "next: systemctl daemon-reload && systemctl enable --now ops-updater",
    ]
    root = host / ROOT
    assert json.loads((root / "cfg.json").read_text())["server"] == "meta.example:2000"
    assert (root / "ops-updater" / ".version").read_text() == f"{__version__}\n"
    assert (root / "run").stat().st_mode & 0o777 == 0o755
    assert os.access(root / "ops-updater" / __version__ / "control", os.X_OK)
    assert "ExecStart=/opt/ops-updater/run\n" in (host / UNIT).read_text()


def test_a_second_run_changes_nothing_and_says_so(installing, host):
    installing("--server", "meta.example:2000")
    before = snapshot(host, host / "nothing")
    done = installing("--server", "other.example:2000")
    assert done.returncode == 0
    assert "wrote" not in done.stdout
    assert "\nnothing to change\n" in done.stdout
    assert snapshot(host, host / "nothing") == before


def test_the_agents_umask_is_not_the_installing_persons(package, bare, host):
    command = f"umask 077; exec '{package}/control' install --destdir '{host}' --server meta:2000"
    assert bare.run("sh", "-c", command).returncode == 0
    modes = {path.relative_to(host): oct(path.stat().st_mode & 0o777) for path in host.rglob("*")}
    assert set(modes.values()) == {"0o755", "0o644"}


def test_a_configuration_is_never_written_over(installing, host):
    (host / ROOT).mkdir(parents=True)
    configure(host / ROOT)
    mine = (host / ROOT / "cfg.json").read_bytes()
    done = installing("--server", "meta.example:2000")
    assert done.returncode == 0
    assert f"kept {host}/{ROOT}/cfg.json: is there already" in done.stdout
    assert (host / ROOT / "cfg.json").read_bytes() == mine


def test_a_host_that_meta_has_upgraded_is_not_taken_back(installing, host, tarball):
    installing("--server", "meta:2000")
    agent = host / ROOT / "ops-updater"
    unpacked(tarball, agent / "9.0.0")
    (agent / ".version").write_text("9.0.0\n")
    shutil.rmtree(agent / __version__)
    done = installing()
    assert "9.0.0: is the current version, and meta decides on another" in done.stdout
    assert (agent / ".version").read_text() == "9.0.0\n"
    assert not (agent / __version__).exists()


def test_a_version_that_is_half_there_is_made_whole(installing, host, package):
    installing("--server", "meta:2000")
    version = host / ROOT / "ops-updater" / __version__
    (version / "updater.pyz").unlink()
    assert f"wrote {version}\n" in installing().stdout
    assert (version / "updater.pyz").read_bytes() == (package / "updater.pyz").read_bytes()


def test_one_version_with_two_contents_is_refused(installing, host):
    installing("--server", "meta:2000")
    (host / ROOT / "ops-updater" / __version__ / "cfg.example.json").write_text("{}")
    done = installing()
    assert done.returncode == 2
    assert "build the package as a new version" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "give the address of meta with --server HOST:PORT"),
        (("--server", "me ta"), "--server"),
        (("--server", "meta:2000", "--root", "opt"), "must be an absolute path"),
        (("--server", "meta:2000", "--root", "/opt/ops updater"), "must be an absolute path without blanks"),
        (("--server", "meta:2000", "--user", "no-such-user"), "this host has no user no-such-user"),
        (("--server", "meta:2000", "--enable"), "--enable is for the running system"),
    ],
    ids=["no server", "bad server", "relative root", "a blank", "no user", "enable"],
)
def test_what_a_person_must_change_is_said_before_anything_is_written(installing, host, arguments, why):
    done = installing(*arguments)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert list(host.iterdir()) == []


def test_a_broken_configuration_is_said_before_anything_is_written(installing, host):
    (host / ROOT).mkdir(parents=True)
    (host / ROOT / "cfg.json").write_text('{"server": "meta:2000"}')
    done = installing()
    assert done.returncode == 2
    assert "interval: is missing" in done.stderr
    assert [path.name for path in (host / ROOT).iterdir()] == ["cfg.json"]


def test_a_checkout_is_no_package(tmp_path, host):
    with pytest.raises(
        Misconfigured, match=r"not an unpacked package, it lacks cfg.example.json, control, updater.pyz"
    ):
        install(InstallOptions(tmp_path, host / "root", "meta:2000", destdir=host))


def test_only_root_writes_to_the_running_system(package, tmp_path):
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(Misconfigured, match="run it as root"):
            install(InstallOptions(package, tmp_path / "root", "meta:2000"))
    finally:
        os.seteuid(mine)
    assert not (tmp_path / "root").exists()


def test_a_user_of_its_own_owns_what_it_must_write(installing, host):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    (host / ROOT / "agent" / "1").mkdir(parents=True)
    assert installing("--server", "meta:2000", "--user", "nobody").returncode == 0
    owners = {str(p.relative_to(host / ROOT)): p.stat().st_uid != 0 for p in (host / ROOT).rglob("*")}
    assert {name for name, given in owners.items() if not given} == {"agent", "agent/1", "cfg.json", "run"}
    assert "\nUser=nobody\n" in (host / UNIT).read_text()


@pytest.mark.long
def test_a_running_updater_is_not_disturbed(installing, host, bare):
    installing("--server", "127.0.0.1:9")
    configure(host / ROOT)
    (host / ROOT / "ops-updater" / ".version").write_text("gone\n")
    with bare.started(host / ROOT / "run") as process:
        until("it works", lambda: (host / ROOT / ".updater" / "lock").read_text().strip() == str(process.pid))
        done = installing()
        process.terminate()
        process.wait(20)
    assert done.returncode == 2
    assert f"another updater (pid {process.pid}) works on" in done.stderr


# --- systemctl ----------------------------------------------------------------------------------------------------------


def enabling(bare):
    return bare.run(sys.executable, "-c", "from updater.self_update.install_package import enable; enable()")


def test_enable_has_systemd_read_the_unit_and_start_it(bare):
    bare.program("systemctl", 'echo "$@"; exit 5')
    done = enabling(bare)
    assert (done.stdout, done.returncode) == ("enable --now ops-updater.service\n", 5)


def test_enable_on_a_host_without_systemd_says_so(bare):
    bare.variables["PATH"] = str(bare.bin)
    assert "cannot run systemctl: No such file or directory; start ops-updater as" in enabling(bare).stderr


# --- the unit -----------------------------------------------------------------------------------------------------------

# Each of these would reach every agent: see docs/shipping.md.
RESTRICTS_AGENTS = (
    *("Protect", "Private", "Restrict", "SystemCall", "NoNewPrivileges", "LockPersonality", "MemoryDenyWriteExecute"),
    *("Capability", "SecureBits", "DynamicUser", "Device", "IPAddress", "NetworkNamespacePath", "RootDirectory"),
    "RemoveIPC",  # of agents that run on
    *("ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "TemporaryFileSystem", "BindPaths"),
    *("MemoryMax", "MemoryHigh", "CPUQuota", "Limit"),
)


# What no agent for monitoring, deploying or naming has a use for. RestrictRealtime and LockPersonality imply NoNewPrivileges
# for another user than root.
TAKEN = {
    "KeyringMode": "private",
    "CapabilityBoundingSet": "~CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_LEASE CAP_SYS_TTY_CONFIG CAP_MAC_OVERRIDE",
    "LockPersonality": "yes",
    "RestrictRealtime": "yes",
}


@pytest.fixture
def unit(installing, host):
    installing("--server", "meta:2000")
    return parsed(host)


def parsed(host):
    parser = configparser.ConfigParser(strict=True, interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str
    parser.read(host / UNIT)
    return parser


def restricting(service):
    """What a service takes from the agents; its number of open files is more than the usual one."""
    return {key: value for key, value in service.items() if key.startswith(RESTRICTS_AGENTS) and key != "LimitNOFILE"}


def test_the_unit_restarts_the_updater_and_never_the_agents(unit):
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    service = unit["Service"]
    assert (service["Restart"], service["KillMode"], service["OOMPolicy"]) == ("always", "process", "continue")
    assert int(service["TimeoutStopSec"]) >= 150
    assert service["UMask"] == "0022"
    assert service["TasksMax"] == "infinity"
    assert service["LimitNOFILE"] == "65536:524288"
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_the_unit_takes_from_the_agents_only_what_nobody_misses(unit):
    service = unit["Service"]
    assert restricting(service) | {"KeyringMode": service["KeyringMode"]} == TAKEN


def test_for_another_user_than_root_nothing_implies_no_new_privileges(installing, host):
    installing("--server", "meta:2000", "--user", "nobody")
    assert list(restricting(parsed(host)["Service"])) == ["CapabilityBoundingSet"]


def test_hardened_is_a_drop_in_beside_the_unit(installing, host):
    assert installing("--server", "meta:2000").returncode == 0
    done = installing("--hardened")
    drop_in = host / f"{UNIT}.d" / "hardened.conf"
    assert f"wrote {drop_in}\n" in done.stdout
    text = drop_in.read_text()
    assert "\nReadWritePaths=/opt/ops-updater\n" in text
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "SystemCallFilter=@system-service", "ProtectHome=yes"):
        assert f"\n{line}\n" in text
    assert "@" not in text.replace("@system-service", "")
    assert installing("--hardened").stdout.count("wrote") == 0
    done = installing()
    assert f"kept {drop_in}: is there already; remove it if it is not wanted\n" in done.stdout
    assert drop_in.read_text() == text


@pytest.mark.parametrize("root", ["/home/ops", "/root", "/tmp/ops-updater"])
def test_a_root_that_a_hardened_unit_would_not_see_is_refused(installing, host, root):
    done = installing("--server", "meta:2000", "--root", root, "--hardened")
    assert done.returncode == 2
    assert f"choose another --root than {root}" in done.stderr
    assert list(host.iterdir()) == []


def test_the_unit_names_each_thing_that_it_leaves_out_and_so_do_the_docs():
    text = (HERE / "templates" / "ops-updater.service").read_text()
    docs = (HERE.parent / "docs" / "shipping.md").read_text()
    for key in ("NoNewPrivileges", "ProtectSystem", "PrivateTmp", "SystemCallFilter", "CapabilityBoundingSet"):
        assert key in text
        assert key in docs


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="no systemd-analyze here: the tests above parse the unit"
)
@pytest.mark.parametrize("options", [(), ("--hardened",)], ids=["usual", "hardened"])
def test_systemd_understands_the_unit(installing, host, tmp_path, options):
    installing("--server", "meta:2000", *options)
    text = (host / UNIT).read_text()
    if options:
        drop_in = (host / f"{UNIT}.d" / "hardened.conf").read_text().replace("[Service]\n", "")
        text = text.replace("[Install]", f"{drop_in}\n[Install]")
    file = tmp_path / "ops-updater.service"
    file.write_text(text.replace("/opt/ops-updater", f"{host}/{ROOT}"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- the launcher -------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    """A root with the launcher, and with 1.0.0 and 1.0.1, whose controls only say which they are."""
    root = tmp_path / "a root"
    for version in ("1.0.0", "1.0.1"):
        directory = root / "ops-updater" / version
        directory.mkdir(parents=True)
        (directory / "control").write_text(f'#!/bin/sh\necho "{version} $*"\n')
        (directory / "control").chmod(0o755)
        (directory / "updater.pyz").touch()
    shutil.copy(HERE / "templates" / "run", root / "run")
    return root


@pytest.fixture
def launch(root, bare):
    return lambda: bare.run(root / "run")


def mark(root, version, at):
    marker = root / "ops-updater" / version / ".installed"
    marker.write_text("{}")
    os.utime(marker, (at, at))


@pytest.mark.parametrize("content", ["1.0.1\n", "1.0.1", "1.0.1 \n"])
def test_the_launcher_starts_the_version_that_is_named(root, launch, content):
    (root / "ops-updater" / ".version").write_text(content)
    done = launch()
    assert (done.returncode, done.stdout, done.stderr) == (0, "1.0.1 run\n", "")


@pytest.mark.parametrize(
    "content", ["", "\n", "2.0.0\n", "../x\n", "/bin\n", ".\n", "*\n", "1.0.0/../1.0.0\n", "-n\n", "a b\n", "$(id)\n"]
)
def test_a_version_that_is_not_there_is_replaced_by_the_newest_that_is(root, launch, content):
    mark(root, "1.0.0", 2000)
    mark(root, "1.0.1", 1000)
    (root / "ops-updater" / ".version").write_text(content)
    done = launch()
    assert done.stdout == "1.0.0 run\n"
    assert done.stderr.startswith(f"run: {root}/ops-updater/.version names '{content.strip()}'")
    assert done.stderr.endswith("starting 1.0.0 instead\n")


def test_a_version_without_its_file_is_not_complete(root, launch):
    mark(root, "1.0.0", 2000)
    mark(root, "1.0.1", 1000)
    (root / "ops-updater" / "1.0.0" / "updater.pyz").unlink()
    assert launch().stdout == "1.0.1 run\n"


def test_a_missing_version_file_is_no_end(root, launch):
    mark(root, "1.0.1", 1000)
    assert launch().stdout == "1.0.1 run\n"


def test_the_only_version_is_taken_even_if_it_was_never_marked(root, launch):
    (root / "ops-updater" / ".version").write_text("gone\n")
    shutil.rmtree(root / "ops-updater" / "1.0.1")
    assert launch().stdout == "1.0.0 run\n"


def test_of_several_that_were_never_marked_none_is_guessed(root, launch):
    (root / "ops-updater" / ".version").write_text("gone\n")
    done = launch()
    assert (done.returncode, done.stdout) == (2, "")
    assert "no complete version is left" in done.stderr


@pytest.mark.long
def test_the_installed_launcher_becomes_the_updater(installing, host, bare):
    installing("--server", "meta:2000")
    configure(host / ROOT)
    control = host / ROOT / "ops-updater" / __version__ / "control"
    with bare.started(host / ROOT / "run") as process:
        until("it runs", lambda: bare.run(control, "status").stdout == "started\n")
        assert bare.run(control, "pid").stdout == f"{process.pid}\n"
        assert len(libraries(control.parent)) == 1
        seen = bare.run(control.parent / "updater.pyz", "status", "-c", host / ROOT / "cfg.json")
        assert seen.stdout == f"ops-updater {__version__} started\n"
        process.terminate()
        process.wait(20)
