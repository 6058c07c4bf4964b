"""Which addresses processes listen on, read from /proc."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

LISTEN = "0A"  # of TCP; a UDP socket takes in packets from when it is bound


def listeners(pids: Iterable[int]) -> list[tuple[int, str, str]]:
    """Process, kind (tcp, tcp6, udp, udp6) and address of every socket that others can reach."""
    open_sockets = {
        inode: (kind, address)
        for kind in ("tcp", "tcp6", "udp", "udp6")
        for inode, address in _bound(kind)
    }
    found = []
    for pid in pids:
        for inode in _inodes(pid):
            if inode in open_sockets:
                kind, address = open_sockets[inode]
                found.append((pid, kind, address))
    return found


def descendants(pid: int) -> list[int]:
    """A process and all that it, or one of these, has started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def is_loopback(address: str) -> bool:
    """Whether an address cannot be reached from outside the machine."""
    ip = ipaddress.ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def _bound(kind: str) -> Iterator[tuple[str, str]]:
    for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
        fields = line.split()
        state, inode = fields[3], fields[9]
        if kind.startswith("udp") or state == LISTEN:
            yield inode, _address(fields[1].partition(":")[0])


def _address(text: str) -> str:
    """From the kernel's form: words of four bytes, each in the byte order of the machine."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def _inodes(pid: int) -> Iterator[str]:
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target.removeprefix("socket:[").removesuffix("]")
