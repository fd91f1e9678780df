"""Runs all tests of this folder, several classes at a time (they mostly wait), and prints what failed.

python3 tests/runner/run.py [JOBS]
"""

import concurrent.futures
import os
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))


def names(suite):
    """The test classes of a suite, as unittest names them."""
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            yield from names(part)
        else:
            yield "%s.%s" % (type(part).__module__, type(part).__name__)


def run(name):
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "unittest", name], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return name, done.returncode, done.stdout.decode(errors="replace"), time.monotonic() - begun


def main():
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    classes = sorted(set(names(unittest.defaultTestLoader.discover(HERE))))
    failed = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for name, code, out, seconds in pool.map(run, classes):
            print("%-40s %s  %.0f s" % (name, "ok" if code == 0 else "FAILED", seconds), flush=True)
            if code:
                failed.append(name)
                print(out, flush=True)
    print("%d test classes, %d failed %s" % (len(classes), len(failed), " ".join(failed)))
    sys.exit(1 if failed or not classes else 0)


if __name__ == "__main__":
    main()
