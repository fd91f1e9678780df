#!/bin/sh
# drover's runner: carries out one attempt of a deployment on this host. Its parts, hooks/runner/*.sh in their order, are put
# together into the one script that travels.
#
#   sh runner.sh SPECFILE
#
# SPECFILE holds shell assignments in single quotes (D_KIND, D_APP ...). It is read once and deleted.
# The last line on stdout is the result, `drover: result attempt=... status=... event=... hook=... exit=... bytes=... sha256=... at=... current=...`.
# Without D_LOG_URL the log goes to stdout before that: as it is, or with D_LOG_FORM=frames in pieces, each behind a line
# `<RS>drover@ NONCE OFFSET BYTES text|base64 CKSUM`.
# In hook names % and white space are written %25 and %20.
#
# Exit codes
#     0  succeeded (or a `stop after` was noted)
#     1  a hook failed: exit= in the result is its code (124 time-out, 126 can't be executed, 127 missing)
#    64  the spec is wrong                       66  the spec has no row for this instance
#    70  refused: a later attempt was seen here  71  interrupted: the runner of this attempt died
#    72  stopped on request                      73  this host can't: disk full, tool missing, no permission
#    74  the bundle could not be had             75  busy: another attempt, or still this one, is at work
#    76  late: it is past D_NOT_AFTER (unix time), and this attempt has not begun
#   194  a hook asks for a reboot: reboot, then run the same spec again (no result line yet)
#
# Needs a POSIX sh, coreutils or busybox, setsid (util-linux or busybox), tar, gzip, and curl or wget. With wget the log
# is sent once a second; busybox's wget shows the token in its arguments and can't send NUL: the daemon gets `?` for it.
#
# shellcheck disable=SC1007,SC1090,SC2012,SC2015,SC2016,SC2034,SC2045,SC2046,SC2086,SC2094,SC2317
set -f
NL='
'
TAB='	'
STD_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# ---- small things

say() { printf 'drover: %s\n' "$*"; }

now() { date +%s; }

clock() { date -u -d "@$1" '+%Y-%m-%d %H:%M:%SZ' 2>/dev/null || printf %s "$1"; }

size_of() { wc -c <"$1" | tr -d ' '; }

# a pause of about a tenth of a second; old busybox builds can't split seconds
nap() { sleep 0.1 2>/dev/null || sleep 1; }

# put FILE TEXT: the file is replaced as a whole or left alone
put() {
	if printf '%s\n' "$2" 2>/dev/null >"$1.tmp.$$" && [ -s "$1.tmp.$$" ] && mv -f "$1.tmp.$$" "$1" 2>/dev/null; then return 0; fi
	rm -f "$1.tmp.$$"
	return 1
}

# first_line FILE: into LINE, empty where there is none
first_line() {
	LINE=
	[ -r "$1" ] && IFS= read -r LINE <"$1"
	return 0
}

is_number() { case $1 in '' | *[!0-9]*) return 1 ;; esac; }

is_sha() { case $1 in *[!0-9a-f]*) return 1 ;; esac; [ ${#1} -eq 40 ]; }

# a hook's name as one word
word() {
	case $1 in
	*[%[:space:]]*) printf %s "$1" | sed 's/%/%25/g; s/[[:space:]]/%20/g' ;;
	*) printf %s "${1:--}" ;;
	esac
}

# started PID: start time of a process in ticks since boot (field 22); nothing if it is gone or a zombie
started() {
	[ -r "/proc/$1/stat" ] || return 0
	st=
	{ IFS= read -r st <"/proc/$1/stat"; } 2>/dev/null
	set -- ${st##*) }
	[ $# -ge 20 ] && [ "$1" != Z ] && printf %s "${20}"
	return 0
}

# alive PID START BOOT: is it still that process?
alive() { [ -n "${2:-}" ] && [ "${3:-}" = "$BOOT" ] && [ "$(started "$1")" = "$2" ]; }

# end_group PGID: TERM, 10 s later KILL; returns when the group is gone. One that is still to be made, by a process of that
# number on its way to setsid, is waited for.
end_group() {
	eg_until=$(($(now) + 10)) eg_told=
	while :; do
		if kill -0 "-$1" 2>/dev/null; then
			if [ -z "$eg_told" ]; then kill -TERM "-$1" 2>/dev/null && eg_told=1; fi
		elif [ -z "$(started "$1")" ]; then
			return 0
		fi
		if [ "$(now)" -ge "$eg_until" ]; then
			kill -KILL "-$1" 2>/dev/null || kill -KILL "$1" 2>/dev/null
			return 0
		fi
		nap
	done
}

# let_go READER: what a hook's background children still print has a reader, so that it ends none of them, and no log
let_go() {
	{ setsid cat <&6 >/dev/null 2>&1 6<&- & } 2>/dev/null 6<"/proc/$1/fd/0" || return 0
	kill "$1" 2>/dev/null
}

# pipe NAME: a pipe, 3 its end to write and 4 its end to read. Made by way of a fifo, open before anybody is forked who could wait for it.
pipe() {
	rm -f "$1"
	mkfifo -m 622 "$1" || return 1
	exec 5<>"$1" 4<"$1" 3>"$1" 5>&-
	rm -f "$1"
}

