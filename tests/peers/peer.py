"""What both peers' tests stand on: processes that say when they are ready, and end with the test; a repository."""

import json
import os
import select
import subprocess
import time

import boto3
import botocore.config

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DROVER = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR") or "target", "debug", "drover")
REGION = "eu-central-1"
REPOSITORY = "acme/peer"


def wait_for(check, what, seconds=60):
    """Waits until check() gives something true, and gives that."""
    limit = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > limit:
            raise AssertionError("waited %s s in vain for %s" % (seconds, what))
        time.sleep(0.05)


class Process:
    """A drover process whose first line of output says that it is ready; it ends when its standard input closes."""

    def __init__(self, directory, name, arguments, **environment):
        self.log = os.path.join(directory, name + ".log")
        with open(self.log, "w") as log:
            self.child = subprocess.Popen([DROVER, *arguments, "--until-stdin-closes"], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, stderr=log, env=dict(os.environ, **environment))
        ready, _, _ = select.select([self.child.stdout], [], [], 60)
        line = self.child.stdout.readline() if ready else b""
        if not line:
            self.stop()
            raise AssertionError("%s did not start: %s" % (name, self.said()))
        self.ready = json.loads(line)["ready"]

    def said(self):
        with open(self.log) as log:
            return log.read()[-4000:]

    def stop(self):
        self.child.stdin.close()
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()


def git(directory, *arguments):
    who = ["-c", "user.name=peer", "-c", "user.email=peer@example.com"]
    done = subprocess.run(["git", "-C", directory, *who, *arguments], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().strip()


def repository(directory, files):
    """A repository with one commit on main; its SHA."""
    os.makedirs(directory)
    git(directory, "init", "-q", "-b", "main")
    for name, text in files.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o755), "w") as file:
            file.write(text)
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", "Serve")
    return git(directory, "rev-parse", "HEAD")


def clients(url, key="peer", secret="peer"):
    """boto3's clients by service. They don't retry: what goes wrong is to be seen."""
    config = botocore.config.Config(retries={"total_max_attempts": 1}, parameter_validation=True)
    session = boto3.session.Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=REGION)
    return {name: session.client(name, endpoint_url=url, config=config)
            for name in ("autoscaling", "elbv2", "ssm", "logs", "ec2")}
