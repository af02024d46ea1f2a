"""Run a server until standard input is closed; print the port that it listens on.

Whoever holds the other end of the pipe may end in any way, also by SIGKILL: the server ends with it.
"""

import os
import subprocess
import sys
import threading
import time

import psutil


def main() -> None:
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr)

    def end() -> None:
        sys.stdin.read()
        server.kill()
        server.wait()
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
    watched = psutil.Process(server.pid)
    while server.poll() is None:
        # Not a connection: with a port of chance that could be answered by another's server.
        with_ports = (one for one in watched.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
        if (found := next(with_ports, None)) is not None:
            print(found.laddr.port, flush=True)
            break
        time.sleep(0.02)
    sys.exit(server.wait())


if __name__ == "__main__":
    main()
