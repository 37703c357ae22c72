# Prints its arguments and its environment, one a line, without the program's own name.
import os
import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        for argument in sys.argv[1:]:
            print("argument", argument)
        for name, value in os.environ.items():
            print(f"environment {name}={value}")
