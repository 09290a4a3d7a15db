#!/usr/bin/env python3
"""Runs simple_switch on veth pairs: frames from pcap files go in by real devices, and what comes out is written to pcap files.

    veth.py DIR DROPS PORT...

To be run in a network namespace of its own. DIR holds partywall.json and, for each port, fPORT_in.pcap; fPORT_out.pcap is written
there. load.txt and ask.txt are commands for simple_switch_CLI, before the first frame and after the last; loaded.txt and counted.txt
what it answers. All frames are through when each has come out or was counted in the counter DROPS.
"""

import glob
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time

OUTGOING = 4
# Frames that wait in the switch's ring for a device while it does not run: libpcap makes each place large enough for 64 KiB.
WINDOW = 16
THRIFT = "9090"
ASKED = 8
LOCK = threading.Lock()


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
            with LOCK:
                state["out"] += 1


def command(commands, answers):
    """What simple_switch_CLI answers to a file of commands, which is written to another."""
    with open(commands, "rb") as file:
        run = subprocess.run(["simple_switch_CLI", "--thrift-port", THRIFT], stdin=file, capture_output=True, check=False)
    with open(answers, "wb") as file:
        file.write(run.stdout)
    return run.stdout.decode()


def listens(switch):
    """Waits until the switch takes commands."""
    while True:
        if switch.poll() is not None:
            raise RuntimeError("the switch does not start")
        try:
            socket.create_connection(("127.0.0.1", int(THRIFT))).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)


def sleeps(switch):
    """Whether all threads of the switch wait for something: proc_pid_stat(5), the state stands after the name."""
    for path in glob.glob(f"/proc/{switch.pid}/task/*/stat"):
        try:
            with open(path, encoding="ascii") as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "S":
            return False
    return True


def settle(switch, looks=4, apart=0.05):
    """Waits until the switch has nothing to do, several times one after the other."""
    asleep = 0
    while asleep < looks:
        time.sleep(apart)
        if switch.poll() is not None:
            raise RuntimeError("the switch has ended")
        asleep = asleep + 1 if sleeps(switch) else 0


def main():
    folder, drops, ports = sys.argv[1], sys.argv[2], sys.argv[3:]
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
    quiet = subprocess.DEVNULL
    switch = subprocess.Popen(
        ["simple_switch", "--thrift-port", THRIFT, "--log-level", "off", *devices, "partywall.json"], stdout=quiet, stderr=quiet
    )
    try:
        listens(switch)
        command("load.txt", "loaded.txt")
        state = {"done": False, "out": 0}
        sockets = {port: opened(f"p{port}") for port in ports}
        threads = [
            threading.Thread(target=capture, args=(sockets[port], f"f{port}_out.pcap", state)) for port in ports
        ]
        for thread in threads:
            thread.start()
        given = 0
        for port in ports:
            for frame in frames(f"f{port}_in.pcap"):
                sockets[port].send(frame)
                given += 1
                if given % WINDOW == 0:
                    settle(switch, 2, 0.002)
        for _ in range(ASKED):
            settle(switch)
            counted = re.findall(re.escape(drops) + r"\[\d+\]= \(\d+ bytes, (\d+) packets\)", command("ask.txt", "counted.txt"))
            # By now the threads have had the time to take what came out.
            if sum(map(int, counted)) + state["out"] >= given:
                break
        state["done"] = True
        for thread in threads:
            thread.join()
    finally:
        switch.kill()
        switch.wait()


if __name__ == "__main__":
    main()
