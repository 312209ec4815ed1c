"""`meta status`: the progress of a change, once or until it is done."""

from typing import TYPE_CHECKING

import click

from meta.cli import options

if TYPE_CHECKING:
    from meta.cli.client import Client


@click.command(short_help="Show how far an agent's change has come.")
@options.agent(required=False)
@click.option("--watch", is_flag=True, help="Repeat until it is done or has failed, or until Ctrl-C.")
@click.option(
    "--within", metavar="TIME", help="With --watch: exit with 1 if it is not done within this time, like 10min."
)
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between two requests.",
)
@click.option(
    "--max-failed",
    metavar="N|N%",
    help="With --watch: how many hosts may fail; end as soon as more have failed.",
)
@click.option("--include-lost", is_flag=True, help="Count late and lost hosts too, by their last report.")
@options.selecting("--for", "selector", default="", help="Only hosts like prefix:web-, label:env=staging.")
@options.output
@options.connected
def status(
    client: "Client",
    agent: str | None,
    watch: bool,
    within: str | None,
    every: float,
    max_failed: str | None,
    include_lost: bool,
    selector: str,
    output: str,
) -> None:
    """Show how many hosts have AGENT at which version and status, and how far its change has come. A host is to do, on trial
    (started, but its watch has not passed), good, or failed. Late, lost and doubled hosts, those that hold the agent, and
    those whose version is banned are left out and counted. Without AGENT, show all agents and the states of the hosts in short.

    --watch ends when every host that is not left out is good. On a terminal it redraws the table, on a pipe it prints a line
    for each change. Its exit codes are 0 when it is done, 1 when it failed or the time is up, and 2 for wrong use or an unknown
    name. 3 says that it waits for a person (all remaining hosts hold the agent), 4 that an edit or a ban took the change back.

    \b
    Examples:
      meta status
      meta status falcon-agent
      meta set falcon-agent version=1.0.11 && meta status falcon-agent --watch
      meta status falcon-agent --watch --within 10min --max-failed 1%
      meta status falcon-agent --watch --for label:env=staging
    """
    from meta.cli.arguments import seconds, selector_of
    from meta.cli.gate import Wanted
    from meta.cli.steps import watching
    from meta.cli.views import agent_status, overview, show

    if not watch and (within or max_failed):
        raise click.UsageError("--within and --max-failed are for --watch")
    if watch and (output == "yaml" or not agent):
        raise click.UsageError("--watch prints a table or json" if agent else "name an agent to watch")
    if not agent:
        if selector or include_lost:
            raise click.UsageError("name an agent: --for and --include-lost are for one agent")
        overview.show_all(client, output)
        return
    if selector:
        selector_of(selector)  # raises if it is invalid
    wanted = Wanted(agent, selector, include_lost, *_failures(max_failed))
    if not watch:
        if not show.data(found := watching.ask(client, wanted), output):
            agent_status.print_once(found, selector)
        return
    limit = seconds(within) if within else None
    click.get_current_context().exit(watching.watch(client, wanted, every, limit, as_json=output == "json"))


def _failures(text: str | None) -> tuple[int | None, bool]:
    """`3` or `5%` -> (the number, whether it is a percentage)."""
    if text is None:
        return None, False
    number, is_share = text.removesuffix("%"), text.endswith("%")
    if not (number.isascii() and number.isdigit() and len(number) < 10) or (is_share and int(number) > 100):
        from updater.wire.text import quoted

        raise click.UsageError(f"--max-failed {quoted(text)} is neither a number of hosts nor a share like 5%")
    return int(number), is_share
