"""`modelpm logout`."""

import click

from modelpm.cli import output
from modelpm.cli.clients import open_client
from modelpm.cli.commands.login import host_of
from modelpm.cli.credentials import find_credentials
from modelpm.cli.options import Settings, verb


@verb("logout")
@click.argument("host", callback=host_of)
@click.pass_obj
def command(settings: Settings, host: str) -> None:
    """Forget the password for a registry.

    It is deleted where login keeps it. What another program keeps stays there, and is told of.
    """
    keychain = find_credentials(settings)
    with open_client(settings, credentials=keychain) as client:
        gone = client.logout(host, keychain)
    left = keychain.where(host)
    if settings.json:
        output.document({"host": host, "deleted_from": list(gone), "left_in": left})
        return
    if not settings.quiet:
        for place in gone:
            output.say(f"logged out of {host}: deleted from {place}")
        if not gone:
            output.note(f"modelpm is not logged in to {host}")
    if left:
        output.note(f"{left} still has credentials for {host}, and they are used")
