"""What a module's source does to the disk and starts as processes, found in its syntax tree by the full names that it uses.

A name counts wherever it stands, called or passed on. What the source leaves open, such as a mode in a variable, is a write.
"""

import ast
from collections.abc import Iterator

READ, WRITE, PROCESS = "read", "write", "process"
_FUNCTIONS = {
    WRITE: "os.chmod os.chown os.fchmod os.fchown os.fdatasync os.fsync os.ftruncate os.lchown os.link os.makedirs os.mkdir "
    "os.mkfifo os.mknod os.posix_fallocate os.remove os.removedirs os.rename os.renames os.replace os.rmdir os.symlink "
    "os.sync os.truncate os.unlink os.utime shutil.chown shutil.copy shutil.copy2 shutil.copyfile shutil.copymode "
    "shutil.copystat shutil.copytree shutil.make_archive shutil.move shutil.rmtree shutil.unpack_archive",
    PROCESS: "os.execl os.execle os.execlp os.execlpe os.execv os.execve os.execvp os.execvpe os.fork os.forkpty os.popen "
    "os.posix_spawn os.posix_spawnp os.spawnl os.spawnle os.spawnlp os.spawnlpe os.spawnv os.spawnve os.spawnvp "
    "os.spawnvpe os.system",
}
_METHODS = {  # of a path
    READ: "exists expanduser glob is_dir is_file is_symlink iterdir lstat read_bytes read_text readlink resolve rglob stat",
    WRITE: "chmod hardlink_to lchmod mkdir rename rmdir symlink_to touch unlink write_bytes write_text",
}
_OF_FUNCTION = {name: kind for kind, names in _FUNCTIONS.items() for name in names.split()}
_OF_METHOD = {name: kind for kind, names in _METHODS.items() for name in names.split()}
_FLAGS_TO_READ = {"O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC", "O_PATH"}


def effects(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(kind, `LINE: the code`) of each."""
    modules = _modules(tree)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            call, name = calls.get(id(node)), _full_name(node, modules)
            kind = _of_function(name, call) if name else _of_method(node, call)
            if kind and not (call and call.args and ast.unparse(call.args[0]) == "os.devnull"):
                yield kind, f"{node.lineno}: {ast.unparse(call or node)}"


def _modules(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for; `open` stands for itself."""
    found = {"open": "open"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.asname or one.name.partition(".")[0]: one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return found


def _full_name(node: ast.expr, modules: dict[str, str]) -> str:
    """`os.remove` for what stands for it, "" for a method or a variable."""
    if isinstance(node, ast.Attribute):
        inner = _full_name(node.value, modules)
        return f"{inner}.{node.attr}" if inner else ""
    return modules.get(node.id, "") if isinstance(node, ast.Name) else ""


def _of_function(name: str, call: ast.Call | None) -> str:
    if name in ("open", "io.open", "os.fdopen"):
        return _of_mode(call, 1)
    if name != "os.open":
        return _OF_FUNCTION.get(name, "")
    flags = (
        call and len(call.args) > 1 and {one.attr for one in ast.walk(call.args[1]) if isinstance(one, ast.Attribute)}
    )
    return READ if flags and flags <= _FLAGS_TO_READ else WRITE


def _of_method(node: ast.expr, call: ast.Call | None) -> str:
    if not isinstance(node, ast.Attribute):
        return ""
    if node.attr == "open":
        return _of_mode(call, 0)
    if node.attr == "replace":  # of a path, with one argument; that of a text has two
        one = call and len(call.args) == 1 and not call.keywords and not isinstance(call.args[0], ast.Starred)
        return WRITE if one else ""
    return _OF_METHOD.get(node.attr, "") if call else ""


def _of_mode(call: ast.Call | None, place: int) -> str:
    """Of an `open` whose mode is the argument at this place."""
    given = [one.value for one in call.keywords if one.arg == "mode"] + call.args[place : place + 1] if call else [None]
    mode = given[0].value if given and isinstance(given[0], ast.Constant) else "w" if given else "r"
    return WRITE if set(str(mode)) & set("wax+") else READ
