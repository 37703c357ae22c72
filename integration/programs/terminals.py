# Tells which of its standard streams are terminals.
import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
            print(f"{number}: {'terminal' if stream.isatty() else 'no terminal'}")
