#!/bin/sh
# What SendCommand carries: the runner, packed, and the spec that tells it what to do. Filled in, each between two @:
# NAME, by which hosts keep the runner; RUNNER, its text; SPEC (both base64 of gzip).
set -eu
base="${DROVER_ROOT:-}/opt/drover"
# Hooks and services run as users of their own: they must get to the releases, whatever the host's own umask is.
umask 022
mkdir -p "$base"
case $(ls -ld "$base") in
d???r?xr?x*) ;;
*) chmod go+rx "$base" 2>/dev/null || : ;;
esac
# The runner and the spec, which the runner deletes once it has read it, are root's alone.
umask 077
dir="$base/.runner"
mkdir -p "$dir"
runner="$dir/@NAME@.sh"
if [ ! -s "$runner" ]; then
	printf %s '@RUNNER@' | base64 -d | gzip -dc >"$runner.$$"
	mv -f "$runner.$$" "$runner"
fi
spec="$dir/spec.$$"
printf %s '@SPEC@' | base64 -d | gzip -dc >"$spec"
# Signals that the agent's parent ignores would be ignored for good: no shell can undo that.
if env --default-signal=HUP true 2>/dev/null; then
	exec env --default-signal=HUP,INT,QUIT,PIPE,TERM sh "$runner" "$spec"
fi
exec sh "$runner" "$spec"
