"""How the log reaches the daemon: streamed, resumed, polled, ended; and what happens while the daemon is away."""

import hashlib
import os
import re
import time

import host as h
from host import wait_for
from test_runner import Case, tracing

WAIT = 'until [ -e "$DROVER_ROOT/go" ]; do sleep 0.05; done\n'


class Push:
    """Rules that hold for every tool."""

    def assertDelivered(self, done, seconds=30):
        """The stand-in has the whole log and the result line; returns what it has."""
        received = self.host.delivered(done["attempt"], seconds)
        log = self.host.file("attempts", done["attempt"], "log")[:int(done["bytes"])]
        self.assertEqual(bytes(received.data[:len(log)]), self.as_sent(log))
        self.assertEqual(received.end, done.line + "\n")
        self.assertEqual((received.query["size"], received.query["sha256"]), (done["bytes"], hashlib.sha256(log).hexdigest()))
        return received

    def as_sent(self, data):
        return data

    def test_any_bytes(self):
        revision = self.host.publish("one", {"hook.sh": '#!/bin/sh\ncat "$DROVER_RELEASE/bytes"\n', "bytes": bytes(range(256)) * 40})
        done = self.host.run(sha=revision, hooks="ApplicationStart|20||hook.sh")
        self.assertResult(done, status="succeeded")
        self.assertIn(self.as_sent(bytes(range(256)) * 40), bytes(self.assertDelivered(done).data))

    def test_a_large_log(self):
        given = self.publish_one_hook("#!/bin/sh\nseq 1 1500000\n")
        done = self.host.run(**given)
        self.assertGreater(int(done["bytes"]), 10000000)
        self.assertDelivered(done, 60)

    def test_lines_arrive_while_the_hook_runs(self):
        given = self.publish_one_hook(tracing("ran", "echo first sign\n" + WAIT + "echo second sign\n"))
        process = self.host.start(**given)
        number = str(self.host.number)
        wait_for(lambda: b"first sign\n" in self.received(number), "the first line")
        self.assertNotIn(b"second sign\n", self.received(number))
        self.host.go()
        self.assertDelivered(self.host.finish(process))

    def received(self, number):
        attempt = self.host.daemon.attempts.get(number)
        return bytes(attempt.data) if attempt else b""

    def test_the_runner_does_not_wait_for_the_daemon(self):
        self.host.daemon.ingest_delay = 0.5
        given = self.publish_one_hook("#!/bin/sh\necho x\n")
        self.assertResult(self.host.run("stage", **given), status="succeeded")
        self.host.daemon.stop()
        # returns at end of file on stdout and stderr, as the agent does: while the daemon is still away
        done = self.host.run(**given)
        self.assertResult(done, status="succeeded")
        self.host.daemon.start()
        self.assertDelivered(done)

    def test_daemon_restarts_while_a_hook_runs(self):
        given = self.publish_one_hook(tracing("ran", "echo before\n" + WAIT + "echo after\n" + WAIT.replace("/go", "/end")))
        process = self.host.start(**given)
        number = str(self.host.number)
        wait_for(lambda: b"before\n" in self.received(number), "the first line")
        self.host.daemon.stop()
        self.host.daemon.start()
        self.host.go()
        # the stale connection is noticed, though the hook writes nothing more
        wait_for(lambda: b"after\n" in self.received(number), "the line written after the restart", 40)
        open(os.path.join(self.host.root, "end"), "w").close()
        self.assertDelivered(self.host.finish(process))

    def test_a_lower_offset_is_honoured(self):
        """The daemon lost what it had not written: it asks for it again."""
        given = self.publish_one_hook(tracing("ran", "echo before\n" + WAIT + "echo after\n"))
        process = self.host.start(**given)
        number = str(self.host.number)
        wait_for(lambda: b"before\n" in self.received(number), "the first line")
        self.host.daemon.stop()
        del self.host.daemon.attempts[number].data[50:]
        self.host.daemon.start()
        self.host.go()
        self.assertDelivered(self.host.finish(process))

    def test_bytes_lost_before_the_end(self):
        """The end is answered with 409: what is missing is sent, then the end again."""
        daemon = self.host.daemon
        given = self.publish_one_hook(tracing("ran", "echo before\n" + WAIT))
        process = self.host.start(**given)
        number = str(self.host.number)
        wait_for(lambda: b"before\n" in self.received(number), "the first line")
        daemon.lose_at_end = number
        self.host.go()
        self.assertDelivered(self.host.finish(process))
        self.assertIsNone(daemon.lose_at_end)

    def test_a_refused_token_ends_it(self):
        for status in (401, 403, 404, 410):
            self.host.daemon.answer = status
            given = self.publish_one_hook("#!/bin/sh\necho x\n")
            self.assertResult(self.host.run(**given), status="succeeded")
            wait_for(lambda: self.host.exists("attempts", self.host.number, "pushed"), "the uploader to give up")
            self.assertEqual(self.host.file("attempts", self.host.number, "pushed"), b"given up: %d\n" % status)

    def test_a_server_error_does_not(self):
        self.host.daemon.answer = 503
        given = self.publish_one_hook("#!/bin/sh\necho x\n")
        done = self.host.run(**given)
        wait_for(lambda: len([r for r in self.host.daemon.requests if "/ingest/" in r[1]]) >= 2, "a second try")
        self.host.daemon.answer = None
        self.assertDelivered(done)

    def test_delivered_again_after_the_uploader_was_killed(self):
        self.host.daemon.answer = 503
        given = self.publish_one_hook("#!/bin/sh\necho x\n")
        done = self.host.run(**given)
        pid = int(self.host.file("attempts", self.host.number, "uploader").split()[0])
        os.kill(pid, 9)
        self.host.daemon.answer = None
        again = self.host.run(attempt=self.host.number, **given)
        self.assertEqual(again.line, done.line)
        self.assertDelivered(done)

    def test_one_uploader_and_no_rest(self):
        given = self.publish_one_hook(tracing("ran", WAIT))
        process = self.host.start(**given)
        wait_for(lambda: self.host.exists("attempts", self.host.number, "uploader"), "the uploader")
        self.host.go()
        done = self.host.finish(process)
        self.assertDelivered(done)
        folder = os.path.join(self.host.app, "attempts", done["attempt"])
        wait_for(lambda: sorted(os.listdir(folder)) == ["journal", "log", "pushed", "result", "wake"], "nothing else to be left")
        wait_for(lambda: not self.uploaders(folder), "the uploader's processes to go")

    def test_an_uploader_whose_attempt_was_removed_ends(self):
        self.host.daemon.answer = 503
        done = self.host.run(**self.publish_one_hook("#!/bin/sh\n"))
        folder = os.path.join(self.host.app, "attempts", done["attempt"])
        wait_for(lambda: self.uploaders(folder), "the uploader")
        os.rename(self.host.app, self.host.app + ".moved")
        wait_for(lambda: not self.uploaders(folder), "the uploader's processes to go")

    def uploaders(self, folder):
        """The processes that name this attempt's folder."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as line:
                    if folder.encode() in line.read():
                        found.append(pid)
            except OSError:
                pass
        return found


class Streaming(Push):
    """What only curl does."""

    def test_one_request_is_enough(self):
        given = self.publish_one_hook(tracing("ran", "echo x\n" + WAIT))
        process = self.host.start(**given)
        wait_for(lambda: b"x\n" in self.received(str(self.host.number)), "the first line")
        self.host.go()
        received = self.assertDelivered(self.host.finish(process))
        self.assertEqual([m for m in received.methods if m != "PUT"], ["GET", "PUT chunked", "POST"])

    def test_the_end_is_prompt(self):
        """Less than 300 ms from the last hook's end to the end record; the best of some, since the machine has other work."""
        best = 9
        for _ in range(8):
            done = self.host.run(**self.publish_one_hook('#!/bin/sh\nsleep 0.3\ndate +%s.%N >"$DROVER_ROOT/at"\n'))
            received = self.assertDelivered(done)
            at = self.host.read("at").strip()
            if not re.fullmatch(r"\d+\.\d{9}", at):  # busybox's date has no nanoseconds
                at = os.stat(os.path.join(self.host.root, "at")).st_mtime
            best = min(best, received.ended_at - float(at))
            if best < 0.3:
                break
        self.assertLess(best, 0.3)

    def test_a_connection_that_swallows(self):
        """The bytes go out and never arrive: seen from the offset, sent again on a new connection."""
        self.host.daemon.swallow = True
        given = self.publish_one_hook(tracing("ran", "echo lost\n" + WAIT))
        process = self.host.start(**given)
        number = str(self.host.number)
        wait_for(lambda: number in self.host.daemon.attempts and "PUT chunked" in self.host.daemon.attempts[number].methods, "the stream")
        # after two streams without progress it polls
        wait_for(lambda: b"lost\n" in self.received(number), "the line", 60)
        self.assertIn("PUT", self.host.daemon.attempts[number].methods)
        self.host.go()
        self.assertDelivered(self.host.finish(process))

    def test_a_proxy_that_refuses_streams(self):
        self.host.daemon.refuse_streams = True
        given = self.publish_one_hook(tracing("ran", "echo first sign\n" + WAIT))
        process = self.host.start(**given)
        number = str(self.host.number)
        wait_for(lambda: b"first sign\n" in self.received(number), "the line", 60)
        self.host.go()
        self.assertDelivered(self.host.finish(process))


class DashCurl(Streaming, Case):
    pass


class BusyboxCurl(Streaming, Case):
    flavour = staticmethod(h.busybox)


class BashCurl(Streaming, Case):
    flavour = staticmethod(h.bash)


class BusyboxWget(Push, Case):
    flavour = staticmethod(h.busybox_wget)

    def as_sent(self, data):
        return data.replace(b"\0", b"?")


class GnuWget(Push, Case):
    flavour = staticmethod(h.gnu_wget)


class Download:
    """The bundle with wget."""

    def test_authorization_and_failure(self):
        host = self.host
        revision = host.publish("one", {"hook.sh": "#!/bin/sh\n"})
        host.daemon.auth[revision] = "Bearer s3cret"
        self.assertResult(host.run("stage", sha=revision), status="failed", event="DownloadBundle", exit=74)
        self.assertResult(host.run("stage", sha=revision, bundle_auth="Bearer s3cret"), status="succeeded")
        self.assertNotIn("s3cret", host.log())


class BusyboxWgetDownload(Download, Case):
    flavour = staticmethod(h.busybox_wget)


class GnuWgetDownload(Download, Case):
    flavour = staticmethod(h.gnu_wget)


class NoPush:
    """Without an address the log goes to stdout, whole, before the result line."""

    def test_log_on_stdout(self):
        given = self.publish_one_hook("#!/bin/sh\nseq 1 1000; echo end of hook; exit 3\n")
        done = self.host.run(log_url="", **given)
        self.assertEqual(done.code, 1, done)
        self.assertTrue(done.out.startswith(self.host.log()), done)
        self.assertIn("\n1000\nend of hook\n", done.out)
        self.assertResult(done, status="failed", exit=3)
        self.assertEqual(done.out[len(self.host.log()):].splitlines()[-2], "drover: tail end of hook")
        self.assertEqual(self.host.daemon.attempts, {})

    def test_as_it_is_written(self):
        given = self.publish_one_hook("#!/bin/sh\necho first sign\n" + WAIT)
        process = self.host.start(log_url="", **given)
        seen = b""
        while b"first sign" not in seen:
            seen += os.read(process.stdout.fileno(), 4096)
        self.host.go()
        self.assertResult(self.host.finish(process), status="succeeded")


class DashNoPush(NoPush, Case):
    pass


class BusyboxNoPush(NoPush, Case):
    flavour = staticmethod(h.busybox)
