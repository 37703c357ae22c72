# Makes, appends to, reads, lists, renames and removes files in its directory /data.
import os
import pathlib
import shutil

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        directory = pathlib.Path("/data/directory")
        directory.mkdir()
        first, second = directory / "first", directory / "second"
        first.write_text("one\n")
        with first.open("a") as file:
            file.write("two\n")
        assert first.read_text() == "one\ntwo\n"
        first.rename(second)
        assert not first.exists() and os.listdir(directory) == ["second"]
        os.truncate(second, 3)
        assert second.stat().st_size == 3 and second.read_bytes() == b"one"
        shutil.rmtree(directory)

        # What the host put there is readable, and what is left there stays for the host.
        line = pathlib.Path("/data/from-host").read_text()
        pathlib.Path("/data/from-guest").write_text(f"seen: {line}")
        # Above its directory there is nothing.
        for path in ("/data/../etc/passwd", "/etc/passwd"):
            try:
                open(path).close()
            except OSError:
                continue
            raise AssertionError(path)
        print("ok")
