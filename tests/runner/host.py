"""A host for the runner in a temporary directory, and a stand-in for the daemon's log and bundle routes."""

import base64
import gzip
import hashlib
import http.server
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.parse

HOOKS = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "hooks"))
COMMAND = os.path.join(HOOKS, "command.sh")


def runner():
    """The runner's parts, put together as src/revision/script.rs does it."""
    parts = os.path.join(HOOKS, "runner")
    text = b""
    for name in sorted(os.listdir(parts)):
        with open(os.path.join(parts, name), "rb") as part:
            text += part.read()
    return text


TOKEN = "token-of-one-attempt"
NONCE = "n0nceN0nce"
INSTANCE = "i-0123456789abcdef0"
ALL_EVENTS = (
    "AfterBlockTraffic ApplicationStop BeforeInstall Install AfterInstall "
    "ApplicationStart ValidateService BeforeAllowTraffic"
)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# What started the tests may ignore some signals (nohup does, and so does a shell's background job); processes inherit that.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def wait_for(predicate, what, seconds=30):
    """Polls until the predicate holds; fails with `what` when the deadline passes."""
    deadline = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited %s s for %s" % (seconds, what))
        time.sleep(0.02)


def sha(name):
    """A commit SHA made from a name."""
    return hashlib.sha1(name.encode()).hexdigest()


def bundle(files):
    """A .tar.gz as GitHub makes it: everything below one top directory. Values are text, or (text, mode)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            text, mode = content if isinstance(content, tuple) else (content, 0o755)
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo("owner-repo-abcdef0/" + name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Attempt:
    """What the stand-in has received of one attempt's log."""

    def __init__(self):
        self.data = bytearray()
        self.end = None
        self.ended_at = None
        self.query = None
        self.methods = []


class Daemon:
    """The daemon's side: GET offset, PUT/POST bytes, POST end; and bundles by name."""

    def __init__(self):
        self.lock = threading.Lock()
        self.attempts = {}
        self.bundles = {}
        self.requests = []
        self.auth = {}
        self.cut = []  # of the next downloads: bytes after which the connection breaks, or a status in quotes
        self.ranges = True  # bundles are sent from the byte that is asked for
        self.downloads = []  # the first byte of each
        self.answer = None  # a status for every log request
        self.swallow = False  # reads bodies of streams, but forgets them: a dead connection
        self.refuse_streams = False  # a proxy that can't stream
        self.ingest_delay = 0
        self.lose_at_end = None  # number of an attempt whose last bytes are forgotten once, when its end comes
        self.port = 0
        self.server = None
        self.connections = set()
        self.start()

    def start(self):
        daemon = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def setup(self):
                super().setup()
                daemon.connections.add(self.connection)

            def finish(self):
                daemon.connections.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass

            def handle(self):
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True

            def reply(self, status, body=b"", part=None):
                body = body if isinstance(body, bytes) else str(body).encode()
                self.send_response(status)
                if status == 206:
                    self.send_header("Content-Range", part)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def pieces(self):
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    while True:
                        size = int(self.rfile.readline().strip() or b"0", 16)
                        data = self.rfile.read(size)
                        self.rfile.readline()
                        if not size:
                            return
                        yield data
                else:
                    left = int(self.headers.get("Content-Length") or 0)
                    while left > 0:
                        data = self.rfile.read(min(left, 65536))
                        if not data:
                            raise OSError("short body")
                        left -= len(data)
                        yield data

            def route(self):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
                daemon.requests.append((self.command, self.path, self.headers.get("Authorization"), chunked))
                if url.path.startswith("/bundle/"):
                    return self.bundle(url.path[len("/bundle/"):])
                match = re.fullmatch(r"/ingest/v1/attempts/(\d+)(/end)?", url.path)
                if not match:
                    return self.reply(404)
                if daemon.answer or self.headers.get("Authorization") != "Bearer " + TOKEN:
                    b"".join(self.pieces())
                    return self.reply(daemon.answer or 401)
                with daemon.lock:
                    attempt = daemon.attempts.setdefault(match[1], Attempt())
                attempt.methods.append(self.command + (" chunked" if chunked else ""))
                if self.command == "GET":
                    return self.reply(200, len(attempt.data))
                if match[2]:
                    line = b"".join(self.pieces()).decode()
                    size = int(query["size"])
                    if daemon.lose_at_end == match[1]:
                        daemon.lose_at_end = None
                        del attempt.data[-40:]
                    if len(attempt.data) < size:
                        return self.reply(409, len(attempt.data))
                    attempt.end, attempt.query, attempt.ended_at = line, query, time.time()
                    return self.reply(200, size)
                if chunked and daemon.refuse_streams:
                    self.close_connection = True
                    return self.reply(411)
                offset = int(query["offset"])
                if offset != len(attempt.data):
                    b"".join(self.pieces())
                    return self.reply(409, len(attempt.data))
                for piece in self.pieces():
                    if not (chunked and daemon.swallow):
                        with daemon.lock:
                            attempt.data += piece
                    if daemon.ingest_delay:
                        time.sleep(daemon.ingest_delay)
                return self.reply(200, len(attempt.data))

            def bundle(self, name):
                data = daemon.bundles.get(name)
                if data is None:
                    return self.reply(404, "no such bundle")
                if name in daemon.auth and self.headers.get("Authorization") != daemon.auth[name]:
                    return self.reply(401, "no")
                data = data() if callable(data) else data
                asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
                start = int(asked[1]) if asked and daemon.ranges else 0
                daemon.downloads.append(start)
                status = 206 if start else 200
                if start > len(data):
                    return self.reply(416)
                left = daemon.cut.pop(0) if daemon.cut else None
                if left is None:
                    return self.reply(status, data[start:], "bytes %s-%s/%s" % (start, len(data) - 1, len(data)))
                if isinstance(left, str):
                    return self.reply(int(left))
                self.send_response(status)
                self.send_header("Content-Length", str(len(data) - start))
                if status == 206:
                    self.send_header("Content-Range", "bytes %s-%s/%s" % (start, len(data) - 1, len(data)))
                self.end_headers()
                self.wfile.write(data[start:start + left])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

            do_GET = do_PUT = do_POST = route

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        """As a killed daemon: the port closes, open connections are reset."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @property
    def log_url(self):
        return "http://127.0.0.1:%d/ingest/v1/attempts" % self.port

    def bundle_url(self, name):
        return "http://127.0.0.1:%d/bundle/%s" % (self.port, name)


class Done:
    """A runner that has ended: its exit code, stdout and the fields of its result line."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        lines = out.rstrip("\n").split("\n")
        self.line = lines[-1]
        self.fields = dict(part.split("=", 1) for part in self.line.split()[2:]) if self.has_result else {}

    @property
    def has_result(self):
        return self.line.startswith("drover: result ")

    def __getitem__(self, key):
        return self.fields[key]

    def __repr__(self):
        return "exit %s\n%s\n-- stderr\n%s" % (self.code, self.out, self.err)


def command(spec):
    """The very script that SendCommand carries, as src/revision/script.rs makes it."""
    with open(COMMAND) as source:
        text = source.read()
    lines = runner().decode().splitlines(keepends=True)
    code = "".join(line for line in lines if not line.startswith("# ") and line.rstrip("\n") != "#").encode()
    packed = base64.b64encode(gzip.compress(code, 9, mtime=0)).decode()
    name = hashlib.sha256(code).hexdigest()[:16]
    spec = base64.b64encode(gzip.compress(spec.encode(), 9, mtime=0)).decode()
    return text.replace("@NAME@", name).replace("@RUNNER@", packed).replace("@SPEC@", spec)


class Host:
    """A host: a root directory, and a PATH whose `sh` and tools are those of one flavour."""

    def __init__(self, flavour):
        self.root = tempfile.mkdtemp(prefix="drover-runner-")
        os.chmod(self.root, 0o755)
        self.path = flavour(os.path.join(self.root, "bin"))
        self.runner = os.path.join(self.root, "runner.sh")
        with open(self.runner, "wb") as file:
            file.write(runner())
        self.app = os.path.join(self.root, "opt/drover/eval")
        self.env = {"PATH": self.path, "AWS_SSM_INSTANCE_ID": INSTANCE, "AWS_SSM_REGION_NAME": "eu-north-1",
                    "DROVER_ROOT": self.root, "LEAKED": "from the agent"}
        self.number = 1700000000000
        self.started = []
        self.daemon = Daemon()

    def close(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()
        self.daemon.stop()
        ours = os.fsencode(self.root)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/environ" % pid, "rb") as environ, open("/proc/%s/cmdline" % pid, "rb") as line:
                    if ours in environ.read() or ours in line.read():
                        os.kill(int(pid), 9)
            except (OSError, ValueError):
                pass
        shutil.rmtree(self.root, ignore_errors=True)

    def next(self):
        self.number += 1
        return self.number

    def publish(self, name, files):
        """Makes a bundle available; returns its commit SHA."""
        self.daemon.bundles[sha(name)] = bundle(files)
        return sha(name)

    def spec(self, kind="run", **given):
        """The text of a spec. `first`, `good`, `attempt`, `rows` go into the table, the rest are D_ variables."""
        revision = given.get("sha", "")
        first = given.pop("first", None)
        events = given.get("events", "DownloadBundle" if kind == "stage" else ALL_EVENTS)
        attempt = given.pop("attempt", None) or self.next()
        good = given.pop("good", "-")
        row = "%s %s %s %s %s %s eu-north-1a" % (INSTANCE, attempt, first or events.split()[0], NONCE, TOKEN, good)
        values = {"spec": "1", "kind": kind, "app": "eval", "group": "eval/production", "deployment": "42", "dispatch": "d-7",
                  "bundle_url": self.daemon.bundle_url(revision), "bundle_sha256": "", "bundle_auth": "", "bundle_form": "tar.gz", "bundle_wrapped": "1",
                  "log_url": self.daemon.log_url, "keep": "3", "events": events, "hooks": "", "env": "", "stop_mode": "now",
                  "instances": given.pop("rows", row)}
        values.update(given)
        return "".join("D_%s='%s'\n" % (k.upper(), str(v).replace("'", "'\\''")) for k, v in values.items())

    def start(self, kind="run", text=None, **given):
        """Starts a runner as the agent does: a group of its own, stdin closed."""
        umask = given.pop("umask", 0o022)
        ignored = given.pop("ignored", ())

        def ignore():
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)

        path = os.path.join(self.root, "_script-%s.sh" % len(self.started))
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o700), "w") as script:
            script.write(command(text or self.spec(kind, **given)))
        process = subprocess.Popen(
            ["sh", path], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, executable=shutil.which("sh", path=self.path), cwd=self.root, umask=umask, preexec_fn=ignore)
        process.spec = os.path.join(self.root, "opt/drover/.runner/spec.%s" % process.pid)
        self.started.append(process)
        return process

    def finish(self, process, seconds=60):
        out, err = process.communicate(timeout=seconds)
        return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))

    def run(self, kind="run", text=None, **given):
        return self.finish(self.start(kind, text, **given))

    def file(self, *parts):
        with open(os.path.join(self.app, *map(str, parts)), "rb") as source:
            return source.read()

    def exists(self, *parts):
        return os.path.lexists(os.path.join(self.app, *map(str, parts)))

    def log(self, attempt=None):
        return self.file("attempts", attempt or self.number, "log").decode(errors="replace")

    def controls(self, attempt=None):
        """The control lines without nonce and time."""
        found = re.findall("^\x1edrover %s (.*) at=\\d+$" % NONCE, self.log(attempt), re.M)
        return found

    def read(self, name):
        """A file that a hook left in $DROVER_ROOT; empty where there is none yet."""
        try:
            with open(os.path.join(self.root, name)) as source:
                return source.read()
        except FileNotFoundError:
            return ""

    def go(self):
        """What waiting hooks wait for."""
        open(os.path.join(self.root, "go"), "w").close()

    def forget(self, name):
        """Removes such a file."""
        if os.path.exists(os.path.join(self.root, name)):
            os.remove(os.path.join(self.root, name))

    def trace(self):
        """What the test's own hooks noted in the file $DROVER_ROOT/trace."""
        return self.read("trace").split("\n")[:-1]

    def delivered(self, attempt=None, seconds=30):
        """Waits until the stand-in has the attempt's end; returns what it has."""
        number = str(attempt or self.number)
        wait_for(lambda: number in self.daemon.attempts and self.daemon.attempts[number].end, "the end of the log", seconds)
        return self.daemon.attempts[number]


def _link(directory, names):
    os.makedirs(directory, exist_ok=True)
    for name, target in names.items():
        os.symlink(target, os.path.join(directory, name))
    return directory


def need(name):
    """The path of a tool; a missing one is a failure, not a reason to skip."""
    found = shutil.which(name, path=SYSTEM_PATH)
    if not found:
        raise AssertionError("%s is missing: install it (tests/runner needs dash, bash, busybox, curl and wget)" % name)
    return found


def dash(directory):
    return _link(directory, {"sh": need("dash")}) + ":" + SYSTEM_PATH


def bash(directory):
    return _link(directory, {"sh": need("bash")}) + ":" + SYSTEM_PATH


def _applets():
    busybox = need("busybox")
    listed = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, check=True).stdout.decode().split()
    names = {name: busybox for name in listed if name != "busybox"}
    # Debian's busybox is built without su, which no host with runas is without.
    names.setdefault("su", need("su"))
    return names


def busybox(directory):
    """busybox alone, with curl."""
    names = _applets()
    names["curl"] = need("curl")
    return _link(directory, names)


def busybox_wget(directory):
    """busybox alone, with its own wget."""
    return _link(directory, _applets())


def gnu_wget(directory):
    """dash and the system's tools, but curl is not there."""
    names = {"sh": need("dash")}
    for folder in reversed(SYSTEM_PATH.split(":")):
        if os.path.isdir(folder):
            for name in os.listdir(folder):
                if name not in ("curl", "sh"):
                    names[name] = os.path.join(folder, name)
    return _link(directory, names)
