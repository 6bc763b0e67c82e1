"""Where an installation lies (`gatewayctl install`), and which files a packaged gatewayctl has with it. Changes nothing."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayctl.trouble import Trouble

USER: Final = "gateway"
PACKAGED: Final = "lib/systemd/system/gateway.service"
"""Where a deb or rpm has the unit, below /usr."""
COMPLETIONS: Final = {
    "bash/gatewayctl": "bash-completion/completions/gatewayctl",
    "zsh/_gatewayctl": "zsh/site-functions/_gatewayctl",
    "fish/gatewayctl.fish": "fish/vendor_completions.d/gatewayctl.fish",
}
MARK: Final = "# Written by `gatewayctl install`."


@dataclass(frozen=True)
class Layout:
    """An installation below `prefix`, seen from `root` (/ but for a trial)."""

    root: Path
    prefix: Path

    def at(self, path: str | Path) -> Path:
        """Where a path of the installed system is now."""
        return self.root / str(path).lstrip("/")

    @property
    def versions(self) -> Path:
        return self.at(self.prefix) / "lib/gateway"

    @property
    def link(self) -> Path:
        return self.at(self.prefix) / "bin/gatewayctl"

    @property
    def units(self) -> Path:
        return self.at("/etc/systemd/system")

    @property
    def share(self) -> Path:
        return self.at(self.prefix) / "share"

    @property
    def etc(self) -> Path:
        return self.at("/etc/gateway")

    @property
    def data(self) -> Path:
        return self.at("/var/lib/gateway")

    def present(self) -> Path | None:
        """The folder of the version that the link leads to."""
        if not self.link.is_symlink():
            return None
        folder = Path(os.path.normpath(self.link.parent / self.link.readlink())).parent
        return folder if folder.parent == self.versions else None

    def unlink_manual(self) -> None:
        """Takes away what man and the shells were shown of any version."""
        for folder in ("man/man1", "man/man5", *(os.path.dirname(place) for place in COMPLETIONS.values())):
            for link in (self.share / folder).glob("*gate*"):
                if link.is_symlink() and os.path.normpath(link.parent / link.readlink()).startswith(f"{self.versions}/"):
                    link.unlink()

    def must_not_be_packaged(self) -> None:
        """Two installations would fight for one service."""
        if self.at(f"/usr/{PACKAGED}").exists():
            raise Trouble("the gateway was installed here as a package", "Use the package manager: dnf or apt.")


def looked_for(share: Path) -> list[tuple[Path, str]]:
    """Manual pages and completions in a packaged `share`, each with where man and shells look for it below /usr/share."""
    found = [(page, f"man/man{page.suffix[1:]}/{page.name}") for page in sorted((share / "man").iterdir())]
    return found + [(share / "completions" / file, place) for file, place in COMPLETIONS.items()]


def packaged() -> Path:
    """The folder that this program runs from. Raises Trouble when it is a checkout or a virtual environment."""
    folder = Path(sys.executable).parent
    if not getattr(sys, "frozen", False) or not (folder / "share").is_dir():
        raise Trouble("only a packaged gatewayctl can install itself", "`make binary` makes one.")
    return folder


def must_be_root(root: Path) -> None:
    if os.geteuid() != 0 and root == Path("/"):
        raise Trouble("this needs root", "Say it with sudo.", code=4)
