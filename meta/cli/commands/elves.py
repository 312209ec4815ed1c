"""`meta elves`: serves elves-agents and elves' other modules in place of their heartbeat module."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meta.cli import options
from meta.errors import Misconfigured, missing_extra
from updater.service.command_line import a_path

if TYPE_CHECKING:
    from updater.service.readiness import Announcer


@click.command(short_help="Serve elves-agents in place of elves' heartbeat module.")
@click.option(
    "-c",
    "--config",
    metavar="FILE",
    required=True,
    type=a_path(),
    help="The conf.properties of elves' heartbeat module, unchanged.",
)
@options.variable(
    "--meta-config",
    "CONFIG",
    metavar="FILE",
    type=a_path(),
    help="The settings of meta, as for `meta serve --config`; options override it.",
)
@options.database
@options.records
@click.option("--no-hosts", is_flag=True, help="Do not store hosts: only for auth.mode simple and supervisor.")
@options.variable(
    "--http",
    "ELVES_HTTP",
    metavar="HOST:PORT",
    default="127.0.0.1:11103",
    show_default=True,
    help="Where to serve /health, /ready and /metrics; `none` for nowhere.",
)
@click.option(
    "--var",
    metavar="DIR",
    default="var",
    show_default=True,
    type=a_path(),
    help="The directory for the app table.",
)
@options.log_level
@options.log_format
@options.long_running
def elves(
    config: Path,
    meta_config: Path | None,
    no_hosts: bool,
    http: str,
    var: Path,
    check: bool,
    announcing: Callable[[], "Announcer"],
    **given: Any,
) -> None:
    """Answer elves-agents (Thrift, port 11102) and elves' other modules (RabbitMQ), until SIGTERM or Ctrl-C; SIGHUP reloads
    a records file.

    The agents show in `meta hosts` of the same database. What an agent may run is decided by auth.mode in FILE: `records`
    (the records of meta, the default), `supervisor` or `simple`. docs/elves.md says how to migrate.

    \b
    Examples:
      meta elves -c conf/conf.properties
      meta elves -c conf/conf.properties --database postgresql://meta@db/meta
      meta elves -c conf/conf.properties --no-hosts
    """
    try:
        from meta.bridges.elves import server
    except ImportError as e:
        raise missing_extra(e, "elves") from e
    from meta import logs
    from meta.bridges.elves import settings as configuration
    from meta.bridges.fleet import opened
    from meta.settings import gathered, parse_listen
    from meta.store import Store

    ours = gathered(meta_config, given)
    settings = configuration.read(config)
    watched = None if http == "none" else parse_listen(http)
    if no_hosts and settings.mode == configuration.RECORDS:
        raise Misconfigured("auth.mode records needs hosts and records: leave --no-hosts out, or choose another mode")
    logs.configure(ours.log_level, ours.log_format)
    logs.warn(ours.warnings)
    if check:
        server.check(settings, watched, None if no_hosts else Store(ours.database), announcing().running())
        click.echo(f"{config}: ok")
        return
    announcer = announcing()
    if no_hosts:
        server.run(settings, None, var, watched, announcer)
        return
    with opened(ours) as fleet:
        server.run(settings, fleet, var, watched, announcer, fleet.reload, fleet.now)
