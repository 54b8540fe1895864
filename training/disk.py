"""A full disk in one line, whichever library met it; the last checkpoint stays."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.store import cannot_write

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
_LOW_SPACE = 64 * 2**20
"""Free bytes under which a failed write is taken for a full disk."""


@contextmanager
def full_disk(out: Path) -> Iterator[None]:
    """Turn what the libraries raise on a full disk into one line; the last checkpoint stays."""
    from safetensors import SafetensorError

    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        # transformers raises plain OSErrors, without a number, for what is not of the disk.
        if error.errno not in _DISK_ERRORS:
            raise
        raise cannot_write(out, error) from None
    # torch and safetensors wrap the system's error in their own.
    except (RuntimeError, SafetensorError) as error:
        full = "No space left" in str(error) or (
            "write" in str(error).lower() and shutil.disk_usage(out).free < _LOW_SPACE
        )
        if not full:
            raise
        raise cannot_write(out, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from None
