"""`meta status`: how far a change has come, once or until it is done."""

from typing import TYPE_CHECKING

import click

from meta.cli import options

if TYPE_CHECKING:
    from meta.cli.client import Client


@click.command(short_help="Show how far an agent's change has come.")
@options.agent(required=False)
@click.option("--watch", is_flag=True, help="Go on until every host is as desired; Ctrl-C ends it before.")
@click.option("--within", metavar="TIME", help="With --watch: exit with 1 if it is not done by then: 10min.")
@click.option("--every", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Seconds between two looks.")
@options.output
@options.connected
def status(client: "Client", agent: str | None, watch: bool, within: str | None, every: float, output: str) -> None:
    """Show on how many hosts AGENT has which version and status, how many are not yet as desired, and where it failed and why;
    without AGENT all agents and the states of the hosts in short.

    On a terminal --watch draws anew, on a pipe it prints a line for each change.

    \b
    Examples:
      meta status
      meta status falcon-agent
      meta set falcon-agent version=1.0.11 && meta status falcon-agent --watch
      meta status falcon-agent --watch --within 10min || meta rollback --agent falcon-agent --yes
    """
    from meta.cli import overview, show, watching
    from meta.cli.words import seconds

    if within and not watch:
        raise click.UsageError("--within is for --watch")
    if watch and (output == "yaml" or not agent):
        raise click.UsageError("--watch prints a table or json" if agent else "say which agent to watch")
    if not agent:
        overview.show_all(client, output)
    elif not watch:
        found = watching.look(client, agent)
        if not show.data(found, output):
            watching.print_once(found)
    else:
        limit = seconds(within) if within else None
        click.get_current_context().exit(watching.watch(client, agent, every, limit, as_json=output == "json"))
