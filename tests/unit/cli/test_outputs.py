"""Every output of every command is tried before the command begins."""

import errno
import os

import click
import pytest
import typer

from fedward.cli import main
from fedward.cli.shared import tried
from fedward.errors import FedwardError, ResourceError


def outputs():
    def walk(command, words):
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from walk(inner, (*words, name))
            return
        for parameter in command.params:
            if parameter.name == "out":
                yield " ".join(words), parameter

    if not main.app.registered_commands:
        main._mount()
    return dict(walk(typer.main.get_command(main.app), ()))


def test_all_are_tried():
    found = outputs()
    assert {"simulate", "data prepare", "plan new", "server backup", "client enroll", "models import"} <= set(found)
    for words, parameter in found.items():
        called = parameter.callback
        assert called is not None, words
        with pytest.raises(ResourceError, match="output /proc/fedward/out"):
            called(click.Context(click.Command("x")), parameter, "/proc/fedward/out")


def test_no_output_needs_no_place():
    assert tried(None) is None


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.ENOENT, errno.EACCES])
def test_a_path_that_the_system_refuses_is_named(number):
    found = main._unexpected(OSError(number, os.strerror(number), "/some/where"))
    assert found.code == "FW-RESOURCE-304" and "/some/where" in found.message and os.strerror(number) in found.message


@pytest.mark.parametrize("error", [ValueError("a record"), OSError("a record"), OSError(errno.EPIPE, "a record", "x")])
def test_other_failures_are_told_by_their_kind_alone(error):
    found = main._unexpected(error)
    assert found.code == FedwardError.code and "record" not in found.message
