"""The command line. Commands are imported when they are run, so that --help is quick.

Exit status of every command: 0 done, 1 failed, 2 wrong use or configuration, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from streams.errors import ConfigurationError, UrbanBrainError

COMMANDS = {
    "demo": "A simulated city in this terminal: pings in, alerts out. Needs no Kafka.",
    "worker": "Run a worker: turn pings into alerts.",
    "topics": "Make the topics that a configuration needs, or check them.",
    "replay": "Write recorded pings into Kafka at any speed.",
    "simulate": "Write pings of a simulated city into Kafka or a file.",
    "backtest": "Turn recorded pings into alerts without Kafka.",
    "policy": "Check policies, and list what is in force.",
    "alerts": "Show alerts.",
    "report": "Show the city's three rates, by operator and day.",
    "respond": "Answer an alert as its operator.",
    "bridge": "Carry alerts on: POST them to a webhook.",
    "doctor": "Look for what is wrong: configuration, brokers, topics, clocks.",
    "broker": "Run the embedded broker of the demo.",
}
HIDDEN = {"broker"}


class LazyGroup(click.Group):
    """A group whose commands live in `agents.commands.<name>`, each as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if name not in HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"agents.commands.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="urban-brain", prog_name="urban-brain")
def cli() -> None:
    """Urban Brain: GPS pings of shared bikes in, alerts that somebody can act on out.

    Every command says 0 done, 1 failed, 2 wrong use or configuration. Try it: urban-brain demo
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error is one clear message, never a traceback."""
    sys.exit(status(arguments))


def status(arguments: Sequence[str] | None = None) -> int:
    """The exit status of a command."""
    try:
        result = cli.main(args=None if arguments is None else list(arguments), prog_name="urban-brain", standalone_mode=False)
    except click.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ConfigurationError as error:
        count = len(error.problems)
        head = "1 problem" if count == 1 else f"{count} problems"
        click.echo("\n".join([f"The configuration has {head}:", *(f"  {text}" for text in error.problems)]), err=True)
        return 2
    except UrbanBrainError as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        click.echo(f"Error: {error.strerror or error}: {error.filename or ''}".rstrip(": "), err=True)
        return 1
    return result if isinstance(result, int) else 0
