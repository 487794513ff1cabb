"""Starts `bucksaw serve`, so that the logging guide's commands go on working:

    cd examples
    python -m vllm_server.server
    LOG_LEVEL=DEBUG python -m vllm_server.server
    python -m vllm_server.server --config configs/guide.toml

Python is replaced by the server (exec), so arguments, environment, working folder, exit code and signals are the server's
own: nothing stands in between. The program is the one that $BUCKSAW names, else the one on PATH, else the one that
`cargo build --release` left in this project.
"""

import os
import shutil
import sys
from pathlib import Path


def find() -> str | None:
    """The path of the program."""
    named = os.environ.get("BUCKSAW")
    if named:
        return shutil.which(named)
    built = Path(__file__).resolve().parents[2] / "target" / "release" / "bucksaw"
    return shutil.which("bucksaw") or shutil.which(str(built))


def main() -> None:
    program = find()
    if program is None:
        named = os.environ.get("BUCKSAW")
        what = f"BUCKSAW={named} is no program" if named else "there is no bucksaw on PATH or in target/release"
        sys.exit(f"vllm_server: {what}: run `cargo build --release`, or set BUCKSAW to the path of the program")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(program, [program, "serve", *sys.argv[1:]])


if __name__ == "__main__":
    main()
