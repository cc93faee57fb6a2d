"""Stand in for every program of a stack: answer 200 at the port that the arguments name."""

import http.server
import os
import re
import sys
import time


def port() -> int:
    words = sys.argv[1:]
    for flag in ("--http-port", "--port"):
        if flag in words:
            return int(words[words.index(flag) + 1])
    with open(words[words.index("--config") + 1], encoding="utf-8") as file:
        found = re.search(r"^port: (\d+)$", file.read(), re.MULTILINE)
    assert found is not None
    return int(found[1])


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(405 if self.path == "/v1/completions" else 200)
        self.end_headers()
        self.wfile.write(b"vllm:external_prefix_cache_hits_total 5.0\n")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key = os.environ.get("VLLM_API_KEY")
        is_known = key is None or self.headers["Authorization"] == f"Bearer {key}"
        self.send_response(200 if is_known else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    if sys.argv[1:3] == ["-I", "-c"]:
        sys.path.insert(0, os.path.join(os.path.dirname(__file__), "site"))
        code, *words = sys.argv[3:]
        sys.argv = ["-c", *words]
        exec(code, {"__name__": "__main__"})
    else:
        time.sleep(float(os.environ.get("STAND_IN_STARTS_IN", "0")))
        if "STAND_IN_FAILS" in os.environ:
            sys.exit("told to fail")
        http.server.ThreadingHTTPServer(("127.0.0.1", port()), Answer).serve_forever()
