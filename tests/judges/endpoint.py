"""A server that answers a judge well, badly or not at all."""

from __future__ import annotations

SERVER = """
import gzip, json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

log = []
BOMB = gzip.compress(b" " * 50_000_000)

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def send(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.endswith("/log"):
            return self.send(200, json.dumps(log).encode())
        if self.path.endswith("/forget"):
            log.clear()
        self.send(200, b'{"data": [{"id": "eyes"}]}')

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = self.path.split("/")[1].replace("_", " ")
        log.append({"model": body["model"], "key": self.headers.get("Authorization"),
                    "max_tokens": body.get("max_tokens"), "temperature": body.get("temperature"),
                    "kinds": [part["type"] for part in body["messages"][0]["content"]]})
        said = lambda text: json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        tries = sum(1 for _ in log)
        if kind == "good":
            return self.send(200, said('Sure: {"better": "B"}'))
        if kind == "vague":
            return self.send(200, said('{"better": "A"} or {"better": "B"}'))
        if kind == "broken":
            return self.send(200, b'<html>not json')
        if kind == "odd":
            return self.send(200, b'[1, 2]')
        if kind == "refuses":
            return self.send(401, b'{}')
        if kind == "explains":
            words = "No such key: " + str(self.headers.get("Authorization")) + ". Ask your administrator."
            return self.send(400, json.dumps({"error": {"message": words, "code": 7}}).encode())
        if kind == "busy" and tries < 3:
            return self.send(429, b'{}', [("Retry-After", "0.1")])
        if kind == "full" and tries < 2:
            return self.send(429, b'{}', [("Retry-After", "3600")])
        if kind == "moved":
            return self.send(307, b'', [("Location", "http://127.0.0.1:9/elsewhere")])
        if kind == "deep":
            return self.send(200, b"[" * 100_000)
        if kind == "huge number":
            return self.send(200, b'{"choices": ' + b"9" * 5000 + b'}')
        if kind == "bomb":
            return self.send(200, BOMB, [("Content-Encoding", "gzip")])
        if kind == "bad gzip":
            return self.send(200, b'not gzip', [("Content-Encoding", "gzip")])
        if kind == "cut short":
            return self.send(200, b'{"choices"', [("Content-Length", "999")])
        if kind == "escapes":
            return self.send(200, said('\\x1b[2J\\x1b]0;title\\x07 {"better": "B"}'))
        if kind == "down":
            return self.send(503, b'{}')
        if kind == "slow":
            time.sleep(1.5)
        if kind == "drips":
            self.send_response(200)
            self.end_headers()
            for _ in range(40):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
            return
        if kind == "drips headers":
            try:
                for byte in b"HTTP/1.1 200 OK" + b"x" * 60:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(0.1)
            except OSError:
                pass
            return
        if kind == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" " * 65536)
            except OSError:
                return
        self.send(200, said('{"better": "A"}'))

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
