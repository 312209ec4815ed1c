"""`meta publish`: a tarball that every host would accept, put where the hosts fetch it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from meta.cli import options

if TYPE_CHECKING:
    from meta.cli.client import Client


@click.command(short_help="Check a tarball and upload it.")
@click.argument("tarball", type=click.Path(path_type=Path))
@click.option("--agent", metavar="NAME", help="Whose it is, where the file's name can be read in two ways.")
@options.output
@options.connected
def publish(client: "Client", tarball: Path, agent: str | None, output: str) -> None:
    """Check TARBALL (NAME-VERSION.tar.gz) by the rules that every host keeps to, and upload it to meta's tarballs. No host is
    told of it yet: what is printed does that. The same bytes may be published again, others under the same version may not.

    \b
    Example:
      meta publish my-agent-1.0.1.tar.gz
    """
    from meta.cli import show
    from meta.cli.publish import publish as send

    done = send(client, tarball, agent)
    if show.data(done.tarball, output):
        return
    what = "published" if done.is_new else "was published already"
    members = "1 member" if done.members == 1 else f"{done.members} members"
    fields = [f"version={done.version}", f"md5={done.digests.md5}", f"sha256={done.digests.sha256}"]
    if not done.is_known:
        fields.append(f"tarball={client.url}/tarball")
    click.echo(f"{tarball.name}: {members}, {done.digests.size} bytes, {what}")
    click.echo(f"put it in force: meta set {done.name} {' '.join(fields)}")
