# Exits with the status that its argument names.
import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        sys.exit(int(sys.argv[1]))
