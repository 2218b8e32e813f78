"""What the filesystem backend has made, as a user sees it."""

from asyncwb.testing.contract import version
from asyncwb_backends.filesystem import FileBackend

V1 = version(1)


def files(backend: FileBackend) -> dict[str, bytes]:
    """Returns the content of every file by its path in the backend's folder, but for the backend's own files."""
    return {
        str(path.relative_to(backend.path)): path.read_bytes()
        for path in backend.path.rglob("*")
        if path.is_file() and ".asyncwb" not in path.parts
    }
