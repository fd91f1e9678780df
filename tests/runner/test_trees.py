"""Any tree, any list of files, a crash after any step: the host ends on the old tree or on the new one, never between.

A story is drawn from a seed: two revisions, their files lists and permissions, and what people have put on the host. The second
one's install is run once whole, to count its steps, then again and again with a crash at one of them. What is to come out
is worked out in Python (World.deploy), apart from the runner.

DROVER_TREES='N'       N further stories from random seeds, besides the fixed ones
DROVER_TREES='all'     a crash at every step, not at some
DROVER_TREES='seed=S'  only the story of that seed; words may be put together: 'seed=7 all'
"""

import fnmatch
import io
import os
import random
import shutil
import stat
import tarfile
import unittest

import host as h

# Chosen for what happens in them: a refusal, RETAIN, OVERWRITE, files and folders that come, go and change, two sources of one place.
SEEDS = (39, 57, 151, 240, 315, 399)
WORDS = os.environ.get("DROVER_TREES", "").split()

# What the runner can't do yet; each is drawn, and asked for, once it is set to True.
KINDS_CHANGE = True  # a file of the former revision makes way for a folder, or a folder of it for a file
FOLDERS_KEEP_MODES = True  # an install that is undone has not changed the modes of folders
LINKS_TO_FOLDERS = True  # under busybox a file takes the place of a link to a folder (its `mv -T` does not), or back when undone
CLEARED_AFTER_CRASH = True  # folders that the former revision made, empty now, go even after a crash at the very end
HALF_OF_RM = True  # the crash may come amid the `rm -rf` of an undoing

STEPS = ("mv", "cp", "ln", "rm", "mkdir", "rmdir", "chmod")
# In front of each of these tools. From the first command on that has to do with the folder where the install is written down,
# it counts commands; at the one asked for (or the last one: the folder goes) it kills the whole runner: before the command, after
# it, or in the middle of it.
SHIM = """#!%(dash)s
c=$DROVER_ROOT/crash
if [ -f "$c" ] && read -r at how install names <"$c" &&
	{ [ -f "$c.n" ] || [ -d "$install" ] || case "$*" in *"$install"*) ;; *) false ;; esac; }; then
	n=0
	[ ! -f "$c.n" ] || read -r n <"$c.n"
	n=$((n + 1))
	echo "$n" >"$c.n"
	printf '%%s\\n' "%(tool)s $*" >>"$c.steps"
	if [ "$n" = "$at" ] || [ "$at %(tool)s $*" = "last rm -rf $install" ]; then
		case $how/%(tool)s$1 in
		half/rm-rf) for name in $names; do %(real)s -f "$2/$name"; done ;;
		half/cp*) for last; do :; done; printf h >"$last" ;;
		after/* | half/*) %(real)s "$@" ;;
		esac
		kill -9 0
	fi
fi
exec %(real)s "$@"
"""
NOTES = "plan gone late unmade modes made before manifest-before phase manifest wanted folders known folders-kept".split()

NAMES = ["a", "b.x", "c d", " lead", "trail ", "-f", "*", "[x]", "$HOME", "it's", 'q"q', "b\\n", "ü", ";", "#", "k=v", "%s", "..x",
         ".h", "&", "deep"]


def above(path):
    """The folders that a path lies in, the outermost first, below the host's root."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:n + 1]) for n in range(len(parts))]


class Revision:
    """A tree: path to ("file", text, mode) or ("link", target); empty folders; and what its appspec says."""

    def __init__(self, rng, former=None):
        self.tree, self.empty = {}, set()
        for path, node in (former.tree if former else {}).items():
            self.change(rng, path, node)
        want = len(self.tree) + rng.randint(0, 3) if former else rng.randint(2, 8)
        while len(self.tree) < max(want, 2):
            self.add(rng, "/".join(rng.choice(NAMES) for _ in range(rng.choice((1, 1, 2, 2, 3)))), self.node(rng))
        if rng.random() < 0.4:
            self.add(rng, rng.choice(NAMES) + "/nothing", None)
        sources = [""] * 2 + sorted({folder for path in self.tree for folder in above(path)})
        sources += [path for path, node in self.tree.items() if node[0] == "file"]
        places = ["srv/one", "srv/one", "srv/one/deep", "srv/t w o", "srv/$x/y"]
        self.entries = [(rng.choice(sources), rng.choice(places)) for _ in range(rng.randint(1, 3))]
        if former and rng.random() < 0.6:
            kept = [entry for entry in former.entries if entry[0] in sources]
            self.entries = kept or self.entries
        self.exists = rng.choice(("DISALLOW", "OVERWRITE", "OVERWRITE", "RETAIN"))
        self.table = []
        for _ in range(rng.choice((0, 0, 1, 2))):
            place = rng.choice([to for _, to in self.entries] + sorted(self.wanted()))
            types = rng.choice((["file"], ["file"], ["directory"], ["file", "directory"]))
            self.table.append((place, types, rng.choice((None, None, "*", "?*x", "[!a]*")), rng.choice((0o600, 0o711, 0o755))))

    def node(self, rng):
        if rng.random() < 0.25:
            return ("link", rng.choice(("nowhere", "a", "deep", "/etc/hostname", "..", "./c d")))
        return ("file", "text %d" % rng.randrange(10**6), rng.choice((0o644, 0o644, 0o755)))

    def change(self, rng, path, node):
        """A node of the former revision: gone, other, of another kind, or as it was."""
        dice = rng.random()
        if dice < 0.2:
            return
        if dice < 0.6:
            node = self.node(rng)
        if KINDS_CHANGE and dice > 0.85:
            path = path + "/" + rng.choice(NAMES) if dice > 0.92 else path.split("/")[0]
        self.add(rng, path, node)

    def add(self, rng, path, node):
        """Where nothing is in the way. `deep`, which is a destination too, is no link: files would go through it."""
        taken = path in self.tree or path in self.folders() or any(folder in self.tree for folder in above(path))
        if taken or node and node[0] == "link" and path.endswith("deep"):
            return
        if node:
            self.tree[path] = node
        else:
            self.empty.add(path)

    def folders(self):
        return {folder for path in list(self.tree) + [path + "/" for path in self.empty] for folder in above(path)}

    def inside(self, paths, source, to):
        """Which of the paths lie in a folder of the revision, and where they go."""
        start = source + "/" if source else ""
        return {path: to + "/" + path[len(start):] for path in paths if path.startswith(start)}

    def wanted(self):
        """Place to node; the last entry wins."""
        found = {}
        for source, to in self.entries:
            if source in self.tree:
                found[to + "/" + source.split("/")[-1]] = self.tree[source]
            found.update((place, self.tree[path]) for path, place in self.inside(self.tree, source, to).items())
        return found

    def named(self):
        """The folders that the entries name: the destinations, and what lies below the sources."""
        below = [self.inside(self.folders(), *entry).values() for entry in self.entries]
        return {to for _, to in self.entries}.union(*below)

    def needed(self):
        """The folders that are to be there."""
        return {folder for place in list(self.wanted()) + [to + "/" for to in self.named()] for folder in above(place)}

    def packed(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for path in sorted(self.folders()) + sorted(self.tree):
                info = tarfile.TarInfo("owner-repo-abcdef0/" + path)
                kind, data, mode = (self.tree.get(path, ("folder", "")) + (0o755,))[:3]
                info.type, info.mode = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE}[kind], mode
                if kind == "link":
                    info.linkname = data
                else:
                    info.size = len(data)
                tar.addfile(info, io.BytesIO(data.encode()))
        return out.getvalue()

    def mode(self, place, kind, mode):
        """The mode that the permissions make of it."""
        for thing, types, pattern, given in self.table:
            inside = place[len(thing) + 1:] if place.startswith(thing + "/") else ""
            meant = "/" not in inside and fnmatch.fnmatchcase(inside, pattern) if pattern else True
            if kind in types and (kind == "file" and place == thing or inside and meant):
                mode = given
        return mode


class World:
    """What lies on the host below srv, what of it revisions brought, and which revision is current."""

    def __init__(self, files=(), folders=(), ours=(), made=(), current=None):
        self.files, self.folders, self.ours, self.made, self.current = dict(files), dict(folders), set(ours), set(made), current

    def shown(self):
        folders = self.folders if FOLDERS_KEEP_MODES else dict.fromkeys(self.folders)
        folders = {path: ("folder", mode) for path, mode in folders.items()}
        return {**self.files, **folders, "current": self.current, "manifest": sorted(self.ours)}

    def link_to_folder_in_the_way(self, revision):
        """Whether a link that goes leads to a folder where the revision has a folder; see KINDS_CHANGE."""
        return any(self.files.get(folder, "-")[0] == "link" for folder in revision.needed())

    def file_or_link_to_folder(self, revision):
        """Whether what is a link to a folder before, or afterwards, may be a file at the other time; see LINKS_TO_FOLDERS."""
        pairs = [{self.files[place], node} for place, node in revision.wanted().items() if place in self.files]
        kinds = [{node[0] for node in pair} for pair in pairs if not pair & {("link", "nowhere"), ("link", "/etc/hostname")}]
        return {"file", "link"} in kinds

    def deploy(self, name, revision):
        """The world after it, as CodeDeploy has it; itself where the install has to fail."""
        wanted, folders = revision.wanted(), revision.needed()
        goes = {place for place in self.ours if place not in wanted}
        makes_way, may_go = (goes, self.made) if KINDS_CHANGE else (set(), set())
        stays = {folder for place in self.files if place not in makes_way for folder in above(place)} | (set(self.folders) - may_go)
        theirs = {place for place in wanted if place in self.files and place not in self.ours}
        if folders & set(wanted) or folders & (set(self.files) - makes_way) or stays & set(wanted):
            return self
        if theirs and revision.exists == "DISALLOW":
            return self
        brought = {place: node for place, node in wanted.items() if place not in theirs or revision.exists == "OVERWRITE"}
        new = World({place: node for place, node in self.files.items() if place not in goes}, self.folders, brought, self.made, name)
        for place, node in brought.items():
            new.files[place] = node if node[0] == "link" else ("file", node[1], revision.mode(place, "file", node[2]))
        new.made |= folders - set(new.folders)
        for folder in sorted(folders):
            new.folders.setdefault(folder, 0o755)
        for folder in revision.named():
            new.folders[folder] = revision.mode(folder, "directory", new.folders[folder])
        for folder in sorted(new.made, reverse=True):
            if not any(path.startswith(folder + "/") for path in list(new.files) + list(new.folders)):
                new.folders.pop(folder, None)
                new.made.discard(folder)
        return new


class Story:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        while True:
            self.one = Revision(self.rng)
            self.two = Revision(self.rng, self.one)
            self.world = World(folders={"srv": 0o755})
            self.first = self.people(self.one)
            self.before_one = self.world
            self.world = self.world.deploy("one", self.one)
            self.second = self.people(self.two)
            if KINDS_CHANGE or not self.world.link_to_folder_in_the_way(self.two):
                if LINKS_TO_FOLDERS or not self.world.file_or_link_to_folder(self.two):
                    return

    def people(self, revision):
        """What people put there: beside the revision's files and in their way. Notes it in the world, returns it."""
        old, self.world = self.world, World(**vars(self.world))
        things = {"srv/mine": ("file", "mine", 0o640), "srv/one/ours not": ("link", "nowhere"), "srv/empty": None}
        for place in self.rng.sample(sorted(revision.wanted()), 1) if self.rng.random() < 0.5 else ():
            things[place] = self.rng.choice((("file", "theirs", 0o604), ("file", "theirs", 0o604), ("link", "/etc/hostname"), None))
        for place, node in list(things.items()):
            taken = set(old.files) | set(self.world.files) | set(self.world.folders)
            if place in taken or any(folder in self.world.files for folder in above(place)):
                del things[place]
                continue
            for folder in above(place) + ([] if node else [place]):
                self.world.folders.setdefault(folder, 0o755)
            if node:
                self.world.files[place] = node
        return things


class Trees:
    def seeds(self):
        chosen = [int(word[5:]) for word in WORDS if word.startswith("seed=")]
        more = [random.SystemRandom().randrange(10**9) for word in WORDS if word.isdigit() for _ in range(int(word))]
        return chosen or list(SEEDS) + more

    def test_a_crash_at_any_step_leaves_the_old_tree_or_the_new_one(self):
        for seed in self.seeds():
            with self.subTest(seed=seed):
                self.host = h.Host(self.flavour)
                try:
                    self.tell(Story(seed), seed)
                finally:
                    self.host.close()

    def tell(self, story, seed):
        self.about = "DROVER_TREES='seed=%d': %s\n" % (seed, ascii({"one": vars(story.one), "two": vars(story.two)}))
        self.put_shims()
        for name in ("one", "two"):
            self.host.daemon.bundles[h.sha(name)] = getattr(story, name).packed()
            self.assertEqual(self.host.run("stage", sha=h.sha(name), log_url="").code, 0)
        self.put(story.first)
        self.deploy(story.one, "one", story.before_one, "the first deployment")
        self.put(story.second)
        old, new = story.world, story.world.deploy("two", story.two)
        self.check(story.world, "before the second deployment")
        keep = self.host.root + "/keep"
        for part in ("opt", "srv"):
            shutil.copytree(self.host.root + "/" + part, keep + "/" + part, symlinks=True, ignore=shutil.ignore_patterns("wake"))
        whole = self.deploy(story.two, "two", old, "whole", crash=(0, "after", ""))
        for step in self.choose(story.rng, self.host.read("crash.steps").splitlines()):
            for part in ("opt", "srv"):
                shutil.rmtree(self.host.root + "/" + part)
                shutil.copytree(keep + "/" + part, self.host.root + "/" + part, symlinks=True)
            how = story.rng.choice(("before", "after", "half"))
            crash = (step, how, " ".join(name for name in NOTES if story.rng.random() < 0.5))
            self.crash_at(story, old, new, crash, whole.code)

    def choose(self, rng, steps):
        """Numbers of steps: all; or one while all is put beside, three of the renames, the last that is undone, one after it."""
        if "all" in WORDS:
            return range(1, len(steps) + 1)
        begun = [number for number, step in enumerate(steps, 1) if step.startswith("mv ") and "/.drover-new-" in step]
        done = [number for number, step in enumerate(steps, 1) if step.endswith("/install/phase")]
        first, last = (begun + [len(steps)])[0], ([len(steps)] + done)[-1]
        spans = ((1, range(1, first)), (3, range(first, last - 1)), (1, range(last - 1, last)), (1, range(last, len(steps) + 1)))
        return [step for count, span in spans for step in sorted(rng.sample(span, min(count, len(span))))]

    def crash_at(self, story, old, new, crash, code):
        number = self.host.next()
        run = lambda crash: self.run_one(story.two, "two", number, crash)
        killed = run(crash)
        what = "killed %s step %s, %s" % (crash[1], crash[0], ascii(self.host.read("crash.steps").splitlines()[-1:]))
        self.assertEqual(killed.code, -9, self.about + what + repr(killed))
        if story.rng.random() < 0.3:
            # the next command comes to a later attempt, of the former revision
            done = self.run_one(story.one, "one", self.host.next())
            ends = [world.deploy("one", story.one) for world in (old, new)]
        else:
            if story.rng.random() < 0.4:
                # the host crashes once more, while it puts things in order
                often = [(story.rng.randint(1, 40), how) for how in ("before", "after")]
                again = run((*story.rng.choice(often + [("last", "half")] * HALF_OF_RM), crash[2]))
                what += ", again at %s: %d" % (ascii(self.host.read("crash.steps").splitlines()[-1:]), again.code)
            done = run(None)
            self.assertIn(done.code, (71, code), self.about + what + repr(done))
            ends = [old, new] if done.code == 71 else [new]
        seen = self.seen()
        found = [world for world in ends if self.alike(seen, world)]
        trees = [ascii(sorted(tree.items(), key=str)) for tree in (seen, ends[0].shown(), ends[-1].shown())]
        self.assertTrue(found, "%s%s\n%s\nseen %s\nold  %s\nnew  %s" % (self.about, what, done, *trees))
        self.deploy(story.two, "two", found[0], what + ", then deployed again")

    def alike(self, seen, world):
        shown = world.shown()
        if not CLEARED_AFTER_CRASH and seen["current"] == "two":
            # once more the runner clears them away
            seen = {path: node for path, node in seen.items() if path in shown or node[0] != "folder"}
        return seen == shown

    def deploy(self, revision, name, world, what, crash=None):
        """A deployment that runs to its end: the world is as worked out."""
        after = world.deploy(name, revision)
        done = self.run_one(revision, name, self.host.next(), crash)
        self.assertEqual(done.fields.get("status"), "failed" if after is world else "succeeded", self.about + what + repr(done))
        self.check(after, what, done)
        return done

    def check(self, world, what, done=""):
        self.maxDiff = None
        self.assertEqual(self.seen(), world.shown(), "%s%s\n%s" % (self.about, what, done))

    def run_one(self, revision, name, number, crash=None):
        for file in ("crash", "crash.n", "crash.steps"):
            if os.path.exists(os.path.join(self.host.root, file)):
                os.remove(os.path.join(self.host.root, file))
        if crash:
            with open(os.path.join(self.host.root, "crash"), "w") as file:
                file.write("%s %s %s/attempts/%d/install %s\n" % (*crash[:2], self.host.app, number, crash[2]))
        root = self.host.root + "/"
        table = []
        for thing, types, pattern, mode in revision.table:
            table += ["object " + root + thing, *("type " + kind for kind in types), "mode %o" % mode]
            table += ["pattern " + pattern] if pattern else []
        return self.host.run(
            sha=h.sha(name), attempt=number, events="Install", log_url="", exists=revision.exists, permissions="\n".join(table),
            files="\n".join("%s\t%s" % (source, root + to) for source, to in revision.entries))

    def put_shims(self):
        folder = self.host.path.split(":")[0]
        for tool in STEPS:
            shim, real = os.path.join(folder, tool), shutil.which(tool, path=self.host.path)
            if os.path.islink(shim):
                real = "%s %s" % (os.readlink(shim), tool)
                os.remove(shim)
            with open(shim, "w") as file:
                file.write(SHIM % {"dash": h.need("dash"), "tool": tool, "real": real})
            os.chmod(shim, 0o755)

    def put(self, things):
        os.makedirs(self.host.root + "/srv", exist_ok=True)
        for place, node in things.items():
            full = os.path.join(self.host.root, place)
            os.makedirs(os.path.dirname(full) if node else full, exist_ok=True)
            if node and node[0] == "link":
                os.symlink(node[1], full)
            elif node:
                with open(full, "w") as file:
                    file.write(node[1])
                os.chmod(full, node[2])

    def seen(self):
        """The host as World.shown() puts it."""
        found = {}
        root = self.host.root
        for folder, folders, files in os.walk(root + "/srv"):
            for name in folders + files + ["."]:
                full = os.path.normpath(os.path.join(folder, name))
                mode = os.lstat(full).st_mode
                if stat.S_ISLNK(mode):
                    node = ("link", os.readlink(full))
                elif stat.S_ISDIR(mode):
                    node = ("folder", stat.S_IMODE(mode) if FOLDERS_KEEP_MODES else None)
                else:
                    with open(full) as file:
                        node = ("file", file.read(), stat.S_IMODE(mode))
                found[os.path.relpath(full, root)] = node
        current = os.path.join(self.host.app, "current")
        link = os.path.basename(os.readlink(current)) if os.path.lexists(current) else None
        found["current"] = {h.sha("one"): "one", h.sha("two"): "two"}.get(link, link)
        manifest = self.host.file("manifest").decode().splitlines() if self.host.exists("manifest") else []
        found["manifest"] = sorted(os.path.relpath(line, root) for line in manifest if not line.endswith("/"))
        return found


class Dash(Trees, unittest.TestCase):
    flavour = staticmethod(h.dash)


class Bash(Trees, unittest.TestCase):
    flavour = staticmethod(h.bash)


class Busybox(Trees, unittest.TestCase):
    flavour = staticmethod(h.busybox)


if __name__ == "__main__":
    unittest.main()
