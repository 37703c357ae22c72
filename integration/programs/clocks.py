# The wall clock is of this century, the monotonic clock moves on by what is slept, at least.
import time

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        wall, before = int(time.time()), time.monotonic_ns()
        time.sleep(0.02)
        assert time.monotonic_ns() - before >= 20_000_000
        print(wall)
