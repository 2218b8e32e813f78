"""`asyncwb --help` loads click and no more, and says of each command what the command itself says."""

import click
import pytest

from asyncwb.cli import main
from tests.harness.commands import leaves
from tests.harness.imports import HEAVY, loaded_by


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nosuch"]])
def test_program_loads_nothing_heavy_before_a_command_runs(arguments: list[str]) -> None:
    code = f"from asyncwb.cli import main; main({arguments}, standalone_mode={arguments != ['nosuch']})"
    if arguments == ["nosuch"]:
        code = f"""
    import click
    try:
        {code}
    except click.UsageError:
        pass
"""
    loaded = loaded_by(code)
    assert "click" in loaded
    assert not [name for name in loaded if name.startswith(("asyncio", *HEAVY))]


def test_help_of_the_worker_loads_nothing_heavy() -> None:
    loaded = loaded_by("from asyncwb.cli import main; main(['worker', '--help'])")
    assert "asyncwb.cli.worker" in loaded
    assert not [name for name in loaded if name.startswith(("asyncio", *HEAVY))]


def test_help_of_the_group_says_what_each_command_says() -> None:
    context = click.Context(main)
    formatter = context.make_formatter()
    formatter.width = 300
    main.format_commands(context, formatter)
    lines = formatter.getvalue().splitlines()[1:]
    own = {}
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name
        own[name] = command.get_short_help_str(limit=300)
    assert [line.split(maxsplit=1) for line in lines] == [[name, text] for name, text in own.items()]
    assert len({path[0] for path, _ in leaves(main)}) == len(own) > 10


def test_unknown_command_is_an_error() -> None:
    with pytest.raises(click.UsageError, match="No such command 'nosuch'"):
        main(["nosuch"], standalone_mode=False)
