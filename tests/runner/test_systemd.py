"""The stock hooks for a systemd service, against a stand-in for systemctl that keeps its state in files."""

import http.server
import os
import shutil
import subprocess
import tempfile
import threading
import unittest

import host as h

HOOKS = os.path.join(h.HOOKS, "systemd")

SYSTEMCTL = """#!/bin/sh
# state: what ActiveState is now; then: what it becomes with the next question after a (re)start
cd "$STATE" || exit 9
echo "$*" >>calls
case "$*" in
"show --property=LoadState --value "*) cat load ;;
"show --property=ActiveState --value "*) cat state; [ -e then ] && mv then state; exit 0 ;;
"show --property=Job --value "*) [ -e then ] && echo 17; exit 0 ;;
stop\\ *) [ -e wont-stop ] && exit 1; echo inactive >state ;;
"restart --no-block "*) [ -e unknown ] && { echo "Unit not found." >&2; exit 5; }; cp after-start then; echo activating >state ;;
"is-active --quiet "*) [ "$(cat state)" = active ] ;;
status\\ *) echo "status of the unit"; exit 3 ;;
esac
"""


class Stock(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="drover-systemd-")
        self.addCleanup(shutil.rmtree, self.dir)
        for name, text in (("systemctl", SYSTEMCTL), ("journalctl", "#!/bin/sh\necho last words of the service\n")):
            path = os.path.join(self.dir, name)
            with open(path, "w") as script:
                script.write(text)
            os.chmod(path, 0o755)
        self.state(load="loaded", state="active", **{"after-start": "active"})

    def state(self, **files):
        for name, text in files.items():
            with open(os.path.join(self.dir, name), "w") as out:
                out.write(text + "\n")

    def calls(self):
        with open(os.path.join(self.dir, "calls")) as calls:
            return calls.read()

    def hook(self, name, **env):
        env = dict({"PATH": self.dir + ":" + h.SYSTEM_PATH, "STATE": self.dir, "APPLICATION_NAME": "eval"}, **env)
        done = subprocess.run([os.path.join(HOOKS, name)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        return done.returncode, done.stdout.decode()

    def test_stop(self):
        self.assertEqual(self.hook("application-stop"), (0, "eval is stopped\n"))
        self.assertIn("stop eval\n", self.calls())
        self.assertEqual(self.hook("application-stop", DROVER_UNIT="eval-web.service")[0], 0)
        self.assertIn("stop eval-web.service\n", self.calls())

    def test_stop_of_what_is_not_there(self):
        self.state(load="not-found")
        self.assertEqual(self.hook("application-stop"), (0, "eval is not installed here, nothing to stop\n"))
        self.assertNotIn("stop eval", self.calls())

    def test_stop_fails(self):
        self.state(**{"wont-stop": ""})
        code, out = self.hook("application-stop")
        self.assertEqual(code, 1)
        self.assertEqual(out, "eval did not stop\nstatus of the unit\nlast words of the service\n")

    def test_start(self):
        self.assertEqual(self.hook("application-start"), (0, "eval is active\n"))
        self.assertIn("daemon-reload\nrestart --no-block eval\n", self.calls())

    def test_start_fails(self):
        self.state(**{"after-start": "failed"})
        self.assertEqual(self.hook("application-start"), (1, "eval is failed\nstatus of the unit\nlast words of the service\n"))
        self.state(unknown="")
        code, out = self.hook("application-start")
        self.assertEqual(code, 1)
        self.assertIn("Unit not found.\neval can't be started\n", out)

    def test_start_takes_too_long(self):
        self.state(**{"after-start": "activating"})
        code, out = self.hook("application-start", DROVER_START_LIMIT="1")
        self.assertEqual(code, 1)
        self.assertIn("eval is still activating after 1 s\n", out)

    def test_validate(self):
        code, out = self.hook("validate-service")
        self.assertEqual(code, 0)
        self.assertIn("eval is active", out)
        self.state(state="failed")
        code, out = self.hook("validate-service")
        self.assertEqual(code, 1)
        self.assertEqual(out, "eval is not active\nstatus of the unit\nlast words of the service\n")

    def test_validate_asks_the_health_url(self):
        answers = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answers.append(1)
                status, body = (200, b"fine") if len(answers) > 2 and self.path == "/late" else (503, b"warming up")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = "http://127.0.0.1:%d" % server.server_address[1]
        self.assertEqual(self.hook("validate-service", DROVER_HEALTH_URL=url + "/late"), (0, "eval is active and %s/late answers\n" % url))
        self.assertEqual(len(answers), 3)
        code, out = self.hook("validate-service", DROVER_HEALTH_URL=url, DROVER_HEALTH_LIMIT="1")
        self.assertEqual(code, 1)
        self.assertIn("within 1 s; its last answer:\nwarming up\nHTTP status 503\nstatus of the unit\n", out)

    def test_shellcheck(self):
        for name in os.listdir(HOOKS):
            found = subprocess.run([h.need("shellcheck"), os.path.join(HOOKS, name)], stdout=subprocess.PIPE)
            self.assertEqual(found.returncode, 0, found.stdout.decode())


if __name__ == "__main__":
    unittest.main()
