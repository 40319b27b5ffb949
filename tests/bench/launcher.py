"""How one command is run and measured: by a small parent that does nothing else.

The system counts the memory of a parent, as it was when a child began, among the child's. So the
parent is this program, of a few megabytes: `python -I -S launcher.py COMMAND…` prints the exit
status, the wall seconds, and the peak memory in bytes. The command's output is dropped, its errors
go where the launcher's go.
"""

import os
import signal
import sys
import time

_OUTPUT = 1


def main() -> None:
    """Run the arguments as a command, and print what they took."""
    actions = [(os.POSIX_SPAWN_OPEN, _OUTPUT, os.devnull, os.O_WRONLY, 0)]
    begin = time.perf_counter()
    child = os.posix_spawnp(
        sys.argv[1],
        sys.argv[1:],
        os.environ,
        file_actions=actions,
        # Python ignores it, and what is ignored stays so in a child.
        setsigdef=[signal.SIGPIPE],
    )
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - begin
    unit = 1 if sys.platform == "darwin" else 1024
    print(os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss * unit)


if __name__ == "__main__":
    main()
