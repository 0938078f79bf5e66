"""`loghaul completion SHELL`: what a shell needs to complete commands, options and run ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    loghaul completion bash >> ~/.bashrc
    loghaul completion zsh >> ~/.zshrc
    loghaul completion fish > ~/.config/fish/completions/loghaul.fish
    """
    from loghaul_ingest.cli import loghaul

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(loghaul, {}, "loghaul", "_LOGHAUL_COMPLETE").source())
