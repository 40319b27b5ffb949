"""`modelpm completion`, and how a completing shell is answered."""

import os
from typing import ClassVar

import click
from click.shell_completion import (
    BashComplete,
    add_completion_class,
    get_completion_class,
    shell_complete,
    split_arg_string,
)

from modelpm.cli import output
from modelpm.cli.options import verb

VARIABLE = "_MODELPM_COMPLETE"


@add_completion_class
class Bash(BashComplete):
    """Bash takes a colon for the end of a word; names have colons, so we split the line."""

    source_template: ClassVar[str] = """\
%(complete_func)s() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} word before= reply
    word=${line##*[[:space:]]}
    if [[ $COMP_WORDBREAKS == *:* && $word == *:* ]]; then
        before=${word%%%%:*}:
    fi
    COMPREPLY=()
    for reply in $(COMP_LINE="$line" %(complete_var)s=bash_complete "$1"); do
        case $reply in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            plain,*) reply=${reply#plain,}; COMPREPLY+=("${reply#"$before"}") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is typed, and that one."""
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)
        typed = words.pop() if words and not line[-1:].isspace() else ""
        return words[1:], typed


@verb("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    SHELL is bash, zsh or fish. This line in ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish has
    it read:

    \b
    bash  eval "$(modelpm completion bash)"
    zsh   eval "$(modelpm completion zsh)"
    fish  modelpm completion fish | source
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no shell {shell!r}")
    script = kind(context.find_root().command, {}, "modelpm", VARIABLE).source()
    output.say(script.removesuffix("\n"), output.BLOCK)


def reply(program: click.Command, instruction: str) -> int:
    """Answer a shell; the exit code."""
    return shell_complete(program, {}, "modelpm", VARIABLE, instruction)
