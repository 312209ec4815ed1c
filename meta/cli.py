"""The command `meta`. Exits 0 when all is well, 1 on failure, 2 on a bad option, file or environment, and then says what in
one sentence (`check` says everything). The heavy parts are imported by the commands that need them: help must come at once.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from meta.errors import MetaError, Misconfigured, RecordsError, TryLater

Command = Callable[..., Any]
LOCAL = "http://127.0.0.1:2000"


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from updater.wire import VERSION

        click.echo(f"meta {VERSION}")
        context.exit()


def _option(name: str, envvar: str, **attributes: Any) -> Callable[[Command], Command]:
    return click.option(name, envvar=f"META_{envvar}", show_envvar=True, **attributes)


_database = _option(
    "--database",
    "DATABASE",
    metavar="URL",
    show_default="sqlite:///var/meta.db",
    help="Where hosts are remembered, an SQLAlchemy URL: sqlite:///FILE or postgresql://USER@HOST/NAME.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show it.")
def cli() -> None:
    """Tell every host which agents it shall run, and know which ones it runs.

    \b
    Start with a records file (records.example.yaml shows all there is):
      meta check records.yaml
      meta serve --records records.yaml --tarballs ./tarballs
    Change the file, then put it in force:
      meta reload
    See what the hosts run:
      curl http://127.0.0.1:2000/status/text/falcon-agent
    An ops-meta cfg.json is taken as it is:
      meta serve --records cfg.json

    Shell completion: eval "$(_META_COMPLETE=bash_source meta)" (or zsh_source, fish_source).
    """


@cli.command(short_help="Answer the hosts' heartbeats.")
@_option(
    "--records",
    "RECORDS",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="Desired agents: YAML, or ops-meta's cfg.json.",
)
@_option(
    "--listen",
    "LISTEN",
    metavar="HOST:PORT",
    show_default="127.0.0.1:2000",
    help="Where to listen; :PORT is every interface, port 0 any free one.",
)
@_database
@_option(
    "--tarballs",
    "TARBALLS",
    metavar="DIR",
    type=click.Path(path_type=Path),
    show_default="none",
    help="Offer the files of this directory under /tarball/ and /.",
)
@_option(
    "--log-level",
    "LOG_LEVEL",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much to log.",
)
def serve(records: Path, listen: str | None, database: str | None, tarballs: Path | None, log_level: str) -> None:
    """Answer the hosts' heartbeats until SIGTERM or Ctrl-C; SIGHUP reloads the records.

    An option that is not given is taken from a legacy cfg.json (http.listen, tarballDir), else the default.

    \b
    Examples:
      meta serve --records records.yaml
      meta serve --records records.yaml --listen :2000 --tarballs /srv/tarballs
      META_RECORDS=cfg.json META_DATABASE=sqlite:////var/lib/meta/meta.db meta serve
    """
    from meta import config, logs
    from meta import serve as server
    from meta.load import load

    settings = config.settle(load(records), listen, database, tarballs, log_level)
    logs.configure(log_level)
    server.serve(settings)


@cli.command(short_help="Show every error in a records file.")
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a records FILE: exit 0 if it may be used, else 2 with every error's path and line.

    \b
    Example:
      meta check records.yaml && meta reload
    """
    from meta.load import load

    loaded = load(file)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{file}: {_agents(len(loaded.records))}, no errors")


@cli.command(short_help="Put an edited records file in force.")
@_option("--url", "URL", metavar="URL", default=LOCAL, show_default=True, help="The meta to tell.")
def reload(url: str) -> None:
    """Make the meta on this machine read its records file again. A file with errors changes nothing.

    \b
    Example:
      meta reload --url http://127.0.0.1:2100
    """
    answer = _ask_to_reload(url.rstrip("/"))
    if answer.get("msg") != "success":
        raise TryLater(f"not reloaded, the former records stay in force:\n{answer.get('msg')}")
    click.echo(f"reloaded: {_agents(len(answer['data']['agents']))}")


def _ask_to_reload(url: str) -> dict[str, Any]:
    import requests

    with requests.Session() as session:
        session.trust_env = False  # a proxy would make the request one from elsewhere
        try:
            response = session.get(f"{url}/config/reload", timeout=30, allow_redirects=False)
            answer = response.json() if response.status_code == 200 else None
        except ValueError as e:
            raise Misconfigured(f"what answers at {url} is not meta") from e
        except requests.RequestException as e:
            raise TryLater(f"no meta answers at {url}: is it running? (meta serve)") from e
    if response.status_code == 403:
        raise TryLater(f"the meta at {url} reloads only for its own machine: run this there, with its loopback address")
    if not isinstance(answer, dict):
        raise Misconfigured(f"what answers at {url} is not meta (status {response.status_code})")
    return answer


def _agents(count: int) -> str:
    return "1 agent" if count == 1 else f"{count} agents"


@cli.group()
def db() -> None:
    """Look after the database."""


@db.command(short_help="Make or migrate the tables.")
@_database
def upgrade(database: str | None) -> None:
    """Make the tables, or bring them to this version's form. `meta serve` does it too.

    \b
    Example:
      meta db upgrade --database sqlite:////var/lib/meta/meta.db
    """
    from contextlib import closing

    from meta.config import DEFAULT_DATABASE
    from meta.store import Store

    with closing(Store(database or DEFAULT_DATABASE)) as store:
        click.echo(f"{store.shown} is at revision {store.upgrade()}")


def main() -> None:
    """The entry point: the only place that turns an error into an exit code."""
    try:
        cli(prog_name="meta")
    except MetaError as e:
        click.echo(e if isinstance(e, RecordsError) else f"meta: {e}", err=True)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
