"""The command `loghaul`. This module imports click and nothing else that is not Python's own.

Each command lives in a module of its own and is imported when it is called: `loghaul run` starts
once per rank, so start-up counts. Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 130 Ctrl-C,
141 when the reader of our output went away (as other tools end by SIGPIPE); `run` returns that of
the command it ran. Errors are one sentence on stderr: what failed; what to do.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

#: name: (module, attribute, what it does)
COMMANDS = {
    "run": ("loghaul_ingest.cli.run", "run", "Run a command and keep all that it says."),
    "runs": ("loghaul_ingest.cli.runs", "runs", "List the runs, newest first."),
    "files": ("loghaul_ingest.cli.files", "files", "Show the log files of a run as a tree."),
    "logs": ("loghaul_ingest.cli.logs", "logs", "Print the logs of a run; -f follows it."),
    "search": ("loghaul_ingest.cli.search", "search", "Find lines in one, some or all runs."),
    "download": ("loghaul_ingest.cli.download", "download", "Save files of a run, verified."),
    "delete": ("loghaul_ingest.cli.delete", "delete", "Delete a run and everything it logged."),
    "prune": (
        "loghaul_ingest.cli.prune",
        "prune",
        "Delete runs by age, or to make the store smaller.",
    ),
    "ingest": ("loghaul_ingest.cli.ingest", "ingest", "Serve as ingest worker in the foreground."),
    "ship": ("loghaul_ingest.cli.ship", "ship", "Move what was captured from here to Kafka."),
    "setup": ("loghaul_ingest.cli.setup", "setup", "Make topic and store ready, or check them."),
    "tail": ("loghaul_ingest.cli.tail", "tail", "Follow log files into a run."),
    "dead-letters": (
        "loghaul_ingest.cli.dead_letters",
        "dead_letters",
        "Look at what could not be stored, and try it again.",
    ),
    "doctor": ("loghaul_ingest.cli.doctor", "doctor", "Say what is wrong and how to mend it."),
    "config": (
        "loghaul_ingest.cli.config",
        "config",
        "Show the settings and where they come from.",
    ),
    "completion": (
        "loghaul_ingest.cli.completion",
        "completion",
        "Print the completion script of a shell.",
    ),
}


class Failure(click.ClickException):
    """What went wrong, as one sentence, with its exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        """Print it on stderr; names from metadata cannot move the cursor."""
        text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in self.message)
        click.echo(f"loghaul: {text}", file=file or sys.stderr)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the help page: as one comes to need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; one whose library is missing says how to get it."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise Failure(_missing(cmd_name, module, error)) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing one of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for one that is not there."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(_unknown(args[0]))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn the errors that are ours into exit codes."""
        from loghaul.errors import LoghaulError
        from loghaul_ingest.errors import IngestError, NotFound, UsageError

        try:
            return super().invoke(ctx)
        except NotFound as error:
            raise Failure(str(error), 3) from error
        except UsageError as error:
            raise Failure(str(error), 2) from error
        except (IngestError, LoghaulError) as error:
            raise Failure(str(error)) from error
        except BrokenPipeError:
            _leave_quietly()
        except OSError as error:
            raise _failed(error) from error


def _failed(error: OSError) -> Failure:
    """Return what is told of an error that no command has told of."""
    if error.filename:
        # Files are named where they are opened; without a name it is the output.
        return Failure(f"cannot use {error.filename}: {error.strerror or error}")
    _write_nowhere()
    return Failure(f"cannot write the output: {error.strerror or error}")


def _missing(name: str, module: str, error: ModuleNotFoundError) -> str:
    if error.name == module:
        return f"`loghaul {name}` is not part of this installation; upgrade loghaul"
    return (
        f"`loghaul {name}` needs the Python package {error.name!r}, which is not installed here; "
        f"run: {os.path.basename(sys.executable)} -m pip install --upgrade loghaul"
    )


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"No such command {name!r}.{hint}"


def _leave_quietly() -> NoReturn:
    """Nobody reads our output any more: end as SIGPIPE would have ended us, without a word."""
    _write_nowhere()
    raise SystemExit(141)


def _write_nowhere() -> None:
    """What is still in the buffer of stdout must not fail once more when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from loghaul import __version__  # importlib.metadata would be a third of the start-up

    click.echo(f"loghaul {__version__}")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version and end.",
)
def loghaul() -> None:
    """Haul the logs of machine-learning runs from the script to the person who needs them.

    \b
    loghaul run -- python train.py     keep everything that a training script says
    loghaul runs                       what ran, how it ended
    loghaul logs latest -f             follow it while it goes on
    loghaul search 'level:>=error'     find the line, in all runs

    RUN is the id of a run, a unique beginning of one, or `latest`.
    """


def _stand_in_for_closed() -> None:
    """Where the user closed stdout or stderr, write to nowhere, but let `run` see what is closed.

    The numbers 0 to 2 are filled for all other commands: no database may be opened as stdout.
    """
    closed = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    if not closed:
        return
    import fcntl

    from loghaul.capture.uncaptured import reserve

    if sys.argv[1:2] != ["run"]:
        reserve()
    for name in closed:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        kept = fcntl.fcntl(nowhere, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(nowhere)
        setattr(sys, name, open(kept, "w", encoding="utf-8", errors="replace"))  # noqa: SIM115


def main() -> None:
    """Entry point."""
    _stand_in_for_closed()
    try:
        code = loghaul.main(prog_name="loghaul", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_quietly()
    except OSError as error:
        failure = _failed(error)
        failure.show()
        code = failure.exit_code
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)
