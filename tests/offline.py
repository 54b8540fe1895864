"""A network namespace that has only loopback, and counts whoever tries to leave it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Self

NAMESERVER = "192.0.2.53"
"""A documentation address (RFC 5737): looking up any name leaves loopback, so it is counted."""


class LoopbackOnly:
    """A namespace held open by a sleeping process; commands enter it with :meth:`command`."""

    def __init__(self, folder: Path, *, drops: bool = False) -> None:
        self.folder = folder
        self.drops = drops
        """Whether what would leave is lost in silence, as behind a firewall, not refused."""

    @staticmethod
    def missing() -> str:
        """Return why no namespace can be made here, or an empty string."""
        if lacking := [tool for tool in ("unshare", "nsenter", "ip") if not shutil.which(tool)]:
            return f"not installed: {', '.join(lacking)}"
        tried = subprocess.run(
            [*_unshare(), "ip", "link", "set", "lo", "up"], capture_output=True, text=True
        )
        return tried.stderr.strip()

    def __enter__(self) -> Self:
        resolver = self.folder / "resolv.conf"
        resolver.write_text(f"nameserver {NAMESERVER}\n", encoding="utf-8")
        script = (
            f"mount --bind {resolver} /etc/resolv.conf && ip link set lo up"
            f"{_NOWHERE if self.drops else ''} && echo ready && exec sleep 100000"
        )
        self.holder = subprocess.Popen(
            [*_unshare(), "-m", "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.holder.kill()
        self.holder.communicate()

    def command(self, *command: str) -> list[str]:
        """Return ``command`` as one that runs inside."""
        user = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        # Entering the mount namespace loses the working directory.
        here = ["env", "--chdir", str(Path.cwd())]
        return ["nsenter", "-t", str(self.holder.pid), "-n", "-m", *user, "--", *here, *command]

    def dropped(self) -> int:
        """Return how many packets went where nothing answers, with ``drops``."""
        text = subprocess.run(
            self.command("cat", "/proc/net/dev"), capture_output=True, text=True, check=True
        ).stdout
        (line,) = re.findall(r"^ *nowhere: *(.*)$", text, re.M)
        return int(line.split()[11])

    def attempts_to_leave(self) -> int:
        """Return how often the kernel had no route: connections, datagrams and name look-ups."""
        files = ("/proc/net/snmp", "/proc/net/snmp6")
        text = subprocess.run(
            self.command("cat", *files), capture_output=True, text=True, check=True
        ).stdout
        names, values = (line.split()[1:] for line in re.findall(r"^Ip: .*$", text, re.M))
        six = re.search(r"^Ip6OutNoRoutes\s+(\d+)", text, re.M)
        return int(dict(zip(names, values, strict=True))["OutNoRoutes"]) + int(
            six.group(1) if six else 0
        )


_NOWHERE = (
    " && ip tuntap add dev nowhere mode tun"
    " && echo 1 > /proc/sys/net/ipv6/conf/nowhere/disable_ipv6"
    " && ip addr add 198.51.100.2/24 dev nowhere && ip link set nowhere up"
    " && ip route add default dev nowhere"
)
"""A tunnel that nobody reads, with documentation addresses (RFC 5737): each packet is dropped."""


def _unshare() -> list[str]:
    return ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-r", "-n"]
