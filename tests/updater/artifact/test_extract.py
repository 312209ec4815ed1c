"""The unpacker against every archive we could think of: what comes out, and what must never."""

import io
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.archives import MANIFEST, OK
from helpers.good_archives import CONTROL_SCRIPT, Tree
from helpers.tarbytes import CONTROL, directory, file, gz, hard_link, symlink, tar
from helpers.trees import listing
from helpers.unpacking import Host
from updater.artifact import gzip_stream
from updater.artifact.extract import opened, unpack
from updater.errors import Refused

INFLATERS = pytest.mark.parametrize(
    "inflater", [gzip_stream.fastest, gzip_stream.plain], ids=lambda inflater: inflater.__name__
)
GOOD = [name for name, case in MANIFEST.items() if case.verdict == OK]
HOSTILE = [name for name in MANIFEST if name not in GOOD]

# A good archive with one of everything, and the tree in it.
SOME_TAR = tar(
    CONTROL,
    directory("lib/"),
    file("lib/help", b"".join(b"%d: a line of help\n" % n for n in range(300))),
    file("lib/noise", random.Random(1).randbytes(3000)),
    symlink("help", "lib/help"),
    hard_link("lib/control", "control", 0o755),
)
SOME_GZ = gz(SOME_TAR)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@INFLATERS
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(host: Host, name: str, inflater) -> None:
    with pytest.raises(Refused) as refused:
        host.unpack(MANIFEST[name].build(), decompressor=inflater)
    assert MANIFEST[name].verdict in str(refused.value)


@INFLATERS
@pytest.mark.parametrize("name", GOOD)
def test_a_good_archive_unpacks_to_what_it_holds(host: Host, name: str, inflater) -> None:
    unpacked = host.unpack(MANIFEST[name].build(), decompressor=inflater, durable=True)
    tree = listing(host.into)
    assert tree == MANIFEST[name].tree
    assert unpacked.members == len(tree)


@pytest.mark.parametrize("name", GOOD)
def test_gnu_tar_finds_the_same_in_it(host: Host, name: str) -> None:
    host.unpack(MANIFEST[name].build())
    theirs = host.top / "theirs"
    theirs.mkdir()
    subprocess.run(["tar", "-xzf", host.tarball, "-C", theirs], stderr=subprocess.DEVNULL, check=False)
    assert _contents(theirs) == _contents(host.into)


@pytest.mark.parametrize("kind", ["gnu", "oldgnu", "ustar", "posix"])
@pytest.mark.parametrize("what", [".", "*"])
def test_what_gnu_tar_packs_unpacks_to_the_same(host: Host, kind: str, what: str) -> None:
    source = host.top / "source"
    (source / "lib" / ("deep-" * 12) / ("deeper-" * 10)).mkdir(parents=True)
    (source / "control").write_bytes(CONTROL_SCRIPT)
    (source / "control").chmod(0o750)
    (source / "lib" / ("deep-" * 12) / ("deeper-" * 10) / "file").write_bytes(b"x" * 70_000)
    (source / "lib" / "é").write_bytes(b"")
    (source / "run").hardlink_to(source / "control")
    (source / "help").symlink_to("lib/é")
    packed = subprocess.run(
        f"tar -cz --format={kind} -C {source} {what}", shell=True, cwd=source, stdout=subprocess.PIPE
    )
    host.unpack(packed.stdout)
    assert _contents(host.into) == _contents(source)
    assert (host.into / "run").samefile(host.into / "control")


def _contents(top: Path) -> dict[str, object]:
    return {
        str(path.relative_to(top)): path.readlink()
        if path.is_symlink()
        else None
        if path.is_dir()
        else path.read_bytes()
        for path in top.rglob("*")
    }


@pytest.mark.parametrize("kind", ["gnu", "oldgnu", "posix"])
def test_a_sparse_file_is_called_one_as_gnu_tar_packs_it(host: Host, kind: str) -> None:
    (host.top / "source").mkdir()
    with (host.top / "source" / "hole").open("wb") as hole:
        hole.truncate(1 << 20)
    packed = subprocess.run(
        ["tar", "-Scz", f"--format={kind}", "-C", host.top / "source", "hole"], stdout=subprocess.PIPE
    )
    with pytest.raises(Refused, match="a sparse file: pack it without --sparse"):
        host.unpack(packed.stdout)


def test_no_refusal_of_one_archive_is_like_the_next(host: Host) -> None:
    """A refusal names the member, so that the release engineer finds it."""
    with pytest.raises(Refused, match=r'^member "lib/\.\./\.\./x" has a part "\.\."$'):
        host.unpack(gz(tar(CONTROL, file("lib/../../x"))))


@INFLATERS
def test_an_archive_cut_anywhere_is_refused(host: Host, inflater) -> None:
    for length in range(0, len(SOME_GZ), len(SOME_GZ) // 100):
        with pytest.raises(Refused):
            host.unpack(SOME_GZ[:length], decompressor=inflater)


def test_a_tar_cut_anywhere_is_refused(host: Host) -> None:
    for length in range(0, len(SOME_TAR), len(SOME_TAR) // 100):
        with pytest.raises(Refused):
            host.unpack(gz(SOME_TAR[:length], 1))


@pytest.mark.long
@INFLATERS
def test_a_flipped_bit_is_refused_unless_it_means_nothing(host: Host, inflater) -> None:
    """gzip's header has bits without a meaning for us (time, system); all others are covered by a CRC."""
    flips, harmless = random.Random(2), 0
    good = _unpacked_tree(host, SOME_GZ)
    for bit in [*range(80), *(flips.randrange(80, len(SOME_GZ) * 8) for _ in range(200))]:
        flipped = bytearray(SOME_GZ)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert _unpacked_tree(host, bytes(flipped), inflater) == good, f"bit {bit} changed the tree"
            harmless += 1
        except Refused:
            assert bit // 8 not in (4, 5, 6, 7, 9), f"bit {bit} means nothing"
    assert harmless <= 56, "a bit outside of gzip's header passed"


def _unpacked_tree(host: Host, data: bytes, inflater=gzip_stream.fastest) -> Tree:
    host.unpack(data, decompressor=inflater)
    tree = listing(host.into)
    shutil.rmtree(host.into)
    return tree


def test_a_tar_with_a_flipped_bit_never_harms(host: Host) -> None:
    """Here the CRC is right, as an attacker would make it: what comes out must be a clean tree or a refusal."""
    flips, refused = random.Random(3), 0
    headers = [at for at in range(0, len(SOME_TAR), 512) if SOME_TAR[at + 257 : at + 262] == b"ustar"]
    for _ in range(200):
        flipped = bytearray(SOME_TAR)
        bit = flips.choice(headers) * 8 + flips.randrange(512 * 8)
        flipped[bit // 8] ^= 1 << bit % 8
        start = bit // 4096 * 512
        flipped[start + 148 : start + 156] = b" " * 8
        flipped[start + 148 : start + 156] = b"%06o\0 " % sum(flipped[start : start + 512])
        try:
            _unpacked_tree(host, gz(bytes(flipped), 1))
        except Refused:
            refused += 1
    assert 50 < refused < 200


PARTS = st.text("abB0é日_-+ .\\", min_size=1, max_size=12).filter(
    lambda part: part.strip(" ") == part and part not in (".", "..") and not part.startswith("._")
)
TREES = st.recursive(st.binary(max_size=2000), lambda below: st.dictionaries(PARTS, below, max_size=4), max_leaves=12)


@settings(max_examples=80)
@given(
    st.dictionaries(PARTS, TREES, max_size=5),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from(["", "./"]),
    st.booleans(),
)
def test_any_small_tree_comes_out_as_it_went_in(tmp_path_factory, tree, kind, prefix, listed) -> None:
    top = tmp_path_factory.mktemp("tree")
    expected: Tree = {"control*": CONTROL_SCRIPT, **_flat(tree)}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=kind, compresslevel=1) as archive:
        for name, data in expected.items():
            member = tarfile.TarInfo(prefix + name.rstrip("*/"))
            member.mode = 0o755 if name.endswith("*") else 0o644
            if isinstance(data, bytes):
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            elif listed or sum(other.startswith(name) for other in expected) == 1:  # else it is implied
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
    (top / "tarball").write_bytes(made.getvalue())
    with opened(top / "tarball") as file:
        unpack(file, top / "new", durable=False)
    assert listing(top / "new") == expected
    shutil.rmtree(top)


def _flat(tree: dict, above: str = "") -> Tree:
    flat: Tree = {}
    for name, content in tree.items():
        if isinstance(content, bytes):
            flat[above + name] = content
        else:
            flat |= {f"{above}{name}/": None, **_flat(content, f"{above}{name}/")}
    return flat
