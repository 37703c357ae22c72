# Copies standard input to standard output.
import shutil
import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)
        sys.stdout.flush()
