"""A folder of results belongs to one process at a time, because two would mix their files and undo each other's.

The kernel releases the lock of a process that has died. Where a file system has no such locks, the library `filelock`
writes a file with the id of the process instead, and takes over that of a process of this machine that is gone.
"""

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.errors import ConfigError
from attncodec.files import make_folder, write_atomic

LOCK, SOFT_LOCK, HOLDER = ".lock", ".lock-without-kernel", ".lock-holder.json"
LOCK_FILES = (LOCK, SOFT_LOCK, HOLDER)
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def held(folder: Path, distributed: Distributed = SINGLE_PROCESS) -> Iterator[None]:
    """Hold a folder, which is made if there is none, and removed again if nothing was written into it.

    The processes of a process group are one holder. Raises ConfigError, which names the holder, if another process
    holds the folder, or if it is a file.
    """
    with ExitStack() as stack:
        distributed.run_on_rank0(lambda: stack.enter_context(_held(folder)))
        yield


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    lock = _acquired(folder)
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        write_atomic(
            folder / HOLDER, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode()
        )
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        with suppress(OSError):  # Windows removes no file that is open. One that stays does no harm.
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # A folder that holds something stays.
            for path in made:
                path.rmdir()


def _acquired(folder: Path) -> BaseFileLock:
    try:
        try:
            lock: BaseFileLock = FileLock(folder / LOCK)
            lock.acquire(timeout=0)
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in UNSUPPORTED:
                raise
            lock = SoftFileLock(folder / SOFT_LOCK)
            lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"{folder} is in use by {_holder(folder)}",
            f"wait until it ends, or name another folder with --out; if it is gone for good, remove {error.lock_file}",
        ) from None
    return lock


def _holder(folder: Path) -> str:
    try:
        found = json.loads((folder / HOLDER).read_text())
        return f"process {found['pid']} on {found['host']}, since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # It has just begun or ended.
        return "another process"
