# Copies standard input to standard output.
import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        while some := sys.stdin.buffer.read(4096):
            sys.stdout.buffer.write(some)
        sys.stdout.flush()
