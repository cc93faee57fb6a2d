"""Stand in for a server whose sockets are held in some way: by several processes, for both IPs."""

import http.server
import os
import socket
import sys
import threading
import time


class Answer(http.server.BaseHTTPRequestHandler):
    """Answer every request with 200."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def listen(host: str, port: int, *, again: bool = False) -> socket.socket:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if again:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if kind == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind((host, port))
    made.listen(64)
    return made


def serve(made: socket.socket) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False)
    server.socket.close()
    server.socket = made
    server.serve_forever()


def main() -> None:
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "each its own":  # SO_REUSEPORT
        os.fork()
        serve(listen("127.0.0.1", port, again=True))
    elif kind == "left its session":
        if os.fork():
            while True:
                time.sleep(60)
        os.setsid()
        if os.fork():
            os._exit(0)
        serve(listen("127.0.0.1", port))
    elif kind == "workers hold it":
        made = listen("127.0.0.1", port)
        if os.fork():
            made.close()
            while True:
                time.sleep(60)
        os.fork()
        serve(made)
    elif kind == "both":
        first, second = listen("0.0.0.0", port, again=True), listen("127.0.0.1", port, again=True)
        threading.Thread(target=serve, args=(first,), daemon=True).start()
        serve(second)
    else:
        serve(listen(kind, port))


if __name__ == "__main__":
    main()
