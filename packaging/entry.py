"""What the frozen executable runs: gatewayctl, or with `-m gateway ROLE` the process that it starts itself again as.

`-m` is what the same command lines say to a Python that is not frozen, so no caller needs to know which of the two it is.
"""

import os
import sys

ORIGINAL = "_ORIG"


def restore_environment() -> None:
    """PyInstaller points the dynamic linker at our own libraries. Programs of the host that we start must not load those; and
    what we start of ourselves, or of another version of us, is pointed there anew when it does not find PyInstaller's notes."""
    for name in [name for name in os.environ if name.startswith("_PYI_")]:
        del os.environ[name]
    for name in ("LD_LIBRARY_PATH", "LD_PRELOAD"):
        before = os.environ.pop(name + ORIGINAL, None)
        if before is not None:
            os.environ[name] = before
        elif name == "LD_LIBRARY_PATH" and os.environ.get(name, "").startswith(sys._MEIPASS):  # type: ignore[attr-defined]
            del os.environ[name]


def remember_link() -> None:
    """A link that we were started by may lead to another version later: SIGUSR2 goes where it leads then."""
    if os.path.isabs(sys.argv[0]) and os.path.islink(sys.argv[0]):
        os.environ["GATEWAYCTL_LINK"] = sys.argv[0]


def main() -> int:
    restore_environment()
    remember_link()
    if sys.argv[1:3] == ["-m", "gateway"]:
        del sys.argv[1:3]
        from gateway.__main__ import main as gateway

        return gateway()
    from gatewayctl.__main__ import main as gatewayctl

    gatewayctl()


if __name__ == "__main__":
    sys.exit(main())
