"""The memfd that carries a packed configuration to processes that start later."""

import os


def to_memfd(data: bytes) -> int:
    """A sealed-by-convention descriptor holding `data`; the caller owns it."""
    fd = os.memfd_create("gateway-snapshot", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd
