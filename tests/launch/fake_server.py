"""Stand in for a server process: a socket that answers 200, and every way to misbehave."""

import argparse
import os
import re
import signal
import socket
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("marker")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--trace", required=True, help="file that gets one line for each event")
    parser.add_argument("--ready-after", type=float, default=0.0)
    parser.add_argument("--exit-after", type=float, default=1e9)
    parser.add_argument("--status", type=int, default=0)
    parser.add_argument("--die-of-kill", action="store_true")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--stop-takes", type=float, default=0.0)
    parser.add_argument(
        "--grandchild", action="store_true", help="it outlives its parent and only notes TERM"
    )
    parser.add_argument(
        "--leaver", action="store_true", help="a grandchild in a session of its own, deaf to TERM"
    )
    parser.add_argument("--silent", action="store_true", help="accept connections and never answer")
    parser.add_argument("--answer", default="200 OK")
    parser.add_argument("--answer-to", default="", help="another request gets status 404")
    parser.add_argument("--key", default="", help="a request without it gets status 401")
    parser.add_argument("--lines", type=int, default=0)
    options = parser.parse_args()

    def note(event: str) -> None:
        with open(options.trace, "a", encoding="utf-8") as trace:
            trace.write(f"{time.monotonic():.3f} {options.name} {event}\n")

    def on_term(_signal: int, _frame: object) -> None:
        note("term")
        if options.ignore_term:
            return
        time.sleep(options.stop_takes)
        note("end")
        os._exit(0)

    signal.signal(signal.SIGTERM, on_term)
    note("start")
    if options.grandchild:
        signal.signal(signal.SIGTERM, lambda *_: note("grandchild term"))
        if os.fork() == 0:
            while True:
                signal.pause()
        signal.signal(signal.SIGTERM, on_term)
    if options.leaver and os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork():
            os._exit(0)
        while True:
            signal.pause()
    for number in range(options.lines):
        print(f"line {number}", flush=True)
    serve(options)


def serve(options: argparse.Namespace) -> None:
    born = time.monotonic()
    listener: socket.socket | None = None
    held: list[socket.socket] = []
    while True:
        age = time.monotonic() - born
        if age >= options.exit_after:
            if options.die_of_kill:
                os.kill(os.getpid(), signal.SIGKILL)
            sys.exit(options.status)
        if listener is None and age >= options.ready_after:
            listener = socket.create_server(("127.0.0.1", options.port))
            listener.settimeout(0.05)
        if listener is None:
            time.sleep(0.05)
            continue
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if options.silent:
            held.append(connection)
            continue
        request = b""
        while b"\r\n\r\n" not in request and (part := connection.recv(4096)):
            request += part
        head, _, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        while length and len(body) < int(length[1]) and (part := connection.recv(4096)):
            body += part
        asked = head.split(b" ")[0] + b" " + body
        meant = options.answer_to in ("", asked.decode())
        answer = options.answer if meant else "404 Not Found"
        if options.key and f"\r\nAuthorization: Bearer {options.key}".encode() not in head:
            answer = "401 Unauthorized"
        connection.sendall(f"HTTP/1.0 {answer}\r\nContent-Length: 0\r\n\r\n".encode())
        connection.close()


if __name__ == "__main__":
    main()
