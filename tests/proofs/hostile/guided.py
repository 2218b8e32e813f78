"""Coverage-guided fuzzing by atheris in a process of its own: `python -m tests.proofs.hostile.guided TARGET RUNS SEED`.

atheris is optional: it has wheels for Linux on x86-64 alone. Its engine ends the process, so it can't be called.
"""

import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).parents[3]


def available() -> bool:
    """Whether atheris is installed."""
    return find_spec("atheris") is not None


def fuzz(target: str, runs: int, seed: int) -> tuple[int, str]:
    """How many inputs the engine has run, and what it found; "" if all went well."""
    with tempfile.TemporaryDirectory(prefix="wb-fuzz-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.proofs.hostile.guided", target, str(runs), str(seed)],
            cwd=folder,
            env={"PYTHONPATH": f"{_ROOT}:{_ROOT / 'backends'}", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
            check=False,
        )
        crashes = [path.read_bytes() for path in Path(folder).glob("crash-*")]
    count = re.search(r"Done (\d+) in", done.stderr)
    if done.returncode or count is None or crashes:
        return 0, f"{target}: input {crashes[:1]!r}\n{done.stderr[-3000:]}"
    return int(count[1]), ""


def main() -> None:
    """Fuzzes until it has done its runs or found something."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415 - optional

    name, runs, seed = sys.argv[1:]
    with atheris.instrument_imports(include=["asyncwb", "asyncwb_backends"], enable_loader_override=False):
        from tests.proofs.hostile import pure  # noqa: PLC0415 - instrumented
    target = pure.TARGETS[name]
    corpus = Path("corpus")
    corpus.mkdir()
    for number, data in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(data)
    arguments = [f"-atheris_runs={runs}", f"-seed={int(seed) + 1}", "-max_len=512"]
    arguments += ["-rss_limit_mb=0", "-timeout=20", str(corpus)]
    atheris.Setup([sys.argv[0], *arguments], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
