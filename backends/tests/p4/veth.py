#!/usr/bin/env python3
"""Runs simple_switch on veth pairs: frames from pcap files go in by real devices, and what comes out is written to pcap files.

    veth.py DIR THRIFT_PORT PORT...

To be run in a network namespace of its own. DIR holds partywall.json, bmv2.txt and, for each port, fPORT_in.pcap; fPORT_out.pcap is
written there, and what simple_switch_CLI said to loaded.txt.
"""

import os
import socket
import struct
import subprocess
import sys
import threading
import time

OUTGOING = 4
BURST, PAUSE = 10, 0.01


def run(*words):
    subprocess.run(words, check=True)


def frames(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 24
    while at + 16 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def opened(device):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    sock.bind((device, 0))
    sock.settimeout(0.2)
    return sock


def capture(sock, path, state):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        while not state["done"]:
            try:
                frame, (_, _, kind, _, _) = sock.recvfrom(65535)
            except socket.timeout:
                continue
            if kind == OUTGOING:
                continue
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
            state["last"] = time.monotonic()


def load(folder, thrift):
    """Entries, as soon as the switch listens."""
    for _ in range(60):
        with open("bmv2.txt", "rb") as entries:
            loaded = subprocess.run(
                ["simple_switch_CLI", "--thrift-port", thrift], stdin=entries, capture_output=True, check=False
            )
        if b"Could not connect" not in loaded.stdout + loaded.stderr:
            break
        time.sleep(0.5)
    with open(os.path.join(folder, "loaded.txt"), "wb") as file:
        file.write(loaded.stdout)


def main():
    folder, thrift, ports = sys.argv[1], sys.argv[2], sys.argv[3:]
    os.chdir(folder)
    for key in ("all", "default"):
        with open(f"/proc/sys/net/ipv6/conf/{key}/disable_ipv6", "w", encoding="ascii") as file:
            file.write("1")
    run("ip", "link", "set", "lo", "up")
    devices = []
    for port in ports:
        run("ip", "link", "add", f"s{port}", "type", "veth", "peer", "name", f"p{port}")
        for device in (f"s{port}", f"p{port}"):
            run("ip", "link", "set", device, "mtu", "9500", "up")
        devices += ["-i", f"{port}@s{port}"]
    with open("switch.log", "wb") as log:
        switch = subprocess.Popen(
            ["simple_switch", "--thrift-port", thrift, *devices, "partywall.json"], stdout=log, stderr=log
        )
    try:
        load(folder, thrift)
        state = {"done": False, "last": time.monotonic()}
        sockets = {port: opened(f"p{port}") for port in ports}
        threads = [
            threading.Thread(target=capture, args=(sockets[port], f"f{port}_out.pcap", state)) for port in ports
        ]
        for thread in threads:
            thread.start()
        for port in ports:
            for at, frame in enumerate(frames(f"f{port}_in.pcap")):
                sockets[port].send(frame)
                if at % BURST == BURST - 1:
                    time.sleep(PAUSE)
        # Until nothing has come for a while.
        while time.monotonic() - state["last"] < 4:
            time.sleep(0.2)
        state["done"] = True
        for thread in threads:
            thread.join()
    finally:
        switch.kill()
        switch.wait()


if __name__ == "__main__":
    main()
