"""What the runner (hooks/runner/*.sh) does on a host: events, hooks, releases, the host's authority, stopping, reboots.

Run all: python3 -m unittest discover -s tests/runner
"""

import base64
import gzip
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
import unittest

import host as h
from host import NONCE, TOKEN, sha, wait_for

TRACE = '#!/bin/sh\necho "$LIFECYCLE_EVENT %s" >>"$DROVER_ROOT/trace"\n'


def tracing(name, then=""):
    """A hook that notes its event and name in the trace, then does more."""
    return TRACE % name + then


class Case(unittest.TestCase):
    flavour = staticmethod(h.dash)

    def setUp(self):
        self.host = h.Host(self.flavour)
        self.addCleanup(self.host.close)

    def assertResult(self, done, **expected):
        self.assertTrue(done.has_result, done)
        found = {key: done.fields.get(key) for key in expected}
        self.assertEqual(found, {key: str(value) for key, value in expected.items()}, done)

    def publish_one_hook(self, script, event="ApplicationStart", seconds=20, user="", location="hook.sh"):
        """A revision of one hook; returns what a spec needs to run it."""
        revision = self.host.publish("one hook", {location: script})
        return {"sha": revision, "hooks": "%s|%s|%s|%s" % (event, seconds, user, location)}

    def wait_trace(self, line, seconds=20):
        wait_for(lambda: line in self.host.trace(), "the hook's note %r, have %r" % (line, self.host.trace()), seconds)


class Events:
    """Lifecycle events, hooks, and the environment they see."""

    def test_all_events_in_order(self):
        host = self.host
        hooks = {event: tracing("new") + "echo out of %s\n" % event for event in h.ALL_EVENTS.split()}
        revision = host.publish("one", {event + ".sh": text for event, text in hooks.items()})
        table = "\n".join("%s|20||%s.sh" % (event, event) for event in hooks)
        process = host.start(sha=revision, hooks=table)
        done = host.finish(process)
        self.assertEqual(done.code, 0, done)
        self.assertResult(done, status="succeeded", event="BeforeAllowTraffic", hook="-", exit=0, attempt=host.number)
        self.assertFalse(os.path.exists(process.spec), "the spec holds tokens and is deleted")
        # nothing is current yet, so the events of the old release have nothing to do
        self.assertEqual(host.trace(), [e + " new" for e in "BeforeInstall AfterInstall ApplicationStart ValidateService BeforeAllowTraffic".split()])
        self.assertEqual(os.readlink(os.path.join(host.app, "current")), "releases/" + revision)
        log = host.file("attempts", host.number, "log")
        self.assertEqual((done["bytes"], done["sha256"]), (str(len(log)), hashlib.sha256(log).hexdigest()))
        begun = [line.split()[1] for line in host.controls() if line.startswith("begin")]
        self.assertEqual(begun, ["event=DownloadBundle"] + ["event=" + e for e in h.ALL_EVENTS.split()])
        self.assertEqual(host.controls()[-1], "finish status=succeeded event=BeforeAllowTraffic exit=0")
        done = host.run(sha=revision, hooks=table)
        self.assertEqual(done.code, 0, done)
        self.assertEqual(host.trace()[5:], [e + " new" for e in h.ALL_EVENTS.split() if e != "Install"])
        self.assertNotIn("begin event=DownloadBundle hook=-", host.controls())

    def test_control_lines(self):
        given = self.publish_one_hook("#!/bin/sh\nprintf 'no newline at the end'; exit 4\n", location="bin/do it.sh")
        done = self.host.run(events="ApplicationStart", **given)
        self.assertResult(done, status="failed", event="ApplicationStart", hook="bin/do%20it.sh", exit=4)
        self.assertRegex(self.host.log(), "".join([
            r"\A\x1edrover N begin event=DownloadBundle hook=- at=\d+\n",
            r"\x1edrover N end event=DownloadBundle hook=- exit=0 at=\d+\n",
            r"\x1edrover N begin event=ApplicationStart hook=bin/do%20it\.sh at=\d+\n",
            r"no newline at the end\n",
            r"\x1edrover N end event=ApplicationStart hook=bin/do%20it\.sh exit=4 at=\d+\n",
            r"\x1edrover N finish status=failed event=ApplicationStart exit=4 at=\d+\n\Z"]).replace("N", NONCE, 6))

    def test_environment_of_hooks(self):
        script = '#!/bin/sh\nenv >"$DROVER_ROOT/env"; pwd >"$DROVER_ROOT/pwd"; cat >"$DROVER_ROOT/stdin"; ls -l /proc/self/fd >"$DROVER_ROOT/fds"\n'
        given = self.publish_one_hook(script)
        done = self.host.run(env="GREETING=it's a \"word\" $HOME\nbad-name=1\n1X=2\nEMPTY=\nLANG=C", **given)
        self.assertEqual(done.code, 0, done)
        read = self.host.read
        env = dict(line.split("=", 1) for line in read("env").splitlines())
        release = os.path.join(self.host.app, "releases", given["sha"])
        expected = {
            "APPLICATION_NAME": "eval", "DEPLOYMENT_ID": "42", "DEPLOYMENT_GROUP_NAME": "eval/production",
            "DEPLOYMENT_GROUP_ID": "eval/production", "LIFECYCLE_EVENT": "ApplicationStart", "BUNDLE_COMMIT": given["sha"],
            "DROVER_ATTEMPT": str(self.host.number), "DROVER_RELEASE": release, "DROVER_APP_DIR": self.host.app,
            "DROVER_APP": "eval", "DROVER_GROUP": "eval/production", "DROVER_SHA": given["sha"], "DROVER_PREVIOUS_SHA": "",
            "DROVER_INSTANCE_ID": h.INSTANCE, "DROVER_ZONE": "eu-north-1a",
            "AWS_SSM_INSTANCE_ID": h.INSTANCE, "AWS_SSM_REGION_NAME": "eu-north-1", "DROVER_ROOT": self.host.root,
            "GREETING": "it's a \"word\" $HOME", "EMPTY": "", "LANG": "C", "PATH": self.host.path}
        me = pwd.getpwuid(os.getuid())
        expected.update({"HOME": me.pw_dir, "SHELL": me.pw_shell, "USER": me.pw_name, "LOGNAME": me.pw_name})
        of_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
        self.assertEqual({k: v for k, v in env.items() if k not in of_the_shell}, expected)
        self.assertNotIn(NONCE, read("env"))
        self.assertNotIn(TOKEN, read("env"))
        self.assertEqual((read("pwd"), read("stdin")), ("/\n", ""))
        self.assertLessEqual(set(re.findall(r" (\d+) -> ", read("fds"))), {"0", "1", "2", "3"}, "3 is that of ls")

    def test_a_user_has_the_environment_of_a_login(self):
        given = self.publish_one_hook('#!/bin/sh\necho "$USER $LOGNAME $HOME $SHELL"\n', user="nobody")
        self.assertResult(self.host.run(**given), status="succeeded")
        nobody = pwd.getpwnam("nobody")
        self.assertIn("\nnobody nobody %s %s\n" % (nobody.pw_dir, nobody.pw_shell), self.host.log())

    def test_the_previous_revision_is_named(self):
        host = self.host
        hook = {"hook.sh": '#!/bin/sh\necho "from ${DROVER_PREVIOUS_SHA:-nothing}"\n'}
        old, new = host.publish("old", hook), host.publish("new", {**hook, "x": ""})
        hooks = "BeforeInstall|20||hook.sh\nAfterInstall|20||hook.sh"
        self.assertResult(host.run(sha=old, hooks=hooks), status="succeeded")
        self.assertEqual(host.log().count("from nothing"), 2)
        self.assertResult(host.run(sha=new, hooks=hooks, good=old), status="succeeded")
        self.assertEqual(host.log().count("from " + old), 2)
        # A retry finds the new release there.
        self.assertResult(host.run(sha=new, hooks=hooks, good=old, first="AfterInstall"), status="succeeded")
        self.assertEqual(host.log().count("from " + old), 1)

    def test_signals_of_hooks(self):
        self.assertEqual(self.host.run(**self.publish_one_hook('#!/bin/sh\ngrep SigIgn /proc/self/status\n')).code, 0)
        ignored = int(re.search("SigIgn:\\s*([0-9a-f]+)", self.host.log())[1], 16)
        self.assertEqual(ignored & ~self.still_ignored, 0, hex(ignored))

    still_ignored = 0

    def test_signals_that_the_agents_parent_ignores(self):
        """An agent that was started under nohup, say: runner and hooks meet the signals all the same, where env can do that."""
        if self.still_ignored:
            self.skipTest("this env can't undo it, and no shell can")
        given = self.publish_one_hook('#!/bin/sh\ngrep SigIgn /proc/self/status\ntouch "$DROVER_ROOT/there"\nexec sleep 300\n')
        process = self.host.start(ignored=(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM), **given)
        wait_for(lambda: os.path.exists(os.path.join(self.host.root, "there")), "the hook")
        os.kill(process.pid, signal.SIGTERM)
        self.assertResult(self.host.finish(process), status="interrupted", event="ApplicationStart", exit=143)
        ignored = int(re.search("SigIgn:\\s*([0-9a-f]+)", self.host.log())[1], 16)
        self.assertEqual(ignored, 0, hex(ignored))

    def test_secrets_are_out_of_reach(self):
        script = '#!/bin/sh\nfor p in /proc/[0-9]*/cmdline; do tr "\\0" " " <$p; echo; done >"$DROVER_ROOT/ps" 2>/dev/null\n'
        self.assertEqual(self.host.run(**self.publish_one_hook(script)).code, 0)
        listed = self.host.read("ps")
        self.assertIn("hook.sh", listed)
        self.assertNotIn(TOKEN, listed)
        self.assertNotIn(NONCE, listed)
        mode = os.stat(os.path.join(self.host.app, "attempts", str(self.host.number))).st_mode
        self.assertEqual(mode & 0o777, 0o700)

    def test_several_hooks_and_first_event(self):
        host = self.host
        revision = host.publish("one", {name: tracing(name) for name in ("a", "b", "c")})
        table = "AfterInstall|20||a\nApplicationStart|20||b\nApplicationStart|20||c\nApplicationStart|20||a"
        done = host.run(sha=revision, hooks=table, first="ApplicationStart")
        self.assertEqual(done.code, 0, done)
        self.assertEqual(host.trace(), ["ApplicationStart b", "ApplicationStart c", "ApplicationStart a"])
        self.assertFalse(host.exists("current"), "Install lies before the first event")

    def test_a_failed_hook_ends_the_attempt(self):
        host = self.host
        revision = host.publish("one", {"bad": tracing("bad", "for i in $(seq 1 100); do echo line $i; done; exit 7\n"), "next": tracing("next")})
        done = host.run(sha=revision, hooks="ApplicationStart|20||bad\nApplicationStart|20||next\nValidateService|20||next")
        self.assertEqual(done.code, 1, done)
        self.assertResult(done, status="failed", event="ApplicationStart", hook="bad", exit=7)
        self.assertEqual(host.trace(), ["ApplicationStart bad"])
        self.assertEqual(done.out.splitlines()[:-1], ["drover: tail line %d" % n for n in range(81, 101)])

    def test_stdout_stays_small(self):
        given = self.publish_one_hook("#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x; printf '\\0\\377'; exit 1\n")
        done = self.host.run(**given)
        self.assertResult(done, status="failed")
        self.assertLess(len(done.out), 1900)
        self.assertLessEqual(sum(len(line) for line in done.out.splitlines() if line.startswith("drover: tail")), 1500)
        self.assertGreater(int(done["bytes"]), 3000000)

    def test_missing_and_without_a_run_bit(self):
        host = self.host
        revision = host.publish("one", {"plain": ("#!/bin/sh\n", 0o644), "dir/x": "", "noshebang": "echo plain text\n"})
        for location, code, words in (("gone.sh", 127, "gone.sh is missing"), ("dir", 127, "missing"), ("dir/../../../x", 126, "outside the release")):
            done = host.run(sha=revision, hooks="ApplicationStart|20||" + location)
            self.assertEqual(done.code, 1, done)
            self.assertResult(done, status="failed", event="ApplicationStart", exit=code, hook=location)
            self.assertIn(words, host.log())
            self.assertIn(words, done.out)
        done = host.run(sha=revision, hooks="ApplicationStart|20||plain")
        self.assertEqual(done.code, 0, done)
        self.assertIn("the hook plain was not executable: made so", host.log())
        done = host.run(sha=revision, hooks="ApplicationStart|20||noshebang")
        self.assertEqual(done.code, 0, done)
        self.assertIn("plain text\n", host.log())

    def test_time_out(self):
        given = self.publish_one_hook(tracing("slow", 'sleep 300 & echo $! >"$DROVER_ROOT/child"; wait\n'), seconds=1)
        done = self.host.run(**given)
        self.assertEqual(done.code, 1, done)
        self.assertResult(done, status="failed", event="ApplicationStart", exit=124)
        self.assertIn("time-out of 1 s", done.out)
        pid = self.host.read("child").strip()
        wait_for(lambda: not os.path.exists("/proc/" + pid), "the end of the hook's child")

    def test_time_out_of_a_deaf_hook(self):
        given = self.publish_one_hook('#!/bin/sh\ntrap "" TERM; echo deaf; sleep 300 & wait; wait; sleep 300\n', seconds=1)
        begun = time.monotonic()
        done = self.host.run(**given)
        self.assertResult(done, status="failed", exit=124)
        self.assertGreater(time.monotonic() - begun, 10)

    def test_background_child(self):
        script = tracing("start", '(while :; do echo tick; sleep 0.05; done) & echo $! >"$DROVER_ROOT/child"\n')
        given = self.publish_one_hook(script)
        done = self.host.run(**given)
        self.assertEqual(done.code, 0, done)
        # the run ended before the child did
        pid = int(self.host.read("child"))
        os.kill(pid, 0)
        # it goes on printing; what it prints after the finish line is no part of the log
        end = int(done["bytes"])
        log = self.host.file("attempts", self.host.number, "log")
        self.assertRegex(log[:end].decode(), "finish status=succeeded event=BeforeAllowTraffic exit=0 at=\\d+\n\\Z")
        self.assertEqual(hashlib.sha256(log[:end]).hexdigest(), done["sha256"])
        self.host.delivered()
        os.kill(pid, signal.SIGKILL)

    def test_hooks_that_open_their_stderr(self):
        """A script's `>/dev/stderr` opens what stderr is: a file would be truncated."""
        script = "#!/bin/sh\necho a; echo b >/dev/stderr; echo c | tee /dev/stderr; echo d >/dev/stdout\n"
        for user in ("", "nobody") if os.getuid() == 0 else ("",):
            self.assertResult(self.host.run(**self.publish_one_hook(script, user=user)), status="succeeded")
            self.assertIn(" at=", self.host.log().split("\na\nb\nc\nc\nd\n\x1edrover %s end" % NONCE)[1])

    def test_much_output_before_the_end(self):
        """All that a hook wrote lies before its end line, also while a child of it holds the pipe."""
        given = self.publish_one_hook('#!/bin/sh\nsleep 30 & echo $! >"$DROVER_ROOT/child"\nseq 1 20000\nprintf last\n')
        for _ in range(5):
            self.assertResult(self.host.run(**given), status="succeeded")
            self.assertIn("\n19999\n20000\nlast\n\x1edrover %s end" % NONCE, self.host.log())
            os.kill(int(self.host.read("child")), signal.SIGKILL)

    def test_what_a_service_prints_later_goes_nowhere(self):
        """A service that a hook leaves behind keeps its standard output: it is read, so that it may go on, and not kept."""
        script = '#!/bin/sh\nsh -c \'n=0; while :; do seq 1 2000; n=$((n + 1)); echo $n >"$DROVER_ROOT/count"; sleep 0.01; done\' &\necho $! >"$DROVER_ROOT/child"\n'
        self.assertResult(self.host.run(**self.publish_one_hook(script)), status="succeeded")
        child = int(self.host.read("child"))
        try:
            size = len(self.host.log())
            seen = int(self.host.read("count") or 0)
            # more than a pipe holds
            wait_for(lambda: int(self.host.read("count") or 0) > seen + 50, "the service to go on")
            self.assertEqual(len(self.host.log()), size)
        finally:
            os.kill(child, signal.SIGKILL)

    def test_a_hook_that_prints_for_ever_fills_no_disk(self):
        """Past the log's limit what a hook prints is counted, not kept; the hook goes on, and the ones after it too."""
        script = '#!/bin/sh\necho first\nyes | head -c 3000000\necho through >"$DROVER_ROOT/through"\n'
        given = self.publish_one_hook(script)
        done = self.host.run(log_max=str(512 * 1024), **given)
        self.assertResult(done, status="succeeded")
        self.assertEqual(self.host.read("through").strip(), "through")
        log = self.host.log(done["attempt"])
        self.assertLess(len(log), 520 * 1024)
        self.assertIn("first\ny\ny\n", log)
        said = re.search("the log is full at 524288 bytes: (\\d+) bytes more were not kept", log)
        self.assertIsNotNone(said, log[-500:])
        self.assertLess(abs(int(said[1]) - (3000000 - 524288)), 300000)
        # the daemon has all of that
        self.host.delivered(done["attempt"])

    def test_a_signal_between_fork_and_setsid(self):
        """The hook's process group is not there yet when the signal comes: it is ended all the same."""
        folder = self.host.path.split(":")[0]
        setsid = shutil.which("setsid", path=self.host.path)
        if os.path.lexists(os.path.join(folder, "setsid")):
            os.remove(os.path.join(folder, "setsid"))
        slow = os.path.join(folder, "setsid")
        sleep = shutil.which("sleep", path=h.SYSTEM_PATH)
        with open(slow, "w") as file:
            file.write('#!/bin/sh\ncase $* in *hook.sh*) touch "$DROVER_ROOT/window"; %s 1 ;; esac\nexec %s "$@"\n' % (sleep, setsid if setsid != slow else h.need("setsid")))
        os.chmod(slow, 0o755)
        given = self.publish_one_hook('#!/bin/sh\nsleep 30\necho through >"$DROVER_ROOT/through"\n')
        process = self.host.start(**given)
        wait_for(lambda: os.path.exists(os.path.join(self.host.root, "window")), "the hook's start")
        process.send_signal(signal.SIGTERM)
        done = self.host.finish(process, 25)
        self.assertResult(done, status="interrupted")
        self.assertEqual(self.host.read("through"), "")

    def test_a_command_that_comes_too_late(self):
        given = self.publish_one_hook(tracing("ran"))
        done = self.host.run(not_after=int(time.time()) - 5, **given)
        self.assertEqual(done.code, 76, done)
        self.assertResult(done, status="late")
        self.assertIn("came too late", done.out)
        self.assertEqual((self.host.trace(), os.listdir(os.path.join(self.host.app, "attempts"))), ([], []))
        self.assertResult(self.host.run(not_after=int(time.time()) + 60, **given), status="succeeded")
        # what has been done is told whenever it is asked for
        text = self.host.spec(attempt=self.host.number, not_after=1, **given)
        self.assertResult(self.host.run(text=text), status="succeeded")

    def test_runas(self):
        if os.getuid() != 0:
            self.fail("run the tests as root: runas needs it")
        given = self.publish_one_hook('#!/bin/sh\nid -un; id -Gn; echo "home $HOME $USER"; exit 5\n', user="nobody")
        done = self.host.run(**given)
        self.assertResult(done, status="failed", exit=5)
        groups = subprocess.run(["id", "-Gn", "nobody"], stdout=subprocess.PIPE, check=True).stdout.decode()
        self.assertIn("\nnobody\n%shome /nonexistent nobody\n" % groups, self.host.log())
        done = self.host.run(**self.publish_one_hook("#!/bin/sh\n", user="no-such-user"))
        self.assertResult(done, status="failed", exit=126)
        self.assertIn("no user no-such-user", done.out)

    def test_runas_on_a_fresh_host(self):
        """The directories that the command makes let other users in, whatever the host's umask is."""
        given = self.publish_one_hook('#!/bin/sh\ncat "$DROVER_RELEASE/hook.sh" >/dev/null && id -un\n', user="nobody")
        self.assertResult(self.host.run(umask=0o077, **given), status="succeeded")
        self.assertIn("\nnobody\n", self.host.log())
        base = os.path.dirname(self.host.app)
        self.assertEqual(oct(os.stat(base).st_mode & 0o777), "0o755")
        private = os.path.join(base, ".runner")
        self.assertEqual(oct(os.stat(private).st_mode & 0o777), "0o700")
        modes = {os.stat(os.path.join(private, name)).st_mode & 0o077 for name in os.listdir(private)}
        self.assertEqual(modes, {0})

    def test_runas_where_an_earlier_version_has_shut_the_others_out(self):
        given = self.publish_one_hook("#!/bin/sh\nid -un\n", user="nobody")
        os.makedirs(os.path.dirname(self.host.app))
        os.chmod(os.path.dirname(self.host.app), 0o700)
        self.assertResult(self.host.run(**given), status="succeeded")

    def test_runas_time_out(self):
        if os.getuid() != 0:
            self.fail("run the tests as root: runas needs it")
        given = self.publish_one_hook("#!/bin/sh\nsleep 300 & echo child $!; wait\n", user="nobody", seconds=1)
        self.assertResult(self.host.run(**given), status="failed", exit=124)
        pid = re.search(r"child (\d+)", self.host.log())[1]
        wait_for(lambda: not os.path.exists("/proc/" + pid), "the end of the hook's child")

    def test_runas_without_root(self):
        if os.getuid() != 0:
            self.fail("run the tests as root: they change to another user")
        host = self.host
        os.makedirs(host.app)
        for folder in ("opt", "opt/drover", "opt/drover/eval"):
            os.chown(os.path.join(host.root, folder), 65534, 65534)
        revision = host.publish("one", {"hook.sh": "#!/bin/sh\nid -un\n"})

        def run(user):
            path = os.path.join(host.root, "spec")
            with open(path, "w") as spec:
                spec.write(host.spec(sha=revision, hooks="ApplicationStart|20|%s|hook.sh" % user))
            os.chown(path, 65534, 65534)
            drop = lambda: (os.setgroups([]), os.setgid(65534), os.setuid(65534))
            done = subprocess.run(["sh", host.runner, path], env=host.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=drop, cwd="/")
            return h.Done(done.returncode, done.stdout.decode(), done.stderr.decode())

        self.assertResult(run("nobody"), status="succeeded")
        done = run("daemon")
        self.assertResult(done, status="failed", event="ApplicationStart", exit=126)
        self.assertIn("can't become daemon, the agent runs as nobody and not as root", done.out)
        os.chown(host.app, 0, 0)
        os.rename(os.path.join(host.app, "attempts"), os.path.join(host.app, "was"))
        done = run("nobody")
        self.assertEqual(done.code, 73, done)
        self.assertIn("not permitted to nobody", done.out)


class Releases:
    """DownloadBundle, Install, the old release's hooks, pruning."""

    def test_stage(self):
        host = self.host
        revision = host.publish("one", {"hook.sh": "#!/bin/sh\n", "deep/down/file": "content"})
        data = host.daemon.bundles[revision]
        given = {"sha": revision, "hooks": "ApplicationStop|5||hook.sh", "bundle_sha256": hashlib.sha256(data).hexdigest()}
        done = host.run("stage", **given)
        self.assertEqual(done.code, 0, done)
        self.assertResult(done, status="succeeded", event="DownloadBundle")
        self.assertEqual(host.file("releases", revision, "deep/down/file"), b"content")
        self.assertEqual(host.file("releases", revision, ".drover-hooks"), b"ApplicationStop|5||hook.sh\n")
        self.assertTrue(host.exists("releases", revision, ".complete"))
        self.assertFalse(host.exists("current"))
        self.assertEqual(os.listdir(os.path.join(host.app, "releases")), [revision])
        del host.daemon.bundles[revision]
        done = host.run("stage", **given)
        self.assertEqual(done.code, 0, "not downloaded again: %s" % done)

    def test_download_failures(self):
        host = self.host
        revision = host.publish("one", {"hook.sh": "#!/bin/sh\n"})
        good = host.daemon.bundles[revision]
        for data, checksum, words in ((None, "", "could not be downloaded"), (good, "0" * 64, "checksum is %s, expected 000" % hashlib.sha256(good).hexdigest()),
                                      (b"no archive", "", "could not be unpacked"), (good[:-20], "", "could not be unpacked")):
            host.daemon.bundles[revision] = data
            done = host.run("stage", sha=revision, bundle_sha256=checksum)
            self.assertEqual(done.code, 74, done)
            self.assertResult(done, status="failed", event="DownloadBundle", hook="-", exit=74)
            self.assertIn(words, done.out)
            self.assertEqual(os.listdir(os.path.join(host.app, "releases")), [])
        done = host.run("stage", sha=revision, bundle_url="http://127.0.0.1:1/x")
        self.assertResult(done, status="failed", event="DownloadBundle", exit=74)

    def test_a_download_that_breaks_goes_on_where_it_was(self):
        host = self.host
        noise = "".join("%x" % (n * 7919 % 65521) for n in range(40000))
        revision = host.publish("one", {"noise": noise})
        data = host.daemon.bundles[revision]
        given = {"sha": revision, "bundle_sha256": hashlib.sha256(data).hexdigest()}
        host.daemon.cut = [30000, "503", 20000]
        done = host.run("stage", **given)
        self.assertResult(done, status="succeeded")
        self.assertEqual(host.daemon.downloads, [0, 30000, 30000, 50000])
        self.assertEqual(host.file("releases", revision, "noise").decode(), noise)
        self.assertEqual(os.listdir(os.path.join(host.app, "releases")), [revision])
        # A server that knows no ranges, such as GitHub's for archives.
        host.daemon.ranges, host.daemon.cut, host.daemon.downloads = False, [30000], []
        shutil.rmtree(os.path.join(host.app, "releases", revision))
        self.assertResult(host.run("stage", **given), status="succeeded")
        self.assertEqual(host.file("releases", revision, "noise").decode(), noise)

    def test_the_release_is_where_codedeploys_agent_would_have_it(self):
        host = self.host
        script = tracing("found", 'cat "$DROVER_ROOT/opt/codedeploy-agent/deployment-root/$DEPLOYMENT_GROUP_ID/$DEPLOYMENT_ID/deployment-archive/name" >"$DROVER_ROOT/name"\n')
        for number, name in enumerate(("one", "two")):
            revision = host.publish(name, {"start": script, "name": name})
            done = host.run(sha=revision, deployment=str(40 + number), hooks="ApplicationStart|5||start")
            self.assertResult(done, status="succeeded")
            self.assertEqual(host.read("name"), name)
        # The former one's stays as long as its release, from where a service may have been started.
        folder = os.path.join(host.root, "opt/codedeploy-agent/deployment-root/eval/production")
        self.assertEqual(sorted(os.listdir(folder)), ["40", "41"])
        shutil.rmtree(os.path.join(host.app, "releases", sha("one")))
        self.assertResult(host.run(sha=revision, deployment="42"), status="succeeded")
        self.assertEqual(sorted(os.listdir(folder)), ["41", "42"])

    def test_another_build_of_the_same_commit(self):
        """What CI built again, or what comes from elsewhere now: it is downloaded, but never under what serves."""
        host = self.host
        revision = host.publish("one", {"name": "first", "start": tracing("start")})
        start = "ApplicationStart|5||start"
        self.assertResult(host.run(sha=revision, hooks=start), status="succeeded")
        host.publish("one", {"name": "second", "start": tracing("again")})
        self.assertResult(host.run("stage", sha=revision, build="b2", hooks=start), status="succeeded")
        self.assertEqual(host.file("releases", revision, "name"), b"first")
        self.assertIn("another build of %s runs here" % revision, host.log())
        self.assertResult(host.run(sha=revision, build="b2", hooks=start), status="succeeded")
        self.assertEqual(host.file("releases", revision, "name"), b"second")
        self.assertEqual(host.trace()[-1], "ApplicationStart again")
        downloads = len(host.daemon.downloads)
        self.assertResult(host.run("stage", sha=revision, build="b2"), status="succeeded")
        self.assertEqual(len(host.daemon.downloads), downloads, "it is there")

    def test_bundle_authorization(self):
        host = self.host
        revision = host.publish("one", {"hook.sh": "#!/bin/sh\n"})
        host.daemon.auth[revision] = "Bearer s3cret"
        self.assertResult(host.run("stage", sha=revision), status="failed", exit=74)
        done = host.run("stage", sha=revision, bundle_auth="Bearer s3cret")
        self.assertResult(done, status="succeeded")
        self.assertNotIn("s3cret", host.log())

    def test_a_release_is_complete_or_absent(self):
        """A runner killed while it downloads leaves nothing that a later one would take for a release."""
        host = self.host
        revision = host.publish("one", {"hook.sh": "#!/bin/sh\n"})
        good, asked = host.daemon.bundles[revision], []

        def slow():
            asked.append(1)
            time.sleep(30)
            return good

        host.daemon.bundles[revision] = slow
        process = host.start("stage", sha=revision)
        wait_for(lambda: asked, "the download")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed = host.number
        host.daemon.bundles[revision] = good
        done = host.run("stage", sha=revision)
        self.assertResult(done, status="succeeded")
        self.assertEqual(os.listdir(os.path.join(host.app, "releases")), [revision])
        self.assertIn("status=interrupted event=DownloadBundle", host.file("attempts", killed, "result").decode())

    def test_old_release_stops(self):
        host = self.host
        old = host.publish("old", {"stop": tracing("old", 'echo "$DROVER_RELEASE" >"$DROVER_ROOT/release"\n'), "only-old": tracing("block")})
        new = host.publish("new", {"stop": tracing("new")})
        host.run(sha=old, hooks="ApplicationStop|5||stop\nAfterBlockTraffic|5||only-old")
        done = host.run(sha=new, hooks="ApplicationStop|5||stop\nAfterBlockTraffic|5||gone\nBeforeInstall|5||stop")
        self.assertEqual(done.code, 0, done)
        self.assertEqual(host.trace(), ["AfterBlockTraffic block", "ApplicationStop old", "BeforeInstall new"])
        self.assertEqual(host.read("release").strip(), os.path.join(host.app, "releases", old))

    def test_a_stop_hook_that_fails_is_tried_from_the_new_revision(self):
        host = self.host
        old = host.publish("old", {"stop": tracing("old", "exit 9\n")})
        new = host.publish("new", {"stop": tracing("new")})
        worse = host.publish("worse", {"stop": tracing("worse", "exit 8\n")})
        bare = host.publish("bare", {"x": ""})
        stop = "ApplicationStop|5||stop"
        host.run(sha=old, hooks=stop)
        self.assertResult(host.run(sha=worse, hooks=stop), status="failed", event="ApplicationStop", exit=8)
        self.assertResult(host.run(sha=bare, hooks=""), status="failed", event="ApplicationStop", exit=9)
        done = host.run(sha=new, hooks=stop)
        self.assertResult(done, status="succeeded")
        self.assertIn("failed with 9, trying the hooks of " + new, host.log())
        names = ("old", "old", "worse", "old", "old", "old", "old", "new")
        self.assertEqual(host.trace(), ["ApplicationStop " + name for name in names], "once more each, then the new one's")
        host.run(sha=old, hooks=stop)
        self.assertResult(host.run(sha=old, hooks=stop), status="failed", event="ApplicationStop", exit=9)
        self.assertEqual(host.trace()[-3:], ["ApplicationStop new", "ApplicationStop old", "ApplicationStop old"],
                         "a release has no other one to fall back to")

    def test_a_stop_hook_that_fails_once(self):
        """What went well isn't done again, and a second try is enough."""
        host = self.host
        flaky = tracing("second", '[ -e "$DROVER_ROOT/flaked" ] || { touch "$DROVER_ROOT/flaked"; exit 1; }\n')
        old = host.publish("old", {"first": tracing("first"), "second": flaky})
        new = host.publish("new", {"x": ""})
        host.run(sha=old, hooks="ApplicationStop|5||first\nApplicationStop|5||second")
        self.assertResult(host.run(sha=new, hooks=""), status="succeeded")
        self.assertIn("ApplicationStop of the running release failed with 1, once more", host.log())
        self.assertEqual([line.split()[1] for line in host.trace()], ["first", "second", "second"])

    def test_whose_stop_hooks_and_what_their_failure_means(self):
        host = self.host
        bad, stop = tracing("old", "exit 9\n"), "AfterBlockTraffic|5||stop\nApplicationStop|5||stop"
        old, new = host.publish("old", {"stop": bad}), host.publish("new", {"stop": tracing("new")})

        def run(**given):
            host.forget("trace")
            self.assertResult(host.run(sha=old, hooks=stop, stop_failure="ignore"), status="succeeded")
            host.forget("trace")
            done = host.run(sha=new, hooks=stop, **given)
            return [line.split()[1] for line in host.trace()], done

        trace, done = run()
        self.assertResult(done, status="succeeded")
        self.assertEqual(trace, ["old", "old", "new"] * 2, "the Block events too")
        trace, done = run(stop_failure="ignore")
        self.assertResult(done, status="succeeded")
        self.assertEqual(trace, ["old", "old"] * 2)
        self.assertIn("which counts for nothing here", host.log())
        trace, done = run(stop_failure="fail")
        self.assertResult(done, status="failed", event="AfterBlockTraffic", exit=9)
        self.assertEqual(trace, ["old", "old"])
        trace, done = run(stop_from="new", stop_failure="fail")
        self.assertResult(done, status="succeeded")
        self.assertEqual(trace, ["new", "new"])

    def test_a_running_release_that_is_gone(self):
        host = self.host
        old, new = host.publish("old", {"stop": tracing("old")}), host.publish("new", {"stop": tracing("new")})
        host.run(sha=old, hooks="ApplicationStop|5||stop")
        shutil.rmtree(os.path.join(host.app, "releases", old))
        self.assertResult(host.run(sha=new, hooks="ApplicationStop|5||stop"), status="succeeded")
        self.assertEqual(host.trace(), ["ApplicationStop new"])
        self.assertIn("releases/%s, is gone" % old, host.log())

    def test_a_folder_of_the_repository(self):
        """A monorepo's application is all that becomes a release."""
        host = self.host
        revision = host.publish("mono", {"services/api/run": tracing("api"), "services/web/run": "", "README": ""})
        done = host.run(sha=revision, path="services/api", hooks="ApplicationStart|5||run")
        self.assertResult(done, status="succeeded")
        self.assertEqual(host.trace(), ["ApplicationStart api"])
        self.assertEqual(sorted(os.listdir(os.path.join(host.app, "releases", revision))), [".complete", ".drover-hooks", "run"])
        other = host.publish("other", {"x": ""})
        done = host.run("stage", sha=other, path="services/api")
        self.assertResult(done, status="failed", event="DownloadBundle", exit=74)
        self.assertIn("has no folder services/api", host.log())
        self.assertEqual(os.listdir(os.path.join(host.app, "releases")), [revision])

    def test_prune(self):
        host = self.host
        revisions = [host.publish("r%d" % n, {"file": "x"}) for n in range(7)]
        for n, revision in enumerate(revisions):
            self.assertResult(host.run("stage", sha=revision, keep="9"), status="succeeded")
            os.utime(os.path.join(host.app, "releases", revision), (1000 + n, 1000 + n))
        done = host.run(sha=revisions[1], keep="2", good=revisions[0])
        self.assertResult(done, status="succeeded")
        self.assertEqual(host.file("good"), revisions[0].encode() + b"\n")
        left = lambda: sorted(os.listdir(os.path.join(host.app, "releases")))
        wait_for(lambda: left() == sorted([revisions[n] for n in (0, 1, 5, 6)]), "the old releases to go")
        self.assertResult(host.run(sha=revisions[6], keep="1"), status="succeeded")
        wait_for(lambda: left() == sorted([revisions[0], revisions[6]]), "the old releases to go; the good one stays")

    def test_staging_alone_prunes_too(self):
        """Where every canary fails, revisions are staged and never run."""
        host = self.host
        good = host.publish("good", {"file": "good"})
        self.assertResult(host.run(sha=good, keep="2"), status="succeeded")
        staged = [host.publish("bad %s" % n, {"file": str(n)}) for n in range(8)]
        for revision in staged:
            self.assertResult(host.run("stage", sha=revision, keep="2", good=good), status="succeeded")
        wait_for(lambda: not any(name.startswith(".gone") for name in os.listdir(os.path.join(host.app, "releases"))), "the pruning")
        self.assertEqual(set(os.listdir(os.path.join(host.app, "releases"))), {good, *staged[-2:]})

    def test_a_failed_run_prunes_nothing(self):
        host = self.host
        revisions = [host.publish("r%d" % n, {"bad": "#!/bin/sh\nexit 1\n"}) for n in range(4)]
        for revision in revisions:
            host.run("stage", sha=revision, keep="9")
        self.assertResult(host.run(sha=revisions[0], keep="1", hooks="ApplicationStart|5||bad"), status="failed")
        self.assertEqual(sorted(os.listdir(os.path.join(host.app, "releases"))), sorted(revisions))


class Authority:
    """The host decides which attempt runs, and that no hook runs twice in one."""

    def test_lower_attempt_is_refused(self):
        given = self.publish_one_hook(tracing("ran"))
        self.host.run(**given)
        done = self.host.run(attempt=self.host.number - 5, **given)
        self.assertEqual(done.code, 70, done)
        self.assertResult(done, status="refused", exit=70, attempt=self.host.number - 5)
        self.assertEqual(len(self.host.trace()), 1)

    def test_finished_attempt_is_answered_again(self):
        given = self.publish_one_hook(tracing("ran", "echo why; exit 6\n"))
        first = self.host.run(**given)
        second = self.host.run(attempt=self.host.number, **given)
        self.assertEqual((first.code, first.out), (second.code, second.out))
        self.assertEqual(len(self.host.trace()), 1)

    def test_running_attempt_is_followed(self):
        given = self.publish_one_hook(tracing("ran", 'until [ -e "$DROVER_ROOT/go" ]; do sleep 0.1; done; exit 3\n'))
        first = self.host.start(**given)
        self.wait_trace("ApplicationStart ran")
        second = self.host.start(attempt=self.host.number, **given)
        third = self.host.start(attempt=self.host.number, **given)
        with self.assertRaises(subprocess.TimeoutExpired):
            second.wait(0.5)
        self.host.go()
        results = [self.host.finish(process) for process in (first, second, third)]
        self.assertEqual({(done.code, done.line) for done in results}, {(1, results[0].line)})
        self.assertResult(results[0], status="failed", exit=3)
        self.assertEqual(len(self.host.trace()), 1)

    def test_other_attempt_is_busy(self):
        given = self.publish_one_hook(tracing("ran", 'until [ -e "$DROVER_ROOT/go" ]; do sleep 0.1; done\n'))
        first = self.host.start(**given)
        self.wait_trace("ApplicationStart ran")
        done = self.host.run(**given)
        self.assertEqual(done.code, 75, done)
        self.assertResult(done, status="busy", exit=75)
        self.assertIn("attempt %d is at work" % (self.host.number - 1), done.out)
        self.host.go()
        self.assertEqual(self.host.finish(first).code, 0)
        self.assertResult(self.host.run(attempt=self.host.number, **given), status="succeeded")

    def test_many_deliveries_at_once(self):
        given = self.publish_one_hook(tracing("ran", "sleep 0.3\n"))
        number = self.host.next()
        processes = [self.host.start(attempt=number, **given) for _ in range(8)]
        results = [self.host.finish(process) for process in processes]
        self.assertEqual({(done.code, done.line) for done in results}, {(0, results[0].line)}, results)
        self.assertEqual(len(self.host.trace()), 1)

    def test_many_attempts_at_once(self):
        """One runs at a time: a hook that finds another one at work says so."""
        script = tracing("ran", 'mkdir "$DROVER_ROOT/alone" || echo OVERLAP >>"$DROVER_ROOT/trace"; sleep 0.1; rmdir "$DROVER_ROOT/alone"\n')
        given = self.publish_one_hook(script)
        processes = [self.host.start(**given) for _ in range(8)]
        results = [self.host.finish(process) for process in processes]
        codes = sorted(done.code for done in results)
        self.assertNotIn("OVERLAP", self.host.trace())
        self.assertEqual(codes.count(0), len(self.host.trace()), results)
        self.assertGreaterEqual(codes.count(0), 1)
        self.assertLessEqual(set(codes), {0, 70, 75})

    def test_killed_runner(self):
        """As CancelCommand does it: the runner's group is killed, the hook's lives on until the next contact."""
        given = self.publish_one_hook(tracing("ran", 'echo $$ >"$DROVER_ROOT/hook"; exec sleep 300\n'))
        process = self.host.start(**given)
        self.wait_trace("ApplicationStart ran")
        hook = wait_for(lambda: self.host.read("hook").strip(), "the hook's pid")
        wait_for(lambda: self.host.exists("attempts", self.host.number, "pgid"), "the record of the hook's group")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.assertTrue(os.path.exists("/proc/" + hook), "the hook has a group of its own")
        done = self.host.run(attempt=self.host.number, **given)
        self.assertEqual(done.code, 71, done)
        self.assertResult(done, status="interrupted", event="ApplicationStart", hook="hook.sh", exit=71)
        wait_for(lambda: not os.path.exists("/proc/" + hook), "the end of the hook")
        again = self.host.run(attempt=self.host.number, **given)
        self.assertEqual((again.code, again.line), (71, done.line))
        self.assertEqual(len(self.host.trace()), 1)
        self.assertIn("finish status=interrupted event=ApplicationStart exit=71", self.host.controls())
        received = self.host.delivered()
        self.assertEqual(received.end.strip(), done.line)

    def test_killed_runner_of_another_attempt(self):
        given = self.publish_one_hook(tracing("ran", '[ -e "$DROVER_ROOT/go" ] || exec sleep 300\n'))
        process = self.host.start(**given)
        self.wait_trace("ApplicationStart ran")
        killed = self.host.number
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.host.go()
        done = self.host.run(**given)
        self.assertResult(done, status="succeeded")
        self.assertIn("attempt %d had died" % killed, done.out)
        self.assertIn("status=interrupted event=ApplicationStart hook=hook.sh", self.host.file("attempts", killed, "result").decode())
        self.assertIn("status=interrupted", self.host.delivered(killed).end)

    def test_killed_at_any_moment(self):
        """Wherever the runner dies, a second delivery never runs a hook again, and the application is not blocked."""
        given = self.publish_one_hook(tracing("ran"))
        for step in range(12):
            process = self.host.start(**given)
            time.sleep(step * 0.02)  # the moment is what varies here, nothing is waited for
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            killed = self.host.number
            before = len(self.host.trace())
            done = self.host.run(attempt=killed, **given)
            self.assertIn(done.code, (0, 71), done)
            ran = [line for line in self.host.trace()]
            self.assertLessEqual(len(ran), before + 1)
            if done.code == 71:
                self.assertLessEqual(len(ran) - before, 1)
        self.assertResult(self.host.run(**given), status="succeeded")
        self.assertLessEqual(len(self.host.trace()), 13)

    def test_terminated_runner(self):
        given = self.publish_one_hook(tracing("ran", "exec sleep 300\n"))
        process = self.host.start(**given)
        self.wait_trace("ApplicationStart ran")
        os.kill(process.pid, signal.SIGTERM)
        done = self.host.finish(process)
        self.assertEqual(done.code, 71, done)
        self.assertResult(done, status="interrupted", event="ApplicationStart", exit=143)

    def test_pid_reuse(self):
        """A lock whose pid belongs to another process now (start time differs) is dead."""
        given = self.publish_one_hook(tracing("ran"))
        self.host.run(**given)
        os.mkdir(os.path.join(self.host.app, "lock"))
        with open("/proc/sys/kernel/random/boot_id") as boot, open(os.path.join(self.host.app, "lock/owner"), "w") as owner:
            owner.write("%d %d 1 %s" % (self.host.number, os.getpid(), boot.read()))
        self.assertResult(self.host.run(**given), status="succeeded")

    def test_other_boot(self):
        given = self.publish_one_hook(tracing("ran"))
        self.host.run(**given)
        os.mkdir(os.path.join(self.host.app, "lock"))
        with open("/proc/self/stat") as stat, open(os.path.join(self.host.app, "lock/owner"), "w") as owner:
            owner.write("%d %d %s 00000000-0000-0000-0000-000000000000\n" % (self.host.number, os.getpid(), stat.read().rsplit(") ")[1].split()[19]))
        self.assertResult(self.host.run(**given), status="succeeded")

    def test_applications_are_apart(self):
        given = self.publish_one_hook(tracing("ran"))
        self.assertResult(self.host.run(**given), status="succeeded")
        self.assertResult(self.host.run(app="other", attempt=5, **given), status="succeeded")


class Secrets:
    """Values from Parameter Store: in the hooks' environment, and nowhere else."""

    def with_parameters(self, **parameters):
        """An `aws` command that knows these, a - for each slash; what it was asked is noted."""
        for name, value in parameters.items():
            with open(os.path.join(self.host.root, "parameter-" + name), "w") as file:
                file.write(value)
        path = os.path.join(self.host.path.split(":")[0], "aws")
        with open(path, "w") as file:
            file.write('#!/bin/sh\necho "$*" >>"$DROVER_ROOT/asked"\n'
                       'if [ -e "$DROVER_ROOT/throttled" ]; then rm "$DROVER_ROOT/throttled"; echo "An error occurred (ThrottlingException)" >&2; exit 254; fi\n'
                       'cat "$DROVER_ROOT/parameter-$4" 2>/dev/null && echo && exit\n'
                       'echo "An error occurred (ParameterNotFound) when calling the GetParameter operation: " >&2; exit 254\n')
        os.chmod(path, 0o755)

    def test_they_are_in_the_environment_and_masked_in_the_log(self):
        host = self.host
        values = {"url": "pg://u:p/w*[x]$1.\\&\"'@db", "key": "-----BEGIN-----\nabc+def==\n-----END-----", "part": "pg://u"}
        self.with_parameters(**values)
        script = ('#!/bin/sh\nprintf %s "$URL" >"$DROVER_ROOT/url"; printf %s "$KEY" >"$DROVER_ROOT/key"\n'
                  'echo "it is $URL, $PART and"; echo "$KEY"\n'
                  # in two writes, the reader has the first half already
                  'printf "halves: %s" "${URL%??????}"; until [ -e "$DROVER_ROOT/go" ]; do sleep 0.05; done; printf "%s.\\n" "${URL#"${URL%??????}"}"\n'
                  'printf "unfinished $URL"\n')
        given = self.publish_one_hook(script)
        process = host.start(secrets="URL=url\nKEY=key\nPART=part", **given)
        wait_for(lambda: host.read("url"), "the hook")
        wait_for(lambda: "it is" in host.log(), "the first lines, while the hook runs")
        open(os.path.join(host.root, "go"), "w").close()
        done = host.finish(process)
        self.assertResult(done, status="succeeded")
        self.assertEqual((host.read("url"), host.read("key")), (values["url"], values["key"]))
        self.assertIn("\nit is ***, *** and\n***\n***\n***\nhalves: ***.\nunfinished ***\n", host.log())
        self.assertEqual(host.read("asked").splitlines()[0], "ssm get-parameter --name url --with-decryption --query Parameter.Value --output text --region eu-north-1")
        # Nowhere on the disk, but where the test itself has put it.
        for name in ["url", "key"] + ["parameter-" + name for name in values]:
            host.forget(name)
        for value in (values["url"], "abc+def=="):
            found = subprocess.run(["grep", "-rlF", "-e", value, host.root], stdout=subprocess.PIPE).stdout.decode()
            self.assertEqual(found, "")
        self.assertNotIn(values["url"].encode(), host.delivered().data)

    def test_what_cannot_be_had_is_known_at_staging(self):
        host = self.host
        self.with_parameters(url="a value")
        revision = host.publish("one", {"x": ""})
        open(os.path.join(host.root, "throttled"), "w").close()
        self.assertResult(host.run("stage", sha=revision, secrets="URL=url"), status="succeeded")
        done = host.run("stage", sha=revision, secrets="URL=url\nKEY=key")
        self.assertResult(done, status="failed", event="DownloadBundle", exit=73)
        self.assertIn("the secret KEY can't be had: An error occurred (ParameterNotFound)", host.log())
        self.assertIn("(parameter key; the role of this instance needs ssm:GetParameter on it)", host.log())
        os.remove(os.path.join(host.path.split(":")[0], "aws"))
        self.assertResult(host.run("stage", sha=revision, secrets="URL=url"), status="failed", exit=73)
        self.assertIn("the aws command is missing on this host", host.log())


class Adoption:
    """The first contact with a host that CodeDeploy has managed."""

    def codedeploy(self, group="0b1d", archive=None, cleanup=()):
        """What its agent leaves: a deployment's archive, its books."""
        root = os.path.join(self.host.root, "opt/codedeploy-agent/deployment-root")
        books, folder = os.path.join(root, "deployment-instructions"), os.path.join(root, group, "d-1")
        os.makedirs(books, exist_ok=True)
        for name, text in {"appspec.yml": "the old appspec", **(archive or {})}.items():
            path = os.path.join(folder, "deployment-archive", name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o755)
        for name, text in (("cleanup", "".join(self.host.root + path + "\n" for path in cleanup)), ("last_successful_install", folder)):
            with open(os.path.join(books, group + ("-" if name == "cleanup" else "_") + name), "w") as file:
                file.write(text)

    def deployed(self, *paths):
        for path in paths:
            os.makedirs(os.path.dirname(self.host.root + path), exist_ok=True)
            with open(self.host.root + path, "w") as file:
                file.write("by CodeDeploy")

    def run_new(self, **given):
        host = self.host
        self.old, new = sha("old"), host.publish("new", {"stop": tracing("new"), "site/index": "new"})
        self.files = "site\t%s/srv/site" % host.root
        stop = "ApplicationStop|5||stop"
        adopted = {"former_sha": self.old, "former_hooks": stop, "former_appspec": hashlib.sha256(b"the old appspec").hexdigest()}
        return host.run(sha=new, good=self.old, files=self.files, hooks=stop, **{**adopted, **given})

    def test_what_codedeploy_has_installed_is_taken_over(self):
        host = self.host
        self.codedeploy(archive={"stop": tracing("old")}, cleanup=("/srv/site", "/srv/site/index", "/srv/site/gone"))
        self.deployed("/srv/site/index", "/srv/site/gone", "/srv/site/mine")
        self.assertResult(self.run_new(), status="succeeded")
        self.assertEqual(host.trace(), ["ApplicationStop old"])
        self.assertEqual(sorted(os.listdir(host.root + "/srv/site")), ["index", "mine"])
        for words in ("the hooks of what CodeDeploy has installed", "3 files and folders that CodeDeploy has installed are taken over"):
            self.assertIn(words, host.log())
        # CodeDeploy could go on: its books are as they were.
        self.assertEqual(host.read("opt/codedeploy-agent/deployment-root/deployment-instructions/0b1d-cleanup").count("\n"), 3)

    def test_nothing_is_taken_over_that_was_not_adopted(self):
        self.codedeploy(archive={"stop": tracing("old")}, cleanup=("/srv/site/index",))
        self.deployed("/srv/site/index")
        done = self.run_new(former_sha="", former_hooks="", former_appspec="")
        self.assertResult(done, status="failed", event="Install")
        self.assertIn("is there already, and no former revision brought it", self.host.log())
        self.assertEqual(self.host.trace(), [])

    def test_of_several_applications_none_is_taken_over(self):
        self.codedeploy(archive={"stop": tracing("old")}, cleanup=("/srv/site/index",))
        self.codedeploy(group="0c2e", archive={"stop": tracing("other")}, cleanup=("/srv/other/precious",))
        self.deployed("/srv/site/index", "/srv/other/precious")
        self.assertResult(self.run_new(exists="OVERWRITE"), status="succeeded")
        self.assertEqual(self.host.trace(), [])
        self.assertIn("several deployment groups of CodeDeploy were at this host", self.host.log())
        self.assertTrue(os.path.exists(self.host.root + "/srv/other/precious"))

    def test_another_application_of_codedeploys_is_left_alone(self):
        self.codedeploy(archive={"appspec.yml": "another's", "stop": tracing("other")}, cleanup=("/srv/other/precious",))
        self.deployed("/srv/other/precious")
        self.assertResult(self.run_new(), status="succeeded")
        self.assertEqual(self.host.trace(), [])
        self.assertIn("has not the appspec of " + self.old, self.host.log())
        self.assertTrue(os.path.exists(self.host.root + "/srv/other/precious"))

    def test_a_stop_script_of_codedeploys_that_fails(self):
        self.codedeploy(archive={"stop": tracing("old", "exit 3\n")})
        self.assertResult(self.run_new(), status="succeeded")
        self.assertEqual([line.split()[1] for line in self.host.trace()], ["old", "old", "new"])


class Reboots:
    def test_reboot_continues_with_the_same_hook(self):
        host = self.host
        revision = host.publish("one", {"a": tracing("a"), "b": tracing("b", '[ "$(grep -c " b" "$DROVER_ROOT/trace")" -ge 3 ] || exit 194\n'), "c": tracing("c")})
        given = {"sha": revision, "hooks": "BeforeInstall|20||a\nApplicationStart|20||a\nApplicationStart|20||b\nApplicationStart|20||c"}
        done = host.run(**given)
        self.assertEqual(done.code, 194, done)
        self.assertFalse(done.has_result)
        self.assertEqual(host.run(attempt=host.number, **given).code, 194)
        done = host.run(attempt=host.number, **given)
        self.assertEqual(done.code, 0, done)
        self.assertResult(done, status="succeeded")
        self.assertEqual(host.trace(), ["BeforeInstall a", "ApplicationStart a"] + ["ApplicationStart b"] * 3 + ["ApplicationStart c"])
        received = host.delivered()
        self.assertEqual(bytes(received.data), host.file("attempts", host.number, "log"))

    def test_reboots_are_limited(self):
        given = self.publish_one_hook(tracing("again", "exit 194\n"))
        number = self.host.next()
        codes = [self.host.run(attempt=number, **given).code for _ in range(3)]
        self.assertEqual(codes, [194, 194, 194])
        done = self.host.run(attempt=number, **given)
        self.assertEqual(done.code, 1, done)
        self.assertResult(done, status="failed", event="ApplicationStart", exit=194)
        self.assertEqual(len(self.host.trace()), 4)

    def test_a_reboot_nobody_asked_for(self):
        given = self.publish_one_hook(tracing("again", '[ "$(wc -l <"$DROVER_ROOT/trace")" -gt 1 ] || exit 194\nexec sleep 300\n'))
        number = self.host.next()
        self.assertEqual(self.host.run(attempt=number, **given).code, 194)
        process = self.host.start(attempt=number, **given)
        wait_for(lambda: len(self.host.trace()) == 2, "the hook's second run")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.assertResult(self.host.run(attempt=number, **given), status="interrupted", event="ApplicationStart")
        self.assertEqual(len(self.host.trace()), 2)

    def test_another_attempt_instead_of_the_continuation(self):
        given = self.publish_one_hook(tracing("again", '[ -e "$DROVER_ROOT/go" ] || exit 194\n'))
        self.assertEqual(self.host.run(**given).code, 194)
        first = self.host.number
        self.host.go()
        self.assertResult(self.host.run(**given), status="succeeded")
        self.assertIn("status=interrupted event=ApplicationStart", self.host.file("attempts", first, "result").decode())

    def test_stop_while_a_reboot_is_awaited(self):
        given = self.publish_one_hook(tracing("again", "exit 194\n"))
        self.assertEqual(self.host.run(**given).code, 194)
        done = self.host.run("stop", attempt=self.host.number)
        self.assertResult(done, status="stopped", event="ApplicationStart")
        self.assertEqual(self.host.run(attempt=self.host.number, **given).line, done.line)
        self.assertEqual(len(self.host.trace()), 1)


class Stopping:
    def test_stop_now(self):
        given = self.publish_one_hook(tracing("ran", 'sleep 300 & echo $! >"$DROVER_ROOT/child"; wait\n'))
        process = self.host.start(**given)
        wait_for(lambda: self.host.read("child"), "the hook")
        stop = self.host.run("stop", attempt=self.host.number)
        done = self.host.finish(process)
        self.assertEqual((done.code, stop.code, stop.line), (72, 72, done.line), (done, stop))
        self.assertResult(done, status="stopped", event="ApplicationStart", hook="hook.sh", exit=143)
        pid = self.host.read("child").strip()
        wait_for(lambda: not os.path.exists("/proc/" + pid), "the end of the hook's child")
        self.assertEqual(self.host.run("stop", attempt=self.host.number).line, done.line)

    def test_stop_now_of_a_deaf_hook(self):
        given = self.publish_one_hook(tracing("ran", 'trap "" TERM; sleep 300; sleep 300\n'), seconds=100)
        process = self.host.start(**given)
        self.wait_trace("ApplicationStart ran")
        stop = self.host.run("stop", attempt=self.host.number)
        self.assertResult(stop, status="stopped", event="ApplicationStart", exit=137)
        self.assertEqual(self.host.finish(process).line, stop.line)

    def test_stop_now_during_the_download(self):
        host = self.host
        asked = []
        revision = sha("one")
        host.daemon.bundles[revision] = lambda: (asked.append(1), time.sleep(20))[1] or b""
        process = host.start("stage", sha=revision)
        wait_for(lambda: asked, "the download")
        stop = host.run("stop", attempt=host.number)
        self.assertResult(stop, status="stopped", event="DownloadBundle")
        self.assertEqual(host.finish(process).line, stop.line)
        self.assertEqual(os.listdir(os.path.join(host.app, "releases")), [])

    def test_stop_after_lets_the_event_end(self):
        host = self.host
        wait = 'until [ -e "$DROVER_ROOT/go" ]; do sleep 0.1; done\n'
        revision = host.publish("one", {"wait": tracing("wait", wait), "next": tracing("next")})
        process = host.start(sha=revision, hooks="AfterInstall|20||wait\nAfterInstall|20||next\nApplicationStart|20||next")
        self.wait_trace("AfterInstall wait")
        stop = host.run("stop", stop_mode="after", attempt=host.number)
        self.assertEqual(stop.code, 0, stop)
        self.assertResult(stop, status="busy", exit=0)
        host.go()
        done = host.finish(process)
        self.assertEqual(done.code, 72, done)
        self.assertResult(done, status="stopped", event="AfterInstall", exit=0)
        self.assertEqual(host.trace(), ["AfterInstall wait", "AfterInstall next"])

    def test_stop_of_an_attempt_never_seen(self):
        given = self.publish_one_hook(tracing("ran"))
        number = self.host.next()
        stop = self.host.run("stop", attempt=number)
        self.assertEqual(stop.code, 72, stop)
        self.assertResult(stop, status="stopped", event="-")
        self.host.daemon.answer = 503
        late = self.host.run(attempt=number, **given)
        self.assertEqual((late.code, late.line), (72, stop.line))
        self.host.daemon.answer = None
        self.assertEqual(self.host.delivered().end.strip(), stop.line)
        self.assertEqual(self.host.trace(), [])
        self.assertResult(self.host.run(**given), status="succeeded")

    def test_stop_of_an_unseen_attempt_while_another_runs(self):
        given = self.publish_one_hook(tracing("ran", 'until [ -e "$DROVER_ROOT/go" ]; do sleep 0.1; done\n'))
        process = self.host.start(**given)
        self.wait_trace("ApplicationStart ran")
        first, later = self.host.number, self.host.next()
        self.assertResult(self.host.run("stop", attempt=later), status="stopped")
        self.host.go()
        self.assertResult(self.host.finish(process), status="succeeded", attempt=first)
        self.assertResult(self.host.run(attempt=later, **given), status="stopped")

    def test_stop_of_a_finished_attempt(self):
        given = self.publish_one_hook(tracing("ran"))
        done = self.host.run(**given)
        stop = self.host.run("stop", attempt=self.host.number)
        self.assertEqual((stop.code, stop.line), (0, done.line))
        self.host.run(**given)
        self.assertEqual(self.host.run("stop", attempt=self.host.number - 1).line, done.line, "also when a later one was seen")

    def test_stop_of_a_dead_attempt(self):
        given = self.publish_one_hook(tracing("ran", "exec sleep 300\n"))
        process = self.host.start(**given)
        self.wait_trace("ApplicationStart ran")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stop = self.host.run("stop", attempt=self.host.number)
        self.assertResult(stop, status="interrupted", event="ApplicationStart")


class Specs:
    def test_bad_specs(self):
        host = self.host
        good = host.spec(sha=sha("x"))
        for text, words in ((good.replace("D_SPEC='1'", "D_SPEC='2'"), "D_SPEC is '2'"), (good.replace(sha("x"), "main"), "not a full commit SHA"),
                            (good.replace("D_APP='eval'", "D_APP='../x'"), "D_APP is '../x'"), (good + "if\n", "not a list of shell assignments"),
                            (good.replace("D_KIND='run'", "D_KIND='walk'"), "D_KIND is 'walk'"), (host.spec(sha=sha("x"), first="Nonsense"), "first event Nonsense"),
                            (host.spec(sha=sha("x"), rows=h.INSTANCE + " seven Install n t -"), "not a number: seven"),
                            (host.spec("stop", stop_mode="later"), "D_STOP_MODE is 'later'")):
            process = host.start(text=text)
            done = host.finish(process)
            self.assertEqual(done.code, 64, done)
            self.assertResult(done, status="failed", exit=64, event="-")
            self.assertIn(words, done.out)
            self.assertFalse(os.path.exists(process.spec))
        self.assertFalse(os.path.exists(host.app))

    def test_no_spec(self):
        for argument in ([], ["nowhere"], ["/"]):
            done = subprocess.run(["sh", self.host.runner] + argument, env=self.host.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.assertEqual((done.returncode, done.stderr), (64, b""), done)

    def test_rows(self):
        host = self.host
        given = self.publish_one_hook(tracing("ran"))
        one, two = host.next(), host.next()
        rows = "i-other %d Install %s t -\n%s %d ApplicationStart %s %s -" % (one, NONCE, h.INSTANCE, two, NONCE, TOKEN)
        self.assertResult(host.run(rows=rows, **given), status="succeeded", attempt=two)
        done = host.run(rows="i-other 99 Install %s t -" % NONCE, **given)
        self.assertEqual(done.code, 66, done)
        self.assertResult(done, status="failed", exit=66)
        three = host.next()
        self.assertResult(host.run(rows="* %d Install %s %s -" % (three, NONCE, TOKEN), **given), status="succeeded", attempt=three)
        del host.env["AWS_SSM_INSTANCE_ID"]
        four = host.next()
        self.assertResult(host.run(rows="* %d Install %s %s -" % (four, NONCE, TOKEN), **given), status="succeeded", attempt=four)


class Frames:
    """The log on stdout, in pieces that say where they belong: for a service that carries text only."""

    def unframe(self, out):
        """What the frames hold; each must begin where the one before ended."""
        log, lines = b"", iter(out.split("\n"))
        for line in lines:
            head = re.fullmatch("\x1edrover@ %s (\\d+) (\\d+) (text|base64) (\\d+|-)" % h.NONCE, line)
            if head is None:
                continue
            offset, size, form = int(head[1]), int(head[2]), head[3]
            self.assertEqual(offset, len(log))
            piece = b""
            while len(piece) < size:
                line = next(lines)
                piece += line.encode() + b"\n" if form == "text" else base64.b64decode(line)
            self.assertEqual(len(piece), size)
            if head[4] == "-":
                self.assertIsNone(shutil.which("cksum", path=self.host.path), "a busybox may lack it")
            else:
                done = subprocess.run(["cksum"], input=piece, capture_output=True, check=True)
                self.assertEqual(done.stdout.split()[0].decode(), head[4])
            log += piece
        return log

    def framed(self, script):
        given = self.publish_one_hook("#!/bin/sh\n" + script)
        given.update(log_url="", log_form="frames")
        done = self.host.run(**given)
        self.assertResult(done, status="succeeded")
        log = self.host.file("attempts", done["attempt"], "log")[:int(done["bytes"])]
        self.assertEqual(self.unframe(done.out), log)
        text = self.host.spec(**dict(given, attempt=done["attempt"]))
        again = self.host.run(text=text)
        self.assertEqual(self.unframe(again.out), log, "told again, the log comes with its result")
        return done

    def test_plain_text_stays_readable(self):
        self.assertIn("\nhello\n", self.framed("echo hello\nseq 1 20000\n").out)

    def test_any_bytes_arrive(self):
        self.framed("printf 'a\\377\\001\\033[1mb\\n\\r\\000'\nhead -c 200000 /dev/zero\nprintf 'no newline'\n")


class Tools:
    """Not for a busybox that prefers its own applets to the PATH."""

    def test_missing_tool(self):
        tools = h.gnu_wget(os.path.join(self.host.root, "fewer"))
        os.unlink(os.path.join(tools, "tar"))
        self.host.env["PATH"] = tools
        done = self.host.run(sha=sha("x"))
        self.assertEqual(done.code, 73, done)
        self.assertIn("tar is missing", done.out)


class DiskFull:
    """On a small tmpfs in a mount namespace of its own."""

    def full_host(self, script, room):
        """Runs `script` (sh) with the application's directory on a tmpfs of `room`."""
        os.makedirs(self.host.app)
        spec = os.path.join(self.host.root, "spec")
        command = 'mount -t tmpfs -o size=%s none "$DROVER_ROOT/opt/drover/eval" || exit 99\n' % room + script
        user = [] if os.getuid() == 0 else ["-r"]
        return subprocess.Popen([h.need("unshare"), "-m", *user, "/bin/sh", "-c", command, spec], env=dict(self.host.env, PATH=self.host.path + ":" + h.SYSTEM_PATH),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)

    def write_spec(self, **given):
        with open(os.path.join(self.host.root, "spec"), "w") as spec:
            spec.write(self.host.spec(**given))

    def check(self, done, event):
        self.assertEqual(done.code, 73, done)
        self.assertResult(done, status="failed", event=event, exit=73)
        self.assertIn("no space left", done.out)

    def test_full_before_the_start(self):
        given = self.publish_one_hook(tracing("ran"))
        self.write_spec(**given)
        process = self.full_host('mkdir "$DROVER_ROOT/opt/drover/eval/attempts" "$DROVER_ROOT/opt/drover/eval/releases"; cat /dev/zero >"$DROVER_ROOT/opt/drover/eval/fill" 2>/dev/null; exec sh "$DROVER_ROOT/runner.sh" "$0"', "256k")
        self.host.started.append(process)
        done = self.host.finish(process)
        self.assertEqual(done.code, 73, done)
        self.assertResult(done, status="failed", exit=73)
        self.assertEqual(self.host.trace(), [])

    def test_full_while_unpacking(self):
        self.host.publish("one", {})
        revision = self.host.publish("big", {"big": bytes(range(256)) * 8192})
        self.write_spec(sha=revision)
        process = self.full_host('exec sh "$DROVER_ROOT/runner.sh" "$0"', "1m")
        self.host.started.append(process)
        self.check(self.host.finish(process), "DownloadBundle")

    def test_room_is_made_for_a_new_release(self):
        """Old releases fill the disk: they go before the download, which fits then; what runs and was good stays."""
        big = {"big": os.urandom(600 * 1024)}
        revisions = [self.host.publish("big %s" % n, big) for n in range(7)]
        lines = []
        for number, revision in enumerate(revisions):
            kind = "run" if number == 0 else "stage"
            with open(os.path.join(self.host.root, "spec-%s" % number), "w") as spec:
                spec.write(self.host.spec(kind, sha=revision, keep="50", good=revisions[0]))
            lines.append('sh "$DROVER_ROOT/runner.sh" "$DROVER_ROOT/spec-%s" >>"$DROVER_ROOT/said" 2>&1 || exit %s' % (number, 10 + number))
        process = self.full_host("\n".join(lines) + '\nls "$DROVER_ROOT/opt/drover/eval/releases" >"$DROVER_ROOT/left"', "4m")
        self.host.started.append(process)
        done = self.host.finish(process)
        self.assertEqual(done.code, 0, self.host.read("said"))
        left = self.host.read("left").split()
        self.assertIn(revisions[0], left)
        self.assertIn(revisions[6], left)
        self.assertLess(len(left), 7)

    def test_full_by_a_hook(self):
        given = self.publish_one_hook(tracing("ran", 'cat /dev/zero 2>/dev/null; cat /dev/zero >"$DROVER_APP_DIR/fill" 2>/dev/null\nexit 0\n'))
        self.write_spec(**given)
        process = self.full_host('sh "$DROVER_ROOT/runner.sh" "$0"; code=$?; cp "$DROVER_ROOT"/opt/drover/eval/attempts/*/result "$DROVER_ROOT/result"; exit $code', "1m")
        self.host.started.append(process)
        done = self.host.finish(process)
        self.check(done, "ApplicationStart")
        self.assertEqual(self.host.read("result").splitlines()[0], done.line, "recorded, thanks to the reserve")


class Files:
    """appspec's files and permissions: beside their places first, then renamed, undone as a whole."""

    def entries(self, *pairs):
        return "\n".join("%s\t%s" % (source, self.host.root + destination) for source, destination in pairs)

    def at(self, path):
        with open(self.host.root + path) as file:
            return file.read()

    def tree(self, path="/srv"):
        """What lies there: name to content, links and folders marked."""
        found = {}
        for folder, folders, files in os.walk(self.host.root + path):
            for name in folders + files:
                full = os.path.join(folder, name)
                shown = os.path.relpath(full, self.host.root)
                if os.path.islink(full):
                    found[shown] = "-> " + os.readlink(full)
                elif os.path.isdir(full):
                    found[shown] = "/"
                else:
                    with open(full) as file:
                        found[shown] = file.read()
        return found

    def deploy(self, name, files, *pairs, **given):
        revision = self.host.publish(name, files)
        return self.host.run(sha=revision, files=self.entries(*pairs), **given)

    def test_files_go_where_they_belong(self):
        files = {"a.txt": "a", "conf/x.conf": "x", "conf/deep/y y.conf": "y", "app.jar": "jar"}
        pairs = [("", "/srv/all"), ("conf", "/srv/etc"), ("app.jar", "/srv/lib"), ("conf/x.conf", "/srv/etc")]
        self.assertResult(self.deploy("one", files, *pairs), status="succeeded")
        tree = self.tree()
        self.assertEqual(tree["srv/all/conf/deep/y y.conf"], "y")
        self.assertEqual((tree["srv/etc/x.conf"], tree["srv/etc/deep/y y.conf"], tree["srv/lib/app.jar"]), ("x", "y", "jar"))
        self.assertFalse([name for name in tree if ".drover" in name or ".complete" in name], tree)
        # the next revision lacks some; what a person put there stays
        with open(self.host.root + "/srv/all/mine", "w") as mine:
            mine.write("mine")
        self.assertResult(self.deploy("two", {"a.txt": "A", "b.txt": "b"}, ("", "/srv/all")), status="succeeded")
        self.assertEqual(self.tree(), {"srv/all": "/", "srv/all/a.txt": "A", "srv/all/b.txt": "b", "srv/all/mine": "mine"})
        # and the same once more, and one without files at all
        self.assertResult(self.deploy("two", {}, ("", "/srv/all")), status="succeeded")
        self.assertEqual(self.at("/srv/all/a.txt"), "A")
        revision = self.host.publish("three", {"c": "c"})
        self.assertResult(self.host.run(sha=revision), status="succeeded")
        self.assertEqual(self.tree(), {"srv/all": "/", "srv/all/mine": "mine"})

    def test_a_file_that_is_there_already(self):
        os.makedirs(self.host.root + "/srv/all")
        for exists, content, status in (("", "theirs", "failed"), ("DISALLOW", "theirs", "failed"), ("RETAIN", "theirs", "succeeded"), ("OVERWRITE", "ours", "succeeded")):
            with open(self.host.root + "/srv/all/a", "w") as file:
                file.write("theirs")
            before = self.tree()
            done = self.deploy("one" + exists, {"a": "ours", "b": "b"}, ("", "/srv/all"), exists=exists)
            self.assertResult(done, status=status)
            self.assertEqual(self.at("/srv/all/a"), content, exists)
            if status == "failed":
                self.assertIn("is there already, and no former revision brought it", self.host.log())
                self.assertEqual((done["event"], self.tree()), ("Install", before), "nothing half-done")

    def test_permissions(self):
        files = {"bin/run": "r", "bin/run.sh": "s", "bin/sub/run.x": "x", "etc/secret": "t", "etc/a.md": "m"}
        permissions = "\n".join([
            "object %s/srv/bin" % self.host.root, "type file", "pattern run*", "mode 751",
            "object %s/srv/bin" % self.host.root, "type directory", "mode 750",
            "object %s/srv/etc" % self.host.root, "type file", "type directory", "except *.md", "mode 600",
            "object %s/srv/etc/a.md" % self.host.root, "type file", "mode 4644"])
        done = self.deploy("one", files, ("bin", "/srv/bin"), ("etc", "/srv/etc"), permissions=permissions)
        self.assertResult(done, status="succeeded")
        modes = {name: oct(os.stat(os.path.join(self.host.root, name)).st_mode & 0o7777) for name in self.tree()}
        self.assertEqual((modes["srv/bin/run"], modes["srv/bin/run.sh"], modes["srv/bin/sub"]), ("0o751", "0o751", "0o750"))
        self.assertEqual((modes["srv/etc/secret"], modes["srv/etc/a.md"]), ("0o600", "0o4644"))
        self.assertNotEqual(modes["srv/bin/sub/run.x"], "0o751", "a pattern is for what lies directly in the folder")
        wrong = "object %s/srv/etc\ntype file\nowner nobody-of-that-name" % self.host.root
        before = self.tree()
        done = self.deploy("two", {"etc/secret": "new"}, ("etc", "/srv/etc"), permissions=wrong)
        self.assertResult(done, status="failed", event="Install")
        self.assertIn("chown failed", self.host.log())
        self.assertEqual(self.tree(), before)

    def test_a_list_that_cannot_be_written(self):
        """A disk that is full while the install makes its lists: nothing is taken for gone."""
        self.assertResult(self.deploy("one", dict.fromkeys("abcdef", "1"), ("", "/srv/all")), status="succeeded")
        before = self.tree()
        wrapper = os.path.join(self.host.path.split(":")[0], "cat")
        real = os.path.realpath(wrapper) if os.path.lexists(wrapper) else h.need("cat")
        if os.path.lexists(wrapper):
            os.remove(wrapper)
        for name in ("wanted", "folders", "gone", "late", "known", "manifest", "replaced"):
            with open(wrapper, "w") as file:
                # as cat does it: what fits is written, then it fails
                file.write('#!/bin/sh\ncase $(readlink /proc/$$/fd/1) in\n*/install/%s) "%s" | head -n 2; exit 1 ;;\nesac\nexec "%s" "$@"\n'
                           .replace('"%s"', '"%s" cat' if "busybox" in real else '"%s"') % (name, real, real))
            os.chmod(wrapper, 0o755)
            done = self.deploy("two", dict.fromkeys("abcdex", "2"), ("", "/srv/all"))
            self.assertResult(done, status="failed", event="Install", exit=73)
            self.assertEqual(self.tree(), before, name)
        os.remove(wrapper)
        os.symlink(real, wrapper)

    def test_nothing_new_before_an_old_install_is_undone(self):
        host = self.host
        self.assertResult(self.deploy("one", {"a": "1"}, ("", "/srv/all")), status="succeeded")
        old = os.path.join(host.root, "srv/.drover-old-5-1")
        install = os.path.join(host.app, "attempts/5/install")
        os.makedirs(install)
        with open(old, "w") as file:
            file.write("theirs")
        for name in ("made", "gone", "unmade", "modes", "before"):
            open(os.path.join(install, name), "w").close()
        with open(os.path.join(install, "phase"), "w") as file:
            file.write("switching\n")
        with open(os.path.join(install, "plan"), "w") as file:
            file.write("T\t%s/nowhere/x\tx\t%s/nowhere/new\t%s\n" % (host.root, host.root, old))
        done = self.deploy("two", {"a": "2"}, ("", "/srv/all"))
        self.assertResult(done, status="failed", event="Install", exit=73)
        self.assertIn("an install could not be undone in full", host.log())
        self.assertEqual(self.at("/srv/all/a"), "1")
        os.makedirs(host.root + "/nowhere")
        self.assertResult(self.deploy("two", {"a": "2"}, ("", "/srv/all")), status="succeeded")
        self.assertEqual((self.at("/nowhere/x"), os.path.exists(old)), ("theirs", False))

    def test_names_that_the_runner_uses_itself(self):
        files = {"conf/.complete": "theirs", "conf/.drover-hooks": "theirs"}
        self.assertResult(self.deploy("one", files, ("conf", "/srv/conf"), ("", "/srv/all")), status="succeeded")
        self.assertEqual(self.at("/srv/conf/.complete") + self.at("/srv/all/conf/.drover-hooks"), "theirstheirs")
        self.assertNotIn("srv/all/.complete", self.tree())

    def test_kinds_that_change(self):
        """A file where a folder was, a folder where a link was; a person's file in such a folder is in the way."""
        os.makedirs(self.host.root + "/srv")
        self.assertResult(self.deploy("one", {"a/x": "1", "a/y/z": "1", "b": "1"}, ("", "/srv/all")), status="succeeded")
        self.assertResult(self.deploy("two", {"a": "2", "b/c/d": "2"}, ("", "/srv/all")), status="succeeded")
        two = {"srv/all": "/", "srv/all/a": "2", "srv/all/b": "/", "srv/all/b/c": "/", "srv/all/b/c/d": "2"}
        self.assertEqual(self.tree(), two)
        with open(self.host.root + "/srv/all/b/c/mine", "w") as mine:
            mine.write("mine")
        done = self.deploy("three", {"a": "3", "b": "3"}, ("", "/srv/all"))
        self.assertResult(done, status="failed", event="Install", exit=1)
        self.assertIn("which has something in it that no former revision brought", self.host.log())
        self.assertEqual(self.tree(), {**two, "srv/all/b/c/mine": "mine"})


RULES = (Files, Secrets, Adoption, Events, Frames, Releases, Authority, Reboots, Stopping, Specs, DiskFull)


class Dash(*RULES, Tools, Case):
    pass


class Bash(*RULES, Tools, Case):
    flavour = staticmethod(h.bash)


class Busybox(*RULES, Case):
    flavour = staticmethod(h.busybox)
    still_ignored = 1 << signal.SIGINT - 1 | 1 << signal.SIGQUIT - 1


class File(unittest.TestCase):
    """The file itself, which travels in every command."""

    def test_size(self):
        # a command's script is to stay under 32 KB; the rest is for the spec, packed, with up to fifty rows
        self.assertLess(len(h.command("")), 24 * 1024)

    def test_shellcheck(self):
        with open(h.COMMAND, "rb") as file:
            command = file.read()
        for script in (h.runner(), command):
            found = subprocess.run([h.need("shellcheck"), "-s", "sh", "-"], input=script, stdout=subprocess.PIPE)
            self.assertEqual(found.returncode, 0, found.stdout.decode())


if __name__ == "__main__":
    unittest.main()
