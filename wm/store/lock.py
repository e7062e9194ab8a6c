"""One process at a time in a folder.

    with lock.hold(folder):
        ...                      # nobody else holds it, whichever way this process ends
"""

import fcntl
from pathlib import Path
from typing import TextIO

NAME = ".lock"  # of the file in the folder that is locked; it stays there


class FolderBusy(RuntimeError):
    """Another process holds the folder."""


class NoLocks(OSError):
    """The folder's file system cannot lock files."""


def hold(folder: Path | str) -> TextIO:
    """Make a folder this process's until the returned file is closed or the process ends.

    Raises:
      FolderBusy: another process, or another part of this one, holds it.
      NoLocks: its file system does not lock files.
      OSError: the folder does not exist or is read-only.
    """
    file = open(Path(folder) / NAME, "w")  # noqa: SIM115  the caller closes it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise FolderBusy(f"another process holds {folder}") from None
    except OSError as error:
        file.close()
        raise NoLocks(
            f"the file system of {folder} does not lock files ({error.strerror}), so two processes could "
            "write there at once: choose a folder on another one, or mount it with locks",
        ) from None
    except BaseException:
        file.close()
        raise
    return file
