"""The house rules that a program can keep: who imports whom, one door per effect, pure modules, small modules."""

import ast
import re
import subprocess
from collections import Counter
from configparser import ConfigParser
from functools import cache
from inspect import cleandoc
from pathlib import Path

import pytest

from helpers.effects import PROCESS, READ, WRITE, effects

ROOT = Path(__file__).parents[1]
MODULES = {str(p.relative_to(ROOT)): p for room in ("updater", "meta") for p in sorted((ROOT / room).rglob("*.py"))}
LONGEST_MODULE, LONGEST_FUNCTION = 300, 50
LEFTOVERS = ("*.orig", "*.rej", "*.bak", "*~", ".*.sw[a-p]")  # of merges, patches and editors

OLD_WORDS = re.compile(r"\b(anew|nobody|whoever|shall|beside)\b", re.IGNORECASE)
OLD_WORDS_IN_CODE = re.compile(
    r"\b(anew|nobody|somebody|whoever|whatever|shall|beside|meanwhile|of ours)\b", re.IGNORECASE
)

LONGEST_SENTENCE = 32  # words of a docstring's sentence

# What only these modules may import or call: one door per effect.
DOORS = {
    "requests": {"updater/net/http.py", "meta/cli/client.py"},
    "urllib3": {"updater/net/http.py", "updater/net/connection_errors.py"},
    "subprocess": {"updater/host/control_script.py"},
    "fcntl": {"updater/kernel/root_lock.py"},
    "sqlalchemy": {"meta/store/"},
    "alembic": {"meta/store/"},
    "flask": {"meta/web/", "meta/api/routes.py", "meta/api/state.py", "meta/artifacts/transfer.py"},
    "pika": {
        "meta/bridges/elves/rabbitmq/consumer.py",
        "meta/bridges/elves/rabbitmq/connection.py",
        "meta/bridges/elves/rabbitmq/publisher.py",
        "meta/bridges/elves/rabbitmq/topology.py",
    },
    "kazoo": {"meta/bridges/elves/zookeeper/"},
    "prometheus_client": {"meta/web/metrics.py", "meta/bridges/elves/counters.py"},
    "httptools": {"meta/door/protocol.py"},
    "uvloop": {"meta/process/loop_watch.py"},
    "yaml": {"meta/records/files/located_tree.py"},
    "tarfile": set(),
    "sqlite3": {"meta/store/"},
    "tempfile": {"meta/cli/steps/publishing.py"},  # unpacks as hosts do, to see whether they could
    "multiprocessing": (),
    "asyncio": {
        "meta/bridges/elves/server.py",
        "meta/bridges/elves/thrift/server.py",
        "meta/door/",
        "meta/process/loop_watch.py",
        "meta/server.py",
    },
    "http.client": {"updater/net/connection_errors.py"},  # names its errors
    "http.server": {"updater/local_api.py", "meta/bridges/elves/http.py"},
    **dict.fromkeys(("urllib.request", "socketserver", "ftplib", "smtplib", "pty", "importlib", "runpy"), ()),
}
# What changes the disk or starts processes; the other doors for bytes go through `durable_files`.
EFFECT_DOORS = {
    WRITE: {
        "updater/durable_files.py",
        "updater/kernel/root_lock.py",
        "updater/artifact/extract.py",
        "updater/artifact/fsync_pool.py",
        "updater/artifact/partial_download.py",  # grows while it arrives; a crash may cut it
        "updater/host/control_script.py",  # the output of scripts, which agents append to
        "updater/self_update/install_package.py",  # gives the root to its user
        "meta/store/sqlite/files.py",
        "meta/artifacts/tarballs.py",
        "meta/cli/steps/record_files.py",  # an export into a device or a pipe, which cannot be replaced
    },
    PROCESS: {
        "updater/host/control_script.py",
        "updater/self_update/handover.py",  # becomes the new version
        "updater/self_update/install_package.py",  # becomes systemctl
        "meta/process/keep_up.py",
    },
}

# The rooms of each package, from the ground up: a room imports from lower floors alone. docs/architecture.md has the picture.
FLOORS = {
    "updater": (
        {"errors", "cached_reads"},
        {"places", "wire"},
        {"durable_files", "model"},
        {"kernel", "net"},
        {"artifact", "service"},
        {"host"},
        {"meta_client"},
        {"self_update"},
        {"reconcile"},
        {"local_api"},
        {"cli"},
        {"program"},
    ),
    "meta": (
        {"choices", "errors", "logs", "suggestions"},
        {"access", "process", "records"},
        {"hosts", "settings", "store"},
        {"edits", "heartbeat", "queries"},
        {"artifacts", "sync"},
        {"api", "service"},
        {"bridges", "door", "web"},
        {"server"},
        {"cli"},
        {"program"},
    ),
}
MOST_MODULES = 12  # in a folder

# What meta uses of the updater's package: the wire, what both services do in one way, and how files survive a crash.
SHARED = (
    "updater.wire",
    "updater.service",
    "updater.net.addresses",
    "updater.net.connection_errors",
    "updater.net.deadline",
    "updater.net.peer_values",
    "updater.durable_files",
    "updater.errors",
)
# `meta publish` refuses what hosts would refuse, so it asks their own unpacker: a second one would differ some day.
PUBLISHING = ("updater.artifact.extract", "updater.artifact.gzip_stream", "updater.artifact.runnable")

# What a library says of bad input is put into our own words in these alone.
WORDED = {"updater/wire/decode_problems.py"}

# What decides and what describes says `Pure` in its docstring, or its folder does. No path of imports leads from there to a
# clock, a disk, a thread, a log or chance: to no library but these, and to no effect.
PURE_LIBRARIES = (
    *(
        "ast",
        "base64",
        "bisect",
        "codecs",
        "collections",
        "dataclasses",
        "difflib",
        "enum",
        "fnmatch",
        "functools",
        "hashlib",
    ),
    *(
        "http.HTTPStatus",
        "io.BytesIO",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "operator",
        "pathlib",
        "re",
        "string",
        "struct",
    ),
    *("typing", "unicodedata", "urllib.parse", "weakref", "zlib"),
    *("kazoo.hosts", "msgspec", "thriftpy2", "yaml"),
)
PURE_AT_LEAST = {
    "updater/reconcile/plan.py",
    "updater/reconcile/judging.py",
    "updater/reconcile/recovery.py",
    "updater/model/memory.py",
    "meta/records/model.py",
    "meta/edits/operations.py",
    "meta/hosts/classes.py",
    "meta/cli/gate.py",
}


@cache
def text(path):
    return MODULES[path].read_text()


@cache
def nodes(path):
    """All of a module's syntax tree; the module itself is the first."""
    return list(ast.walk(ast.parse(text(path))))


def broken(rule, paths=MODULES):
    """What the rule finds in each of these modules, for those where it finds anything; a rule takes a path."""
    return {path: found for path in paths if (found := rule(path))}


@cache
def imports(path, typing_too=True):
    """The modules that this one imports, wherever in it, by their full names; those for types alone too, if wanted."""
    return frozenset(imported(nodes(path), typing_too))


def imported(tree, typing_too=True):
    found, for_types = set(), set()
    for node in tree:
        if isinstance(node, ast.If) and not typing_too and "TYPE_CHECKING" in ast.unparse(node.test):
            for_types |= set(map(id, ast.walk(node)))
    for node in tree:
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of_libraries(names, libraries):
    """Those of the names that are, or are below, one of these libraries."""
    return {name for name in names if name in libraries or name.startswith(tuple(f"{one}." for one in libraries))}


@cache
def arrows(path):
    """The modules of ours that are loaded when this one is, by path."""
    names = imports(path, typing_too=False)
    packages = {
        name.rpartition(".")[0] for name in names if _file(name)
    }  # of which a module is taken, and nothing else
    return frozenset({file for name in names if (file := _file(name)) and name not in packages} - {path})


def _file(name):
    """The path of a module of ours, "" for anything else."""
    base = name.replace(".", "/")
    return next((one for one in (f"{base}.py", f"{base}/__init__.py") if one in MODULES), "")


@cache
def reached(path):
    """All modules of ours that are loaded with this one, however long the way."""
    found, left = {path}, [path]
    while left:
        new = arrows(left.pop()) - found
        found |= new
        left += new
    return frozenset(found)


def room(path):
    """(package, its room): a folder below the package, or a module there."""
    package, _, rest = path.partition("/")
    return package, rest.partition("/")[0].removesuffix(".py")


def test_a_room_imports_from_lower_floors_alone():
    floor = {(p, one): number for p, floors in FLOORS.items() for number, rooms in enumerate(floors) for one in rooms}

    def upwards(path):
        package, mine = room(path)
        others = {room(one) for one in arrows(path)} - {(package, mine), (package, "__init__")}
        return {one for one in others if one[0] == package and floor[one] >= floor[package, mine]}

    assert broken(upwards, [p for p in MODULES if p.count("/") > 1 or not p.endswith("__init__.py")]) == {}


def test_every_room_has_its_floor():
    rooms = {room(path) for path in MODULES} - {("updater", "__init__"), ("meta", "__init__")}
    assert {(package, one) for package in FLOORS for floor in FLOORS[package] for one in floor} == rooms


def test_no_imports_go_in_a_circle():
    assert broken(lambda path: [one for one in arrows(path) if path in reached(one)]) == {}


def test_no_folder_is_crowded():
    folders = Counter(
        str(Path(path).parent) for path in MODULES if Path(path).name not in ("__init__.py", "__main__.py")
    )
    assert {
        folder: count for folder, count in folders.items() if count > MOST_MODULES and "versions" not in folder
    } == {}


def test_the_updater_never_imports_meta():
    updater = [path for path in MODULES if path.startswith("updater/")]
    assert broken(lambda path: {name for name in imports(path) if name.split(".")[0] == "meta"}, updater) == {}


def test_meta_shares_the_wire_and_the_ways_of_a_service_with_the_updater_and_nothing_else():
    def foreign(path):
        publishes = path == "meta/cli/steps/publishing.py"
        allowed = (*SHARED, *(PUBLISHING if publishes else ()))
        rooms = {"updater.net", "updater.artifact"} if publishes else {"updater.net"}
        return {n for n in imports(path) - rooms if n.startswith("updater.") and not n.startswith(allowed)}

    assert broken(foreign, [path for path in MODULES if path.startswith("meta/")]) == {}


def test_the_table_of_hosts_is_reached_by_its_verbs_alone():
    def around(path):
        return {name for name in imports(path) if name.startswith("meta.hosts.core")} or re.search(
            r"(?<!app_)table\._", text(path)
        )

    assert broken(around, [p for p in MODULES if p.startswith("meta/") and not p.startswith("meta/hosts/")]) == {}


@pytest.mark.parametrize("library", DOORS)
def test_one_door_per_effect(library):
    used_by = {path for path in MODULES if of_libraries(imports(path), {library})}
    assert {path for path in used_by if not any(path.startswith(door) for door in DOORS[library])} == set()


@cache
def all_effects(path):
    return list(effects(nodes(path)[0]))


def effects_of(path, *kinds):
    return [where for kind, where in all_effects(path) if kind in kinds]


@pytest.mark.parametrize("kind", EFFECT_DOORS)
def test_the_disk_is_changed_and_processes_are_started_in_few_places(kind):
    assert broken(lambda path: effects_of(path, kind), [p for p in MODULES if p not in EFFECT_DOORS[kind]]) == {}


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (READ, "open(path)"),
        (READ, "open(path, mode='rb')"),
        (READ, "path.open('rb')"),
        (READ, "path.read_text()"),
        (READ, "os.open(path, os.O_RDONLY | os.O_NOFOLLOW)"),
        (WRITE, "open(path, 'w')"),
        (WRITE, "open(path, mode=mode)"),
        (WRITE, "path.open('w')"),
        (WRITE, "path.open(mode='r+b')"),
        (WRITE, "path.replace(other)"),
        (WRITE, "os.remove(path)"),
        (WRITE, "os.makedirs(path)"),
        (WRITE, "list(map(os.unlink, paths))"),
        (WRITE, "shutil.move(path, other)"),
        (WRITE, "from os import unlink as gone; gone(path)"),
        (WRITE, "import os as system; system.rename(path, other)"),
        (WRITE, "os.open(path, os.O_CREAT | os.O_WRONLY)"),
        (WRITE, "os.open(path, flags)"),
        (PROCESS, "os.system('ls')"),
        (PROCESS, "os.posix_spawn('ls', [], {})"),
        ("", "text.replace('a', 'b')"),
        ("", "open(os.devnull, 'r+b')"),
    ],
)
def test_an_effect_is_seen_however_it_is_written(kind, source):
    found = {one for one, _ in effects(ast.parse(f"import os, shutil; {source}"))}
    assert found == ({kind} if kind else set())


def test_a_service_of_meta_has_one_clock():
    """Commands of a moment read the wall clock, and the ages of files are by it."""
    others = [p for p in MODULES if p.startswith("meta/") and not p.startswith(("meta/process/clock.py", "meta/cli/"))]
    reads = broken(lambda path: re.findall(r"\btime\.time\b|\bdatetime\.now\b", text(path)), others)
    assert reads == {"meta/artifacts/tarballs.py": ["time.time"]}


def test_what_is_there_is_asked_in_one_place():
    """pathlib's own questions raise where a directory is another user's or the disk does not answer."""

    def asks(path):
        asked = {
            node.attr
            for node in nodes(path)
            if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "places")
        }
        directories = re.findall(r"(?<!places)(?<!entry)\.is_dir\(\)", text(path))  # places.is_directory
        return [*(asked & {"exists", "is_file", "is_symlink"}), *directories]

    assert broken(asks, [p for p in MODULES if p.startswith("updater/") and p != "updater/places.py"]) == {}


def test_what_msgspec_says_of_bad_input_is_shown_to_nobody():
    """No `except` that takes its errors puts the error itself into a text: `decode_problems` has the words."""

    def shows(path):
        for handler in (node for node in nodes(path) if isinstance(node, ast.ExceptHandler)):
            if handler.name and handler.type and re.search(r"DecodeError|ValidationError", ast.unparse(handler.type)):
                body = "\n".join(map(ast.unparse, handler.body))
                if re.search(rf"{{{handler.name}(?:!\w)?}}|str\({handler.name}\)|repr\({handler.name}\)", body):
                    yield handler.lineno

    assert broken(lambda path: list(shows(path)), [path for path in MODULES if path not in WORDED]) == {}


def pure():
    """The modules whose docstring, or that of a folder above, says Pure."""
    says = {path for path in MODULES if "Pure" in re.findall(r"\w+", ast.get_docstring(nodes(path)[0]) or "")}
    folders = tuple(path.removesuffix("__init__.py") for path in says if path.endswith("__init__.py"))
    return [path for path in MODULES if path in says or path.startswith(folders)]


def impure(names):
    """The names of libraries that are not of values alone; `http` is left out where a name below it is imported."""
    above = {name.rpartition(".")[0] for name in names}
    others = {name for name in names - above if name.partition(".")[0] not in ("updater", "meta")}
    return others - of_libraries(others, PURE_LIBRARIES)


def test_what_is_called_pure_reaches_no_clock_no_disk_and_no_thread_by_any_path():
    def reaches(path):
        return {
            (one, what)
            for one in reached(path)
            for what in (*impure(imports(one, typing_too=False)), *effects_of(one, READ, WRITE, PROCESS))
        }

    assert broken(reaches, pure()) == {}
    assert set(pure()) >= PURE_AT_LEAST


@pytest.mark.parametrize(
    "name", ["time", "tempfile", "asyncio", "sqlite3", "http.client", "os", "threading", "io", "urllib.request"]
)
def test_a_library_that_reaches_out_is_not_pure_however_it_is_imported(name):
    package, _, last = name.rpartition(".")
    for source in (f"import {name}", f"from {package} import {last}" if package else f"from {name} import x"):
        assert impure(imported(list(ast.walk(ast.parse(source))))), source


def test_modules_and_functions_are_small():
    assert broken(lambda path: len(text(path).splitlines()) > LONGEST_MODULE) == {}
    functions = {path: [n for n in nodes(path) if isinstance(n, ast.FunctionDef)] for path in MODULES}
    long = {path: [f.name for f in functions[path] if f.end_lineno - f.lineno >= LONGEST_FUNCTION] for path in MODULES}
    assert broken(long.get) == {}


def test_a_module_opens_with_what_it_promises_and_refuses():
    assert broken(lambda path: nodes(path)[0].body and not ast.get_docstring(nodes(path)[0])) == {}


def test_nothing_happens_at_import():
    """A module's top holds definitions: no call stands there alone, and no loop or branch but for TYPE_CHECKING and main."""
    assert broken(_happens) == {}


def _happens(path):
    allowed = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.AnnAssign,
    )
    found = []
    for node in nodes(path)[0].body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        guard = isinstance(node, ast.If) and (
            "TYPE_CHECKING" in ast.unparse(node.test) or "__main__" in ast.unparse(node.test)
        )
        optional = isinstance(node, ast.Try) and any(isinstance(n, ast.Import | ast.ImportFrom) for n in node.body)
        migration = path == "meta/store/migrations/env.py"
        if not (isinstance(node, allowed) or docstring or guard or optional or migration):
            found.append(ast.unparse(node))
    return found


def committed(*patterns):
    """The files that git holds, those of the patterns alone where some are given."""
    done = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def test_what_merges_patches_and_editors_leave_behind_is_not_committed():
    assert "control" in committed()
    assert committed(*LEFTOVERS) == []
    assert set(LEFTOVERS) <= set((ROOT / ".gitignore").read_text().splitlines()), "git offers none of them either"


def test_what_people_read_is_in_plain_words():
    told = ("README.md", "control", "docs", "deploy", ".ci", "*.example.yaml", "*.example.json")
    lines = [(f, line) for f in committed(*told) for line in (ROOT / f).read_text(errors="replace").splitlines()]
    assert [(f, line) for f, line in lines if OLD_WORDS.search(line)] == []


def test_modules_are_in_plain_words():
    """In names, comments, docstrings and messages; NOBODY is the principal of a request without a token."""

    def old(path):
        return [line for line in text(path).replace("NOBODY", "").splitlines() if OLD_WORDS_IN_CODE.search(line)]

    assert broken(old) == {}


def sentences(docstring):
    """Its sentences, and the entries of its lists. Tables and code are left out: they are indented, or click prints them."""
    paragraphs = re.split(r"\n\s*\n", cleandoc(docstring))
    for paragraph in (one for one in paragraphs if not one.startswith("\b")):
        lines = [line for line in paragraph.splitlines() if not line.startswith("    ")]
        entries = re.split(r"(?:^|\n)\s*(?:-|\d+\.) ", "\n".join(lines))
        yield from (one for entry in entries if entry.strip() for one in re.split(r"(?<=[.!?])\s+", entry.strip()))


def test_no_sentence_of_a_docstring_is_long():
    def long(path):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        found = [ast.get_docstring(node, clean=False) for node in nodes(path) if isinstance(node, documented)]
        return [one for told in filter(None, found) for one in sentences(told) if len(one.split()) > LONGEST_SENTENCE]

    assert broken(long) == {}


def test_a_sentence_may_take_several_lines_and_tables_and_code_have_none():
    told = """One two.

    - three
      four
    - five? Six.

        | a table |

    \b
    updater run
    """
    assert list(sentences(told)) == ["One two.", "three\n  four", "five?", "Six."]


def test_no_two_decisions_have_one_number():
    numbers = [Path(name).name[:4] for name in committed("docs/adr")]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_what_a_package_reads_is_installed_with_it():
    """setuptools takes modules by itself, and other files only where setup.cfg names them."""
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    named = parser["options.package_data"]
    others = [Path(name) for name in committed("updater", "meta") if not name.endswith(".py")]
    left_out = [
        path for path in others if path.name not in (named["*"], named.get(".".join(path.parts[:-1]), "").strip())
    ]
    assert left_out == []
