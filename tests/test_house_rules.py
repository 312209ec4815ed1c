"""The house rules that a program can keep: who imports whom, one door per effect, pure modules, small modules."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {str(p.relative_to(ROOT)): p for room in ("updater", "meta") for p in sorted((ROOT / room).rglob("*.py"))}
LONGEST_MODULE, LONGEST_FUNCTION = 300, 50
LEFTOVERS = ("*.orig", "*.rej", "*.bak", "*~", ".*.sw[a-p]")  # of merges, patches and editors

OLD_WORDS = re.compile(r"\b(anew|nobody|whoever|shall|beside)\b", re.IGNORECASE)

# What only these modules may import or call: one door per effect.
DOORS = {
    "requests": {"updater/http.py", "meta/cli/client.py"},
    "urllib3": {"updater/http.py"},
    "subprocess": {"updater/control.py"},
    "fcntl": {"updater/files.py"},
    "sqlalchemy": {"meta/store/", "meta/migrations/"},
    "alembic": {"meta/store/", "meta/migrations/"},
    "flask": {"meta/app.py", "meta/api/blueprint.py", "meta/api/files.py"},
    "pika": {"meta/bridges/elves/amqp.py", "meta/bridges/elves/rabbitmq_"},
    "kazoo": {f"meta/bridges/elves/zookeeper{part}.py" for part in ("", "_nodes", "_writes")},
    "prometheus_client": {"meta/metrics.py", "meta/bridges/elves/http.py"},
    "granian": {"meta/serve.py"},
    "yaml": {"meta/nodes.py"},
    "tarfile": set(),
}
DISK_CHANGES = {"rename", "replace", "fsync", "link", "symlink", "rmtree", "rmdir", "unlink", "truncate", "ftruncate"}
DISK_DOORS = {
    "updater/files.py",
    "updater/unpack.py",
    "updater/syncer.py",
    "updater/control.py",
    "updater/install.py",
    "meta/store/backup.py",
    "meta/tarballs.py",
    "meta/bridges/elves/kept.py",
}

# `meta publish` refuses what hosts would refuse, so it asks their own unpacker: a second one would differ some day.
# Services of both packages say in one way that they are ready, to the same ./control.
SHARED = {
    "meta/cli/publish.py": ("updater.unpack", "updater.gunzip", "updater.runnable", "updater.errors"),
    "meta/config.py": ("updater.addresses",),
    "meta/front.py": ("updater.addresses",),
    "meta/listening.py": ("updater.addresses", "updater.listeners"),
    "meta/bridges/elves/http.py": ("updater.addresses",),
    "meta/cli/client.py": ("updater.peer_values",),  # which URLs are this machine's
    "meta/limits.py": ("updater.web_guard",),  # what a browser may not ask of either program
    "meta/cli/__init__.py": ("updater.interrupt",),  # both commands end by Ctrl-C in one way
    "meta/cli/serving.py": ("updater.readiness", "updater.errors"),
    "meta/cli/elves.py": ("updater.readiness",),
    "meta/cli/options.py": ("updater.readiness",),
    "meta/serve.py": ("updater.addresses", "updater.readiness"),
    "meta/keep_up.py": ("updater.readiness",),
    "meta/bridges/elves/server.py": ("updater.readiness",),
}

# What a library says of bad input is put into our own words in these alone.
WORDED = {"updater/wireproblems.py"}

PURE = (
    *("updater/plan.py", "updater/trial.py", "updater/backoff.py", "updater/layout.py", "updater/fitting.py"),
    *(
        "meta/records.py",
        "meta/explanation.py",
        "meta/checks.py",
        "meta/edits.py",
        "meta/revisions.py",
        "meta/difference.py",
        "meta/overlap.py",
        "meta/conflicts.py",
        "meta/rollbacks.py",
        "meta/hints.py",
        "meta/capacity.py",
        "meta/removals.py",
        "meta/nearly.py",
    ),
    *("meta/classes.py", "meta/profiles.py", "meta/bridges/elves/translator.py"),
)
IMPURE = {"time", "os", "logging", "random", "socket", "shutil", "threading", "subprocess", "datetime"}


def tree(path):
    return ast.parse(MODULES[path].read_text())


def imports(path):
    """The modules that this one imports, wherever in it, by their full names."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", [p for p in MODULES if p.startswith("updater/")])
def test_the_updater_never_imports_meta(path):
    assert not {name for name in imports(path) if name.split(".")[0] == "meta"}


@pytest.mark.parametrize("path", [p for p in MODULES if p.startswith("meta/")])
def test_meta_shares_the_wire_with_the_updater_and_nothing_else(path):
    ours = {name for name in imports(path) if name.split(".")[0] == "updater"}
    allowed = ("updater.wire", *SHARED.get(path, ()))
    assert {name for name in ours if name != "updater" and not name.startswith(allowed)} == set()


@pytest.mark.parametrize("library", DOORS)
def test_one_door_per_effect(library):
    used_by = {path for path in MODULES if library in {name.split(".")[0] for name in imports(path)}}
    assert {path for path in used_by if not any(path.startswith(door) for door in DOORS[library])} == set()


@pytest.mark.parametrize("path", [p for p in MODULES if p not in DISK_DOORS])
def test_the_disk_is_changed_in_few_places(path):
    calls = [
        node.func
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    by_os = {
        f.attr
        for f in calls
        if isinstance(f.value, ast.Name) and f.value.id in ("os", "shutil") and f.attr in DISK_CHANGES
    }
    assert by_os == set()


@pytest.mark.parametrize("path", [p for p in MODULES if p.startswith("updater/") and p != "updater/places.py"])
def test_what_is_there_is_asked_in_one_place(path):
    """pathlib's own questions raise where a directory is another user's or the disk does not answer."""
    asked = {
        node.attr
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "places")
    }
    assert asked & {"exists", "is_file", "is_symlink"} == set()
    assert not re.search(r"(?<!places)(?<!entry)\.is_dir\(\)", MODULES[path].read_text()), "places.is_directory"


@pytest.mark.parametrize("path", [p for p in MODULES if p not in WORDED])
def test_what_msgspec_says_of_bad_input_is_shown_to_nobody(path):
    """No `except` that takes its errors puts the error itself into a text."""
    for handler in (node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)):
        if handler.name and handler.type and re.search(r"DecodeError|ValidationError", ast.unparse(handler.type)):
            body = "\n".join(map(ast.unparse, handler.body))
            shown = re.search(rf"{{{handler.name}(?:!\w)?}}|str\({handler.name}\)|repr\({handler.name}\)", body)
            assert not shown, f"line {handler.lineno}: wireproblems.in_words({handler.name})"


@pytest.mark.parametrize("path", PURE)
def test_what_is_called_pure_neither_logs_nor_sleeps_nor_looks_at_a_clock(path):
    assert imports(path) & IMPURE == set()


@pytest.mark.parametrize("path", MODULES)
def test_modules_and_functions_are_small_and_say_what_they_promise(path):
    module = tree(path)
    text = MODULES[path].read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    functions = [n for n in ast.walk(module) if isinstance(n, ast.FunctionDef)]
    assert [f.name for f in functions if f.end_lineno - f.lineno + 1 > LONGEST_FUNCTION] == []
    if module.body:
        assert ast.get_docstring(module), "a module opens with what it promises and refuses"


@pytest.mark.parametrize("path", MODULES)
def test_nothing_happens_at_import(path):
    """A module's top holds definitions: no call stands there alone, and no loop or branch but for TYPE_CHECKING and main."""
    allowed = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.AnnAssign,
    )
    for node in tree(path).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        guard = isinstance(node, ast.If) and (
            "TYPE_CHECKING" in ast.unparse(node.test) or "__main__" in ast.unparse(node.test)
        )
        optional = isinstance(node, ast.Try) and any(isinstance(n, ast.Import | ast.ImportFrom) for n in node.body)
        migration = path.startswith("meta/migrations/env.py")
        assert isinstance(node, allowed) or docstring or guard or optional or migration, ast.unparse(node)


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


def test_no_two_decisions_have_one_number():
    numbers = [Path(name).name[:4] for name in committed("docs/adr")]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
