#!/bin/sh
# drover's runner: carries out one attempt of a deployment on this host.
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
#    70  refused: a later attempt was seen here,
#        or it is past D_NOT_AFTER (unix time)   71  interrupted: the runner of this attempt died
#    72  stopped on request                      73  this host can't: disk full, tool missing, no permission
#    74  the bundle could not be had             75  busy: another attempt, or still this one, is at work
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

# ---- the attempt's log

# fresh: the newline that is missing at the log's end, into FRESH
fresh() {
	FRESH=
	if [ -s "$A/log" ] && [ "$(tail -c 1 "$A/log" | wc -l)" -eq 0 ]; then FRESH=$NL; fi
}

control() {
	fresh
	printf '%s\036drover %s %s at=%s\n' "$FRESH" "$NONCE" "$1" "$(now)" 2>/dev/null >>"$A/log" || no_space
}

remark() {
	fresh
	printf '%sdrover: %s\n' "$FRESH" "$*" 2>/dev/null >>"$A/log" || no_space
}

journal() {
	put "$A/journal" "$(cat "$A/journal" 2>/dev/null)$NL$1" || no_space
}

no_space() {
	say "no space left: could not write to $A; free some room and retry"
	FULL=1
	finish failed "$EVENT" "$HOOK" 73 73
}

# ---- results

# record STATUS EVENT HOOK EXIT CODE: ends attempt $A ($N) for good; its result line is left in RESULT
record() {
	rm -f "$A/reserve"
	r_size=0
	if [ -f "$A/log" ]; then
		r_before=$(size_of "$A/log")
		r_line="drover $NONCE finish status=$1 event=${2:--} exit=$4 at=$(now)"
		if [ -n "$NONCE" ]; then
			fresh
			printf '%s\036%s\n' "$FRESH" "$r_line" 2>/dev/null >>"$A/log" || FULL=1
		fi
		r_size=$(size_of "$A/log")
		# what a background child of a hook writes after the finish line is no part of the log
		if [ -n "$NONCE" ] && [ -z "$FULL" ] && [ "$(tail -c +$((r_size - ${#r_line} - 1)) "$A/log" | head -c $((${#r_line} + 2)) | sed "s/^.//")" != "$r_line" ]; then
			r_size=$((r_before + $(tail -c +$((r_before + 1)) "$A/log" | sed "/drover $NONCE finish /q" | wc -c)))
		fi
		r_sum=$(head -c "$r_size" "$A/log" | sha256sum)
	else
		r_sum=$(printf '' | sha256sum)
	fi
	r_current=$(readlink "$B/current" 2>/dev/null)
	r_current=${r_current##*/}
	RESULT="drover: result attempt=$N status=$1 event=${2:--} hook=$(word "$3") exit=$4 bytes=$r_size sha256=${r_sum%% *} at=$(now) current=${r_current:--}"
	put "$A/result" "$RESULT$NL$5" || FULL=1
	wake "$A"
}

# wake DIR: tells the attempt's uploader, if there is one, that the result is there
wake() {
	if [ -p "$1/wake" ]; then printf 'end\n' 1<>"$1/wake"; fi
}

# reply STATUS CODE: a result that is not recorded, since nothing was done
reply() {
	printf 'drover: result attempt=%s status=%s event=- hook=- exit=%s bytes=0 sha256=%s at=%s\n' \
		"${N:-0}" "$1" "$2" "$(printf '' | sha256sum | cut -c 1-64)" "$(now)"
	exit "${3:-$2}"
}

# finish STATUS EVENT HOOK EXIT CODE: ends the attempt of this runner
finish() {
	trap '' TERM INT HUP
	if [ "$1" = failed ] && [ -n "$TO" ]; then
		tail -c +$((FROM + 1)) "$A/log" | head -c $((TO - FROM)) | tail -n 20 | tail -c 1200 |
			tr -d '\000' | sed 's/^/drover: tail /' >"$A/tail" 2>/dev/null
	fi
	record "$1" "$2" "$3" "$4" "$5"
	if mv -T "$B/lock" "$B/.lock-$$" 2>/dev/null; then rm -rf "$B/.lock-$$"; fi
	if [ -n "$PUMP" ]; then
		if [ -f "$A/result" ]; then wait "$PUMP"; else kill "$PUMP" 2>/dev/null; fi
	fi
	show_tail
	printf '%s\n' "$RESULT"
	exit "$5"
}

show_tail() {
	if [ -s "$A/tail" ]; then
		cat "$A/tail"
		if [ "$(tail -c 1 "$A/tail" | wc -l)" -eq 0 ]; then echo; fi
	fi
}

# replay: the recorded result again, with its exit code
replay() {
	if [ "$D_KIND" != stop ] && [ "$D_LOG_FORM" = frames ] && [ -z "$PUMP" ]; then pump 0; fi
	if [ "$D_KIND" != stop ] && [ ! -f "$A/pushed" ]; then start_uploader; fi
	show_tail
	{ IFS= read -r RESULT && IFS= read -r code; } <"$A/result"
	printf '%s\n' "$RESULT"
	is_number "$code" || code=73
	exit "$code"
}

# ---- who may run: only one runner at a time decides

# interrupt: attempt $A ($N) lost its runner. What is left of its hook is ended, its result recorded.
interrupt() {
	first_line "$A/pgid"
		set -- $LINE
	if [ $# -ge 3 ] && alive "$@"; then
		say "attempt $N lost its runner, ending its hook (process group $1)"
		end_group "$1"
	fi
	first_line "$A/reader"
		set -- $LINE
	if [ $# -ge 3 ] && alive "$@"; then let_go "$1"; fi
	rm -f "$A/pgid" "$A/reader" "$A/.lost"
	undo_files
	last=$(tail -n 1 "$A/journal" 2>/dev/null)
		set -- $last
	if [ "${1:-}" = end ]; then set -- end "$2" -; fi
	record interrupted "${2:--}" "${3:--}" 71 71
}

# decide: VERDICT = run, resume, replay, follow, busy or refused; for run and resume the lock is ours
decide() {
	first_line "$B/highest"
	highest=${LINE:-0}
	first_line "$B/lock/owner"
		set -- $LINE
	owner=${1:-}
	if [ $# -ge 4 ] && alive "$2" "$3" "$4"; then
		if [ "$owner" = "$N" ]; then
			VERDICT=follow
		elif [ -f "$A/result" ] && [ "$D_KIND" = stop ]; then
			VERDICT=replay
		elif [ "$D_KIND" = stop ] && [ ! -d "$A" ]; then
			VERDICT=new
		elif [ "$N" -lt "$highest" ]; then
			VERDICT=refused
		elif [ -f "$A/result" ]; then
			VERDICT=replay
		else
			VERDICT=busy
		fi
		BUSY=$owner
		return
	fi
	if [ -n "$owner" ] && [ "$owner" != "$N" ] && [ -d "$B/attempts/$owner" ] && [ ! -f "$B/attempts/$owner/result" ]; then
		mine="$N $A $NONCE"
		N=$owner A=$B/attempts/$owner NONCE=
		interrupt
		say "attempt $N had died and is recorded as interrupted"
		N=${mine%% *} mine=${mine#* }
		A=${mine% *} NONCE=${mine##* }
		FULL=
	fi
	if [ -f "$A/result" ]; then
		if [ "$N" -lt "$highest" ] && [ "$D_KIND" != stop ]; then VERDICT=refused; else VERDICT=replay; fi
	elif [ -d "$A" ]; then
		first_line "$A/reboots"
		# an expected reboot: attempt seen, no result, and its last hook ended with 194
		case $LINE in
		*' expected') VERDICT=resume ;;
		*)
			interrupt
			VERDICT=replay
			;;
		esac
		if [ "$VERDICT" = resume ] && [ "$D_KIND" = stop ]; then
			record stopped "$(tail -n 1 "$A/journal" | cut -d ' ' -f 2)" - 194 72
			VERDICT=replay
		fi
	elif [ "$N" -lt "$highest" ] && [ "$D_KIND" != stop ]; then
		VERDICT=refused
	elif [ "$D_KIND" != stop ] && is_number "$D_NOT_AFTER" && [ "$(now)" -gt "$D_NOT_AFTER" ]; then
		VERDICT=late
	else
		VERDICT=new
	fi
	if [ -d "$B/lock" ] && [ "$VERDICT" != refused ]; then
		mv -T "$B/lock" "$B/.lock-$$" && rm -rf "$B/.lock-$$"
	fi
	if [ "$VERDICT" = resume ]; then take_lock || cannot "take the lock $B/lock"; fi
}

take_lock() {
	mkdir "$B/.lock-$$" && put "$B/.lock-$$/owner" "$N $$ $(started $$) $BOOT" && mv -T "$B/.lock-$$" "$B/lock"
}

cannot() {
	say "this host can't $1: ${2:-no space left, or no permission}"
	reply failed 73
}

# begin_attempt: the attempt becomes known on this host; in order, so that a crash in between never lets a hook run twice
begin_attempt() {
	if [ "$N" -gt "$highest" ]; then put "$B/highest" "$N" || cannot "write $B/highest"; fi
	(umask 077 && mkdir "$A") 2>/dev/null || cannot "make $A"
	if [ "$D_KIND" = stop ]; then return; fi
	take_lock 2>/dev/null || cannot "take the lock $B/lock"
	: >"$A/log" && mkfifo "$A/wake" && put "$A/journal" "start $FIRST" &&
		head -c 65536 /dev/zero 2>/dev/null >"$A/reserve" && return
	say "no space left: could not prepare $A; free some room and retry"
	EVENT=$FIRST FULL=1
	finish failed "$FIRST" - 73 73
}

top_turn() { TURN=$(ls -1A "$B" | sed -n 's/^\.turn-//p' | sort -n | tail -n 1); }

# alone FUNCTION: runs it while no other runner decides. Turns are numbered files that name their owner: the highest one
# counts, it is over when its owner is dead or has emptied it, and a number can be made only once.
alone() {
	put "$B/.turn.$$" "$$ $(started $$) $BOOT" || cannot "write to $B" "disk full, or not permitted to $ME"
	turn_until=$(($(now) + 60))
	while :; do
		top_turn
		first_line "$B/.turn-${TURN:=0}"
		set -- "$1" $LINE
		if [ $# -ge 4 ] && alive "$2" "$3" "$4"; then
			if [ "$(now)" -gt "$turn_until" ]; then cannot "decide" "process $2 has been deciding for a minute"; fi
			nap
			continue
		fi
		mine=$((TURN + 1))
		if ln "$B/.turn.$$" "$B/.turn-$mine" 2>/dev/null; then
			top_turn
			if [ "$TURN" = "$mine" ]; then break; fi
			rm -f "$B/.turn-$mine"
		fi
	done
	rm -f "$B/.turn.$$"
	for old in $(ls -1A "$B" | sed -n 's/^\.turn-//p'); do
		if [ "$old" -lt "$mine" ]; then rm -f "$B/.turn-$old"; fi
	done
	turn=$B/.turn-$mine
	"$1"
	printf '' >"$turn"
}

decide_and_take() {
	decide
	if [ "$VERDICT" = new ]; then
		begin_attempt
		VERDICT=run
	fi
}

# ---- running things

stop_asked() { first_line "$A/stop"; }

# halt_if_asked EVENT HOOK EXIT between: ends the attempt if a signal or a stop request says so
halt_if_asked() {
	if [ -n "$SIGNAL" ]; then finish interrupted "$1" "$2" "$3" 71; fi
	stop_asked
	case $LINE/$4 in
	now/* | after/events) finish stopped "$1" "$2" "$3" 72 ;;
	esac
}

# stand_by READER: once it is gone, because the log is full, what still comes is read and counted
stand_by() {
	while kill -0 "$1" 2>/dev/null; do sleep 1; done
	wc -c
}

# full KEEPER: says how much of what the hook printed is not kept
full() {
	tries=0
	while kill -0 "$1" 2>/dev/null && [ "$tries" -lt 30 ]; do
		nap
		tries=$((tries + 1))
	done
	first_line "$A/.lost"
	remark "the log is full at $D_LOG_MAX bytes: ${LINE:-some} bytes more were not kept"
}

# guarded SECONDS FUNCTION ARGS...: runs it in a process group of its own, its output into the log; its code in CODE.
# A pipe lies between, since a hook's `>/dev/stderr` would truncate a file; its reader hands over to one without a log.
guarded() {
	limit=$1
	shift
	pipe "$A/out" || no_space
	# past the log's limit the system ends this reader; another one stands by, so that the hook never notices
	(ulimit -f $((D_LOG_MAX / 512)) && exec setsid cat) <&4 >>"$A/log" 2>/dev/null 3>&- 4<&- &
	reader=$!
	(stand_by "$reader") <&4 >"$A/.lost" 2>/dev/null 3>&- 4<&- &
	keeper=$!
	("$@") </dev/null >&3 2>&1 3>&- 4<&- &
	h=$!
	exec 3>&- 4<&-
	put "$A/pgid" "$h $(started "$h") $BOOT"
	put "$A/reader" "$reader $(started "$reader") $BOOT"
	# a signal that reaches a child before it has dropped our trap is lost: no trap while it is forked
	trap - TERM
	(
		trap 'kill -KILL "$!" 2>/dev/null; exit 0' TERM
		sleep "$limit" &
		wait "$!"
		trap '' TERM
		end_group "$h"
		exit 3
	) </dev/null >/dev/null 2>&1 &
	timer=$!
	ending=
	trap 'SIGNAL=TERM; end_group "$h" & ending=$!' TERM
	# a signal that came before
	[ -z "$SIGNAL" ] || kill -s TERM $$
	wait "$h" 2>/dev/null
	CODE=$?
	trap 'SIGNAL=TERM' TERM
	if [ -n "$SIGNAL" ]; then
		[ -n "$ending" ] || { end_group "$h" & ending=$!; }
		wait "$h" 2>/dev/null
		wait "$ending"
	fi
	kill -s TERM "$timer" 2>/dev/null
	wait "$timer" 2>/dev/null
	if [ $? -eq 3 ]; then CODE=124; fi
	# all that the hook wrote has woken the reader: once that sleeps again, or is gone, the log has it
	ended=1
	while { IFS= read -r st <"/proc/$reader/stat"; } 2>/dev/null; do
		case ${st##*) } in
		S*)
			ended=
			break
			;;
		Z*) break ;;
		esac
		sleep 0.01 2>/dev/null || sleep 1
	done
	if [ "$(size_of "$A/log")" -ge $((D_LOG_MAX / 512 * 512)) ]; then
		full "$keeper"
	elif [ -n "$ended" ] && ! wait "$reader" && [ -z "$SIGNAL" ]; then
		# a reader that could not write has lost what the hook said
		no_space
	fi
	let_go "$reader"
	kill "$keeper" 2>/dev/null
	rm -f "$A/pgid" "$A/reader" "$A/.lost"
}

user_home() {
	(getent passwd "$1" || grep "^$1:" /etc/passwd) 2>/dev/null | head -n 1 | cut -d : -f 6
}

quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }

# hook_process USER SCRIPT: becomes the hook, with nothing of ours in its environment
hook_process() {
	user=$1 script=$2
	unset LC_ALL http_proxy https_proxy no_proxy HTTPS_PROXY NO_PROXY
	cd / || exit 126
	unset OLDPWD
	umask 022
	set -- sh -c 'exec "$0"' "$script"
	if [ -n "$user" ] && [ "$user" != "$ME" ]; then
		HOME=$(user_home "$user")
		HOME=${HOME:-/} USER=$user LOGNAME=$user
		export USER LOGNAME
		if setpriv --help 2>&1 | grep -q -e --init-groups; then
			set -- setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --init-groups -- "$@"
		elif su --help 2>&1 | grep -q -e --session-command; then
			set -- su -s /bin/sh "$user" --session-command "exec $(quoted "$script")"
		else
			set -- su -s /bin/sh "$user" -c "exec $(quoted "$script")"
		fi
	fi
	APPLICATION_NAME=$D_APP DEPLOYMENT_ID=$D_DEPLOYMENT DEPLOYMENT_GROUP_NAME=$D_GROUP DEPLOYMENT_GROUP_ID=$D_GROUP
	LIFECYCLE_EVENT=$EVENT BUNDLE_COMMIT=$D_SHA DROVER_ATTEMPT=$N DROVER_RELEASE=$RELEASE DROVER_APP_DIR=$B
	export APPLICATION_NAME DEPLOYMENT_ID DEPLOYMENT_GROUP_NAME DEPLOYMENT_GROUP_ID LIFECYCLE_EVENT BUNDLE_COMMIT \
		DROVER_ATTEMPT DROVER_RELEASE DROVER_APP_DIR
	IFS=$NL
	for line in $D_ENV; do
		case ${line%%=*} in
		'' | [0-9]* | *[!A-Za-z0-9_]* | UID | EUID | PPID | BASHOPTS | SHELLOPTS) ;;
		*) case $line in *=*) export "${line%%=*}=${line#*=}" ;; esac ;;
		esac
	done
	unset IFS
	# a shell's background child ignores INT and QUIT, and so would what the hook starts; busybox's env can't undo it
	trap - HUP
	if env --default-signal=INT true 2>/dev/null; then set -- env --default-signal=HUP,INT,QUIT,PIPE,TERM "$@"; fi
	exec setsid "$@"
}

# run_hook KEY SECONDS USER LOCATION: one hook of $EVENT in $RELEASE; its code in CODE
run_hook() {
	key=$1 user=$3 HOOK=$4
	if grep -q "^end $EVENT $key 0\$" "$A/journal"; then
		CODE=0
		return
	fi
	journal "begin $EVENT $(word "$HOOK") $key"
	control "begin event=$EVENT hook=$(word "$HOOK")"
	FROM=$(size_of "$A/log")
	script=$RELEASE/$HOOK
	CODE=
	case /$HOOK/ in
	*/../*)
		remark "the hook $HOOK lies outside the release"
		CODE=126
		;;
	esac
	if [ -n "$CODE" ]; then
		:
	elif [ ! -f "$script" ]; then
		remark "the hook $HOOK is missing in the revision ($script)"
		CODE=127
	elif [ ! -x "$script" ] && ! { chmod +x "$script" 2>/dev/null && remark "the hook $HOOK was not executable: made so"; }; then
		remark "the hook $HOOK is not executable ($script): chmod +x it in the repository"
		CODE=126
	elif [ -n "$user" ] && ! id -u "$user" >/dev/null 2>&1; then
		remark "runas: there is no user $user on this host"
		CODE=126
	elif [ -n "$user" ] && [ "$user" != "$ME" ] && [ "$(id -u)" -ne 0 ]; then
		remark "runas: can't become $user, the agent runs as $ME and not as root"
		CODE=126
	else
		is_number "$2" && [ "$2" -gt 0 ] || set -- "$1" 900
		guarded "$2" hook_process "$user" "$script"
		if [ "$CODE" -eq 124 ]; then remark "the hook $HOOK was ended after its time-out of $2 s"; fi
	fi
	TO=$(size_of "$A/log")
	control "end event=$EVENT hook=$(word "$HOOK") exit=$CODE"
	journal "end $EVENT $key $CODE"
	if [ "$CODE" -eq 194 ] && [ -z "$SIGNAL" ]; then reboot_wanted; fi
}

reboot_wanted() {
	first_line "$A/reboots"
		set -- $LINE
	if [ "${1:-}" = "$EVENT/$key" ]; then times=$(($2 + 1)); else times=1; fi
	if [ "$times" -gt 3 ]; then
		remark "the hook $HOOK asks for a reboot for the fourth time: given up"
		return
	fi
	put "$A/reboots" "$EVENT/$key $times expected" || no_space
	if [ -n "$PUMP" ]; then kill "$PUMP" 2>/dev/null; fi
	say "the hook $HOOK of $EVENT asks for a reboot ($times of 3)"
	exit 194
}

# run_hooks ORIGIN TABLE: all hooks of $EVENT in a table; stops at the first that fails
run_hooks() {
	origin=$1 count=0 CODE=0
	IFS=$NL
	for entry in $2; do
		unset IFS
		case $entry in "$EVENT|"*) ;; *) continue ;; esac
		rest=${entry#*|}
		seconds=${rest%%|*} rest=${rest#*|}
		count=$((count + 1))
		if [ "$count" -gt 1 ]; then halt_if_asked "$EVENT" "$HOOK" "$CODE" hooks; fi
		run_hook "$origin$count" "$seconds" "${rest%%|*}" "${rest#*|}"
		if [ "$CODE" -ne 0 ]; then break; fi
	done
	unset IFS
}

run_event() {
	HOOK=- TO=
	case $EVENT in
	DownloadBundle) download ;;
	Install) install ;;
	ApplicationStop | BeforeBlockTraffic | AfterBlockTraffic)
		if [ -f "$B/current/.drover-hooks" ]; then
			RELEASE=$B/$(readlink "$B/current")
			run_hooks old "$(cat "$RELEASE/.drover-hooks")"
			if [ "$CODE" -ne 0 ] && [ "$EVENT" = ApplicationStop ] && [ "$RELEASE" != "$NEW" ]; then
				halt_if_asked "$EVENT" "$HOOK" "$CODE" hooks
				case $NL$D_HOOKS in
				*"${NL}ApplicationStop|"*)
					remark "ApplicationStop of the running release failed with $CODE, trying the hooks of $D_SHA"
					RELEASE=$NEW
					run_hooks new "$D_HOOKS"
					;;
				esac
			fi
		else
			control "begin event=$EVENT hook=-"
			remark "no release is current, nothing to do"
			control "end event=$EVENT hook=- exit=0"
		fi
		;;
	*)
		RELEASE=$NEW
		run_hooks new "$D_HOOKS"
		;;
	esac
	if [ "$CODE" -ne 0 ]; then
		halt_if_asked "$EVENT" "$HOOK" "$CODE" hooks
		finish failed "$EVENT" "$HOOK" "$CODE" 1
	fi
}

# ---- built-in events

curl_bundle() {
	auth=
	if [ -n "$D_BUNDLE_AUTH" ]; then auth="header = \"Authorization: $D_BUNDLE_AUTH\""; fi
	exec setsid curl -K /proc/self/fd/8 -fsSL --connect-timeout 15 --speed-limit 1 --speed-time 60 -o "$1" 8<<-EOF
		url = "$D_BUNDLE_URL"
		$auth
	EOF
}

wget_bundle() {
	if gnu_wget; then
		wgetrc .wgetrc-bundle "$D_BUNDLE_AUTH" || exit 73
		exec setsid wget -q -t 1 -T 60 -O "$1" "$D_BUNDLE_URL"
	fi
	exec setsid wget -q ${D_BUNDLE_AUTH:+--header "Authorization: $D_BUNDLE_AUTH"} -O "$1" "$D_BUNDLE_URL"
}

# wgetrc FILE AUTHORIZATION: GNU wget reads it from a file that only we can read; busybox's has nothing but its arguments
wgetrc() {
	WGETRC=$A/$1
	export WGETRC
	umask 077
	put "$WGETRC" "${2:+header = Authorization: $2}"
}

gnu_wget() { wget --version 2>/dev/null | grep -q 'GNU Wget'; }

unpack() { exec setsid tar -xzof "$1" -C "$2" --strip-components=1; }

# fetch: the revision into releases/; CODE 0, 73 or 74
fetch() {
	CODE=73
	for left in $(ls -1A "$B/releases"); do
		case $left in .staging-*) rm -rf "$B/releases/${left:?}" ;; esac
	done
	make_room
	staging=$B/releases/.staging-$D_SHA-$$
	if ! mkdir -m 755 "$staging" 2>/dev/null; then
		remark "can't make $staging: no space left, or no permission"
		return
	fi
	get=wget_bundle
	if have curl; then get=curl_bundle; fi
	guarded 600 $get "$staging.tgz"
	if [ "$CODE" -ne 0 ]; then
		remark "the bundle of $D_SHA could not be downloaded ($get ended with $CODE)"
		CODE=74
	else
		sum=$(sha256sum <"$staging.tgz")
		if [ -n "$D_BUNDLE_SHA256" ] && [ "${sum%% *}" != "$D_BUNDLE_SHA256" ]; then
			remark "the bundle's checksum is ${sum%% *}, expected $D_BUNDLE_SHA256"
			CODE=74
		else
			guarded 600 unpack "$staging.tgz" "$staging"
			if [ "$CODE" -ne 0 ]; then
				remark "the bundle of $D_SHA could not be unpacked (tar ended with $CODE)"
				CODE=74
			elif ! { put "$staging/.drover-hooks" "$D_HOOKS" && { sync -f "$staging" 2>/dev/null || :; } &&
				put "$staging/.complete" "$D_DEPLOYMENT" && rm -rf "$NEW" && mv -T "$staging" "$NEW"; }; then
				CODE=74
			fi
		fi
	fi
	if [ "$CODE" -ne 0 ] && ! head -c 65536 /dev/zero 2>/dev/null >"$B/releases/.staging-probe"; then CODE=73; fi
	rm -rf "$staging" "$staging.tgz" "$B/releases/.staging-probe" "$A/.wgetrc-bundle"
	if [ "$CODE" -eq 73 ]; then remark "no space left in $B/releases"; fi
}

download() {
	control "begin event=DownloadBundle hook=-"
	FROM=$(size_of "$A/log")
	CODE=0
	if [ -f "$NEW/.complete" ]; then remark "$D_SHA is already here"; else fetch; fi
	TO=$(size_of "$A/log")
	control "end event=DownloadBundle hook=- exit=$CODE"
	if [ "$CODE" -eq 0 ]; then return; fi
	halt_if_asked DownloadBundle - "$CODE" hooks
	finish failed DownloadBundle - "$CODE" "$CODE"
}

install() {
	control "begin event=Install hook=-"
	FROM=$(size_of "$A/log")
	CODE=0
	if [ -z "$D_FILES$D_PERMISSIONS" ] && [ ! -s "$B/manifest" ]; then
		switch
	elif prepare_files && switch_files && switch; then
		settle_files
	else
		if [ "$CODE" -eq 0 ]; then CODE=73; fi
		undo_files
	fi
	TO=$(size_of "$A/log")
	control "end event=Install hook=- exit=$CODE"
	case $CODE in
	0) ;;
	73) finish failed Install - 73 73 ;;
	*) finish failed Install - "$CODE" 1 ;;
	esac
}

# switch: the release becomes the current one
switch() {
	rm -f "$B/.current-$$"
	if ln -s "releases/$D_SHA" "$B/.current-$$" 2>/dev/null && mv -T "$B/.current-$$" "$B/current" 2>/dev/null; then
		remark "current is $D_SHA"
	else
		remark "can't switch $B/current: no space left, or no permission"
		CODE=73
		return 1
	fi
}

# ---- files of the revision, copied to their places
#
# They are put beside their places first, under names of their own, with owner and mode; then they are renamed into place one
# by one. What was there before lies beside it until all is done: an install that fails, or loses its runner, is undone.
# $A/install holds
#   plan      a line a file: is one there (O ours, T theirs, - none), where it goes, where it comes from
#   gone      files of the former revision that this one lacks
#   made      folders that were made for it
#   before    what was current before; manifest-before, the manifest
#   phase     `switching` while renames are under way, `done` at the end
# $B/manifest lists the files and folders that are ours, folders with a slash at the end.

# beside DESTINATION KIND NUMBER: the name beside a file's place, into BESIDE
beside() { BESIDE=${1%/*}/.drover-$2-$N-$3; }

# wanted: all files that the appspec names, `destination TAB source` a line; the last source of a destination counts
wanted() {
	IFS=$NL
	for entry in $D_FILES; do
		unset IFS
		src=${entry%%"$TAB"*} dst=${entry#*"$TAB"}
		if [ -d "$NEW/$src" ]; then
			(cd "$NEW/$src" && find . ! -type d ! -path './.drover-hooks' ! -path './.complete') |
				SRC=$src DST=${dst%/} awk '{ sub(/^\.\//, ""); print ENVIRON["DST"] "/" $0 "\t" ENVIRON["SRC"] "/" $0 }'
		else
			printf '%s/%s\t%s\n' "${dst%/}" "${src##*/}" "$src"
		fi
	done | awk -F '\t' '{ from[$1] = $2 } END { for (to in from) print to "\t" from[to] }' | sort
	unset IFS
}

# folders: all folders that the appspec names
folders() {
	IFS=$NL
	for entry in $D_FILES; do
		unset IFS
		src=${entry%%"$TAB"*} dst=${entry#*"$TAB"}
		if [ -d "$NEW/$src" ]; then
			(cd "$NEW/$src" && find . -type d) | DST=${dst%/} awk '{ sub(/^\.\/?/, ""); print ENVIRON["DST"] ($0 == "" ? "" : "/" $0) }'
		else
			printf '%s\n' "${dst%/}"
		fi
	done | sort -u
	unset IFS
}

# make_folder PATH: with those above it; what was made is noted first
make_folder() {
	if [ -z "$1" ] || [ -d "$1" ]; then return; fi
	make_folder "${1%/*}" || return 1
	printf '%s\n' "$1" >>"$I/made"
	mkdir "$1" 2>/dev/null || {
		remark "can't make the folder $1: no permission, no space, or a file is in its place"
		return 1
	}
}

# prepare_files: everything beside its place; nothing is changed yet
prepare_files() {
	I=$A/install
	rm -rf "$I"
	[ -f "$B/manifest" ] || : >"$B/manifest"
	mkdir "$I" && : >"$I/made" && cp "$B/manifest" "$I/manifest-before" || return 1
	readlink "$B/current" >"$I/before"
	wanted >"$I/wanted" && folders >"$I/folders" || return 1
	while IFS= read -r folder; do make_folder "$folder" || return 1; done <"$I/folders"
	# what is ours already, what is somebody else's
	awk -F '\t' 'FILENAME == ARGV[1] { ours[$1] = 1; next } { print (ours[$1] ? "O" : "T") "\t" $0 }' "$B/manifest" "$I/wanted" >"$I/known"
	: >"$I/plan"
	while IFS=$TAB read -r owner dst src; do
		if [ ! -e "$dst" ] && [ ! -L "$dst" ]; then
			owner=-
		elif [ -d "$dst" ] && [ ! -L "$dst" ]; then
			remark "$dst is a folder, and the revision has a file of that name"
			CODE=1
			return 1
		elif [ "$owner" = T ]; then
			case $D_EXISTS in
			RETAIN)
				remark "$dst is there already and stays (file_exists_behavior: RETAIN)"
				continue
				;;
			OVERWRITE) ;;
			*)
				remark "$dst is there already, and no former revision brought it: remove it, or set file_exists_behavior to OVERWRITE or RETAIN"
				CODE=1
				return 1
				;;
			esac
		fi
		printf '%s\t%s\t%s\n' "$owner" "$dst" "$src" >>"$I/plan"
	done <"$I/known"
	awk -F '\t' 'FILENAME == ARGV[1] { new[$1] = 1; next } $0 !~ /\/$/ && !new[$0]' "$I/wanted" "$B/manifest" >"$I/gone"
	number=0
	while IFS=$TAB read -r owner dst src; do
		number=$((number + 1))
		beside "$dst" new $number
		rm -f "$BESIDE"
		cp -pP "$NEW/$src" "$BESIDE" 2>/dev/null || {
			remark "can't copy $src to $dst: no space left, or no permission"
			return 1
		}
		if [ "$owner" != - ]; then
			beside "$dst" old $number
			rm -f "$BESIDE"
			{ [ ! -L "$dst" ] && ln "$dst" "$BESIDE" 2>/dev/null; } || cp -pP "$dst" "$BESIDE" 2>/dev/null || {
				remark "can't keep $dst beside its place: no space left, or no permission"
				return 1
			}
		fi
	done <"$I/plan"
	permit || return 1
	cut -f 2 "$I/plan" >"$I/manifest" && awk '{ print $0 "/" }' "$I/made" >>"$I/manifest" &&
		awk 'FILENAME == ARGV[1] { new[$0] = 1; next } /\/$/ && !new[$0]' "$I/manifest" "$B/manifest" >"$I/folders-kept" &&
		cat "$I/folders-kept" >>"$I/manifest"
}

# switch_files: renames, one by one
switch_files() {
	put "$I/phase" switching || return 1
	number=0
	while IFS=$TAB read -r owner dst src; do
		number=$((number + 1))
		beside "$dst" new $number
		mv -fT "$BESIDE" "$dst" 2>/dev/null || {
			remark "can't put $dst in its place: no space left, or no permission"
			return 1
		}
	done <"$I/plan"
	number=0
	while IFS= read -r dst; do
		number=$((number + 1))
		if [ ! -e "$dst" ] && [ ! -L "$dst" ] || [ -d "$dst" ] && [ ! -L "$dst" ]; then continue; fi
		beside "$dst" gone $number
		mv -fT "$dst" "$BESIDE" 2>/dev/null || {
			remark "can't remove $dst, which the former revision brought: no permission"
			return 1
		}
	done <"$I/gone"
}

# settle_files: all is in place; what lay beside it goes, and folders of the former revision that are empty now
settle_files() {
	cp "$I/manifest" "$B/.manifest-$$" && mv -fT "$B/.manifest-$$" "$B/manifest" && put "$I/phase" "done" || no_space
	clear_beside old
	sort -r "$B/manifest" | while IFS= read -r folder; do
		case $folder in */) rmdir "$folder" 2>/dev/null ;; esac
	done
	remark "$(grep -c -v '/$' "$B/manifest") files are in their places, $(grep -c '' "$I/gone") of the former revision are gone"
	rm -rf "$I"
}

# clear_beside KIND: what lies beside the places
clear_beside() {
	number=0
	while IFS=$TAB read -r owner dst src; do
		number=$((number + 1))
		beside "$dst" "$1" $number
		rm -f "$BESIDE"
	done <"$I/plan"
	number=0
	while IFS= read -r dst; do
		number=$((number + 1))
		beside "$dst" gone $number
		rm -f "$BESIDE"
	done <"$I/gone"
}

# undo_files: as it was before; may be repeated
undo_files() {
	I=$A/install
	[ -d "$I" ] || return 0
	first_line "$I/phase"
	case $LINE in
	done)
		clear_beside old
		return 0
		;;
	switching)
		number=0
		while IFS=$TAB read -r owner dst src; do
			number=$((number + 1))
			beside "$dst" old $number
			if [ -e "$BESIDE" ] || [ -L "$BESIDE" ]; then
				mv -fT "$BESIDE" "$dst"
			elif [ "$owner" = - ]; then
				beside "$dst" new $number
				if [ ! -e "$BESIDE" ] && [ ! -L "$BESIDE" ]; then rm -f "$dst"; fi
			fi
		done <"$I/plan"
		number=0
		while IFS= read -r dst; do
			number=$((number + 1))
			beside "$dst" gone $number
			if [ -e "$BESIDE" ] || [ -L "$BESIDE" ]; then mv -fT "$BESIDE" "$dst"; fi
		done <"$I/gone"
		cp "$I/manifest-before" "$B/.manifest-$$" && mv -fT "$B/.manifest-$$" "$B/manifest"
		first_line "$I/before"
		rm -f "$B/.current-$$"
		if [ -n "$LINE" ]; then
			ln -s "$LINE" "$B/.current-$$" && mv -fT "$B/.current-$$" "$B/current"
		else
			rm -f "$B/current"
		fi
		remark "the install was undone: the files are as they were"
		;;
	esac
	if [ -f "$I/plan" ]; then
		[ -f "$I/gone" ] || : >"$I/gone"
		clear_beside old
		clear_beside new
	fi
	if [ -f "$I/made" ]; then sort -r "$I/made" | while IFS= read -r folder; do rmdir "$folder" 2>/dev/null; done; fi
	rm -rf "$I"
}

# permit: owner, mode, lists and label of what lies beside its place; of folders at once
permit() {
	[ -n "$D_PERMISSIONS" ] || return 0
	# every object: where it goes, where it lies now, and whether it is a file
	number=0
	while IFS=$TAB read -r owner dst src; do
		number=$((number + 1))
		beside "$dst" new $number
		printf '%s\t%s\tfile\n' "$dst" "$BESIDE"
	done <"$I/plan" >"$I/objects"
	awk '{ print $0 "\t" $0 "\tdirectory" }' "$I/folders" >>"$I/objects"
	object=
	IFS=$NL
	for line in $D_PERMISSIONS; do
		unset IFS
		value=${line#* }
		case $line in
		'object '*)
			apply || return 1
			object=$value pattern='' except='' types='' user='' group='' mode='' acls='' label=''
			;;
		'pattern '*) pattern=$value ;;
		'except '*) except=$except$value$NL ;;
		'type '*) types="$types $value" ;;
		'owner '*) user=$value ;;
		'group '*) group=$value ;;
		'mode '*) mode=$value ;;
		'acl '*) acls=$acls,$value ;;
		'context '*) label=$value ;;
		esac
		IFS=$NL
	done
	unset IFS
	apply
}

# chosen: the objects that the permission in hand is for, where they lie now
chosen() {
	while IFS=$TAB read -r dst place kind; do
		case $types in *" $kind"*) ;; *) continue ;; esac
		if [ -L "$place" ]; then continue; fi
		if [ "$dst" = "$object" ] && [ "$kind" = file ]; then
			printf '%s\n' "$place"
			continue
		fi
		case $dst in "${object%/}"/*) rel=${dst#"${object%/}"/} ;; *) continue ;; esac
		case $rel in
		*/*) if [ -n "$pattern" ]; then continue; fi ;;
		*)
			# shellcheck disable=SC2254
			if [ -n "$pattern" ]; then case $rel in $pattern) ;; *) continue ;; esac fi
			left_out "$rel" && continue
			;;
		esac
		printf '%s\n' "$place"
	done <"$I/objects"
}

left_out() {
	rel=$1
	IFS=$NL
	for glob in $except; do
		# shellcheck disable=SC2254
		case $rel in $glob)
			unset IFS
			return 0
			;;
		esac
	done
	unset IFS
	return 1
}

# each COMMAND...: with the chosen objects as last arguments
each() {
	tr '\n' '\0' <"$I/chosen" | xargs -0 "$@" >"$I/said" 2>&1 && return
	remark "permissions of $object: $1 failed: $(head -n 1 "$I/said")"
	CODE=1
	return 1
}

apply() {
	[ -n "$object" ] || return 0
	chosen >"$I/chosen"
	if [ ! -s "$I/chosen" ]; then
		remark "permissions of $object: no copied file or folder is meant by it"
		return 0
	fi
	if [ -n "$user$group" ]; then each chown -h "$user${group:+:$group}" || return 1; fi
	if [ -n "$mode" ]; then each chmod "$mode" || return 1; fi
	if [ -n "$acls" ]; then each setfacl -m "${acls#,}" || return 1; fi
	if [ -n "$label" ]; then each chcon $label || return 1; fi
}

# may_go NAME: a release that neither runs, nor is the last good one, nor the one in hand
may_go() {
	is_sha "$1" || return 1
	first_line "$B/good"
	current=$(readlink "$B/current")
	case $1 in "$LINE" | "$D_SHA" | "${current##*/}") return 1 ;; esac
}

# short_of_room: less is free than a tenth of the disk, or than three times the current release: a new one comes as an
# archive and as itself
short_of_room() {
	set -- $(df -Pk "$B/releases" 2>/dev/null | tail -n 1)
	[ $# -ge 4 ] && is_number "$2" && is_number "$4" || return 1
	if [ "$4" -lt $(($2 / 10)) ]; then return 0; fi
	room=$4
	set -- $(du -sk "$B/current/" 2>/dev/null)
	is_number "${1:-}" && [ "$room" -lt $(($1 * 3)) ]
}

# make_room: old releases go, oldest first, while there is too little of it
make_room() {
	for old in $(ls -1tr "$B/releases"); do
		short_of_room || return 0
		if may_go "$old"; then rm -rf "$B/releases/${old:?}"; fi
	done
}

# prune: old releases and attempts go; the removing itself is done by a detached process
prune() {
	kept=0
	for old in $(ls -1t "$B/releases"); do
		is_sha "$old" || continue
		kept=$((kept + 1))
		if [ "$kept" -le "$D_KEEP" ] || ! may_go "$old"; then continue; fi
		mv -T "$B/releases/$old" "$B/releases/.gone-$old-$$" 2>/dev/null
	done
	for old in $(ls -1 "$B/attempts" | sort -n -r | tail -n +51); do
		if [ -f "$B/attempts/$old/pushed" ] || [ -n "$(find "$B/attempts/$old/result" -mtime +2 2>/dev/null)" ]; then
			mv -T "$B/attempts/$old" "$B/releases/.gone-$old-$$" 2>/dev/null
		fi
	done
	set --
	for old in $(ls -1A "$B/releases"); do
		case $old in .gone-*) set -- "$@" "$B/releases/$old" ;; esac
	done
	if [ $# -gt 0 ]; then setsid rm -rf "$@" </dev/null >/dev/null 2>&1 & fi
}

# ---- the log on its way to the daemon

start_uploader() {
	if [ -z "$D_LOG_URL" ]; then return; fi
	setsid sh "$SELF" --upload "$A" >/dev/null 2>&1 <<-EOF &
		$D_LOG_URL/$N
		$TOKEN
	EOF
}

# part: $2 bytes of the log from $1 on
part() { tail -c +$(($1 + 1)) "$A/log" | head -c "$2"; }

# plain FROM BYTES: whether that part of the log is whole lines of UTF-8 without control characters
plain() {
	if [ "$(part $(($1 + $2 - 1)) 1 | wc -l)" -eq 0 ]; then return 1; fi
	if [ "$(part "$1" "$2" | tr -d '\11\12\33\36\40-\176' | wc -c)" -eq 0 ]; then return 0; fi
	have iconv && part "$1" "$2" | iconv -f UTF-8 -t UTF-8 >/dev/null 2>&1 &&
		[ "$(part "$1" "$2" | tr -d '\0-\10\13-\32\34\35\37\177' | wc -c)" -eq "$2" ]
}

# frames FROM TO OVER: that part of the log in pieces; how far it came into FRAMED; an unfinished line waits until OVER
frames() {
	FRAMED=$1
	while [ "$FRAMED" -lt "$2" ]; do
		bytes=$(($2 - FRAMED))
		if [ "$bytes" -gt 65536 ]; then bytes=65536; fi
		if [ "$(part $((FRAMED + bytes - 1)) 1 | wc -l)" -eq 0 ]; then
			rest=$(part "$FRAMED" "$bytes" | tail -n 1 | wc -c)
			if [ "$rest" -lt "$bytes" ]; then
				bytes=$((bytes - rest))
			elif [ -z "$3" ] && [ "$bytes" -lt 65536 ]; then
				return
			fi
		fi
		form=base64 code=base64
		if plain "$FRAMED" "$bytes"; then form=text code=cat; fi
		sum=-
		if have cksum; then sum=$(part "$FRAMED" "$bytes" | cksum) sum=${sum%% *}; fi
		printf '\036drover@ %s %s %s %s %s\n' "$NONCE" "$FRAMED" "$bytes" "$form" "$sum"
		part "$FRAMED" "$bytes" | "$code"
		FRAMED=$((FRAMED + bytes))
	done
}

# pump FROM: without a place to push to, the log goes to stdout
pump() {
	trap - TERM INT HUP
	sent=$1
	if [ "$D_LOG_FORM" = frames ]; then sent=0; fi
	while :; do
		over=
		if [ -f "$A/result" ]; then over=1; fi
		size=$(size_of "$A/log")
		if [ -n "$over" ]; then
			first_line "$A/result"
			size=${LINE##* bytes=} size=${size%% *}
		fi
		if [ "$size" -gt "$sent" ] && [ "$D_LOG_FORM" = frames ]; then
			frames "$sent" "$size" "$over"
			sent=$FRAMED
		elif [ "$size" -gt "$sent" ]; then
			part "$sent" $((size - sent))
			sent=$size
		fi
		if [ -n "$over" ]; then return; fi
		nap
	done
}

# http METHOD SUFFIX FILE SECONDS: status into STATUS (000: no answer), first line of the answer into LINE
http() {
	: >"$A/.answer"
	if have curl; then
		if [ -n "$3" ]; then set -- "$1" "$2" "$3" "$4" --data-binary "@$3" -H 'Content-Type: application/octet-stream'; fi
		method=$1 suffix=$2 seconds=$4
		shift 4
		STATUS=$(curl -K /proc/self/fd/8 -sS -X "$method" -o "$A/.answer" -w '%{http_code}' -H 'Expect:' --connect-timeout 5 -m "$seconds" "$@" "$URL$suffix" 2>/dev/null 8<<-EOF
			header = "Authorization: Bearer $TOKEN"
		EOF
		)
	elif gnu_wget; then
		STATUS=$(
			wgetrc .wgetrc "Bearer $TOKEN"
			wget -nv -S -t 1 -T "$4" -O "$A/.answer" ${3:+--post-file="$3"} "$URL$2" 2>&1
		)
		STATUS=$(printf '%s\n' "$STATUS" | sed -n 's/.*HTTP\/[0-9.]* \([0-9][0-9][0-9]\).*/\1/p' | tail -n 1)
	else
		# its -T crashes in some static builds
		STATUS=$(timeout "$4" wget -q -O "$A/.answer" --header "Authorization: Bearer $TOKEN" ${3:+--post-file "$3"} "$URL$2" 2>&1 && echo 'HTTP/1.1 200 OK')
		STATUS=$(printf '%s\n' "$STATUS" | sed -n 's/.*HTTP\/[0-9.]* \([0-9][0-9][0-9]\).*/\1/p' | tail -n 1)
	fi
	STATUS=${STATUS:-000}
	first_line "$A/.answer"
	case $STATUS in
	401 | 403 | 404 | 410)
		put "$A/pushed" "given up: $STATUS"
		exit 0
		;;
	esac
}

# ask: the offset that the daemon wants next, into OFFSET
ask() {
	http GET '' '' 20
	if [ "$STATUS" = 200 ] && is_number "$LINE"; then OFFSET=$LINE; else return 1; fi
}

# send SIZE: what is missing up to SIZE, in pieces
send() {
	while [ "$OFFSET" -lt "$1" ]; do
		piece=$(($1 - OFFSET))
		if [ "$piece" -gt 4194304 ]; then piece=4194304; fi
		# without room on the disk the piece can't be made: tried again later
		tail -c +$((OFFSET + 1)) "$A/log" | head -c "$piece" | if have curl || gnu_wget; then cat; else tr '\000' '?'; fi >"$A/.piece" 2>/dev/null
		http "$PUT" "?offset=$OFFSET" "$A/.piece" 120
		if [ "$STATUS" != 200 ] || ! is_number "$LINE" || [ "$LINE" -eq "$OFFSET" ]; then return 1; fi
		OFFSET=$LINE
	done
}

# deliver_end: all that is missing, then the result; leaves the process when the daemon has it
deliver_end() {
	first_line "$A/result"
	size=${LINE##* bytes=} size=${size%% *}
	sum=${LINE##* sha256=} sum=${sum%% *}
	printf '%s\n' "$LINE" >"$A/.end"
	send "$size" || return 1
	http POST "/end?size=$size&sha256=$sum" "$A/.end" 60
	if [ "$STATUS" != 200 ]; then return 1; fi
	put "$A/pushed" complete
	rm -f "$A/.piece" "$A/.answer" "$A/.end" "$A/.code" "$A/.wgetrc" "$A/uploader"
	exit 0
}

# later SECONDS MESSAGE
later() { (sleep "$1"; printf '%s\n' "$2" >&7) & }

# await SECONDS: until then, or until the attempt ends
await() {
	later "$1" woken
	while IFS= read -r message <&7; do
		case $message in woken | end) return ;; esac
	done
}

# stream: one request that follows the log from OFFSET on; ends with the connection, or with the attempt
stream() {
	rm -f "$A/.code"
	pipe "$A/.pipe" || return 1
	from=$OFFSET
	: >"$A/.answer"
	tail -c +$((from + 1)) -f "$A/log" 2>/dev/null >&3 3>&- 4<&- 7>&- &
	tail_pid=$!
	(
		exec 3>&-
		client=
		trap 'kill "$client" 2>/dev/null' TERM
		curl -K /proc/self/fd/8 -sS -T - -o "$A/.answer" -w '%{http_code}' -H 'Expect:' -H 'Content-Type: application/octet-stream' \
			--connect-timeout 5 "$URL?offset=$from" 2>/dev/null >"$A/.code" <&4 4<&- 7>&- 8<<-EOF &
			header = "Authorization: Bearer $TOKEN"
		EOF
		client=$!
		exec 4<&-
		wait "$client"
		printf 'closed\n' >&7
	) &
	sender=$!
	exec 3>&- 4<&-
	over= before=$from
	if [ -f "$A/result" ]; then printf 'end\n' >&7; fi
	while IFS= read -r message <&7; do
		case $message in
		end)
			if [ -z "$over" ] && [ -f "$A/result" ]; then
				over=1
				kill "$tail_pid" 2>/dev/null
				later 3 late
			fi
			;;
		late) if [ -n "$over" ]; then kill "$sender" 2>/dev/null; fi ;;
		tick)
			if [ ! -d "$A" ]; then
				kill "$tail_pid" "$sender" 2>/dev/null
				exit 0
			fi
			if [ -f "$A/result" ]; then
				printf 'end\n' >&7
				continue
			fi
			# a dead connection shows only when a write fails: see whether the bytes of the last tick arrived
			size=$(size_of "$A/log")
			if [ "$size" -gt "$VERIFIED" ] && ask; then
				VERIFIED=$OFFSET
				if [ "$OFFSET" -lt "$before" ]; then
					if [ "$OFFSET" -le "$from" ]; then STUCK=$((STUCK + 1)); fi
					kill "$tail_pid" "$sender" 2>/dev/null
				else
					STUCK=0
				fi
			fi
			before=$size
			;;
		closed) break ;;
		esac
	done
	kill "$tail_pid" 2>/dev/null
	wait "$tail_pid" "$sender" 2>/dev/null
	first_line "$A/.code"
	STATUS=${LINE:-000}
	first_line "$A/.answer"
	OFFSET=$LINE
	[ "$STATUS" = 200 ] && is_number "$OFFSET"
}

# upload DIR: a process of its own that outlives the runner; address and token come on stdin
upload() {
	A=$1
	IFS= read -r URL
	IFS= read -r TOKEN
	exec </dev/null
	umask 077
	first_line "$A/uploader"
	set -- "$A" $LINE
	if [ $# -ge 4 ] && alive "$2" "$3" "$4"; then exit 0; fi
	put "$A/uploader" "$$ $(started $$) $BOOT"
	[ -p "$A/wake" ] || mkfifo "$A/wake" || exit 0
	exec 7<>"$A/wake"
	(while sleep 5 7>&- && kill -0 $$ 2>/dev/null; do printf 'tick\n' >&7; done) &
	PUT=PUT
	have curl || PUT=POST
	pause=0 VERIFIED=0 STUCK=0 OFFSET=
	until=$(($(now) + 86400))
	while :; do
		if [ ! -f "$A/result" ]; then
			first_line "$B_LOCK"
						set -- $LINE
			if [ "${1:-}" = "${A##*/}" ] && alive "$2" "$3" "$4"; then until=$(($(now) + 86400)); fi
		fi
		if [ ! -d "$A" ] || [ "$(now)" -gt "$until" ]; then exit 0; fi
		if is_number "$OFFSET" || ask; then
			if [ -f "$A/result" ]; then
				deliver_end
			elif have curl && [ "$STUCK" -lt 2 ]; then
				if stream; then
					pause=0
					continue
				fi
			elif send "$(size_of "$A/log")"; then
				pause=0
				await 1
				continue
			fi
		fi
		OFFSET=
		case $pause in 0) pause=0.5 ;; 0.5) pause=1 ;; 1) pause=2 ;; *) pause=5 ;; esac
		await $pause
	done
}

# ---- start

have() { command -v "$1" >/dev/null 2>&1; }

bad_spec() {
	say "bad spec: $1"
	reply failed 64
}

read_spec() {
	SPEC=$1
	[ -f "$SPEC" ] || bad_spec "the first argument is to name the spec's file, '$SPEC' is none"
	case $SPEC in /*) ;; *) SPEC=./$SPEC ;; esac
	[ -r "$SPEC" ] || bad_spec "can't read $SPEC as $ME"
	if ! (. "$SPEC") >/dev/null 2>&1; then
		rm -f "$SPEC"
		bad_spec "it is not a list of shell assignments"
	fi
	D_SPEC='' D_KIND='' D_APP='' D_GROUP='' D_DEPLOYMENT='' D_SHA='' D_BUNDLE_URL='' D_BUNDLE_SHA256='' D_BUNDLE_AUTH='' D_LOG_URL='' D_LOG_FORM=''
	D_KEEP='' D_EVENTS='' D_HOOKS='' D_ENV='' D_STOP_MODE='' D_INSTANCES='' D_NOT_AFTER='' D_LOG_MAX='' D_FILES='' D_EXISTS='' D_PERMISSIONS=''
		. "$SPEC"
	rm -f "$SPEC"
	[ "$D_SPEC" = 1 ] || bad_spec "D_SPEC is '$D_SPEC', this runner reads 1"
	case $D_APP in '' | .* | *[!A-Za-z0-9._-]*) bad_spec "D_APP is '$D_APP'" ;; esac
	case $D_KIND in
	run | stage)
		is_sha "$D_SHA" || bad_spec "D_SHA is '$D_SHA', not a full commit SHA"
		is_number "${D_LOG_MAX:=268435456}" || bad_spec "D_LOG_MAX is '$D_LOG_MAX', not a number"
		is_number "$D_KEEP" || bad_spec "D_KEEP is '$D_KEEP', not a number"
		[ -n "$D_EVENTS" ] || bad_spec "D_EVENTS is empty"
		;;
	stop) case $D_STOP_MODE in now | after) ;; *) bad_spec "D_STOP_MODE is '$D_STOP_MODE', not now or after" ;; esac ;;
	*) bad_spec "D_KIND is '$D_KIND', not stage, run or stop" ;;
	esac
}

# pick_row: the row of this instance, else the row *
pick_row() {
	row=
	IFS=$NL
	for line in $D_INSTANCES; do
		case $line in
		"${AWS_SSM_INSTANCE_ID:-?} "*)
			row=$line
			break
			;;
		'* '*) row=${row:-$line} ;;
		esac
	done
	unset IFS
	if [ -z "$row" ]; then
		say "the spec has no row for this instance (${AWS_SSM_INSTANCE_ID:-AWS_SSM_INSTANCE_ID is not set})"
		reply failed 66
	fi
		set -- $row
	N=${2:-} FIRST=${3:-} NONCE=${4:-} TOKEN=${5:-} GOOD=${6:--}
	if ! is_number "$N"; then
		N=0
		bad_spec "this instance's attempt is not a number: $2"
	fi
	case $NONCE in '' | *[!A-Za-z0-9_-]*) bad_spec "this instance's nonce is not a word" ;; esac
	if [ "$D_KIND" = stop ]; then return; fi
	case " $D_EVENTS " in *" $FIRST "*) ;; *) bad_spec "the first event $FIRST is not among D_EVENTS" ;; esac
}

need_tools() {
	for tool in setsid tar gzip sha256sum tail head mkfifo; do
		have $tool || cannot "run attempts" "$tool is missing, install it"
	done
	have curl || have wget || cannot "run attempts" "curl and wget are both missing, install one"
}

stop_attempt() {
	if [ "$VERDICT" = run ]; then
		NONCE=
		record stopped - - 0 72
		VERDICT=replay
	fi
	if [ "$VERDICT" = replay ]; then replay; fi
	if [ "$VERDICT" != follow ]; then reply "$VERDICT" 75; fi
	put "$A/stop" "$D_STOP_MODE" || cannot "write $A/stop"
	if [ "$D_STOP_MODE" = after ]; then
		say "attempt $N ends after the event in work"
		reply busy 0
	fi
	begun=$(now) termed=
	while [ $(($(now) - begun)) -lt 30 ]; do
		if [ -f "$A/result" ]; then replay; fi
		first_line "$A/pgid"
				set -- $LINE
		if [ $# -ge 3 ] && [ "$termed" != "$1" ] && alive "$@" && kill -TERM "-$1" 2>/dev/null; then
			termed=$1
			(end_group "$1") </dev/null >/dev/null 2>&1 &
		fi
		nap
	done
	say "attempt $N has not ended within 30 s"
	reply busy 75
}

# follow: another runner has this very attempt in hand
follow() {
	while :; do
		if [ -f "$A/result" ]; then replay; fi
		first_line "$B/lock/owner"
				set -- $LINE
		if [ "${1:-}" != "$N" ] || ! alive "$2" "$3" "$4"; then
			if [ -f "$A/result" ]; then replay; fi
			first_line "$A/reboots"
			case $LINE in *' expected') exit 194 ;; esac
			return
		fi
		nap
	done
}

run_attempt() {
	SIGNAL=
	trap 'SIGNAL=TERM' TERM
	trap 'SIGNAL=INT' INT
	trap '' HUP
	NEW=$B/releases/$D_SHA
	EVENT=$FIRST HOOK=-
	shown=0
	if [ "$VERDICT" = resume ]; then
		first_line "$A/reboots"
		put "$A/reboots" "${LINE% expected} continued" || no_space
		shown=$(size_of "$A/log")
	fi
	if [ -n "$D_LOG_URL" ]; then
		start_uploader
	else
		pump "$shown" &
		PUMP=$!
	fi
	if [ "$GOOD" != - ] && is_sha "$GOOD"; then put "$B/good" "$GOOD" || no_space; fi
	if [ "$D_KIND" = run ] && [ ! -f "$NEW/.complete" ]; then
		case " $D_EVENTS" in
		*" DownloadBundle"*) ;;
		*)
			EVENT=DownloadBundle
			run_event
			;;
		esac
	fi
	done_event=- reached=
	for EVENT in $D_EVENTS; do
		if [ "$EVENT" = "$FIRST" ]; then reached=1; fi
		if [ -z "$reached" ]; then continue; fi
		halt_if_asked "$done_event" - 0 events
		run_event
		done_event=$EVENT
	done
	prune
	finish succeeded "$done_event" - 0 0
}

main() {
	PUMP='' TO='' FULL='' SIGNAL='' NONCE='' N=0
	SELF=$0
	case $SELF in /*) ;; *) SELF=$PWD/$SELF ;; esac
	if [ "${1:-}" != --clean ] && [ "${1:-}" != --upload ]; then
		# start again with an environment from which nothing can leak into hooks
		spec=${1:-}
		set -- "PATH=${PATH:-$STD_PATH}" "HOME=${HOME:-/root}" "LANG=${LANG:-C.UTF-8}"
		for name in DROVER_ROOT AWS_SSM_INSTANCE_ID AWS_SSM_REGION_NAME http_proxy https_proxy no_proxy HTTPS_PROXY NO_PROXY; do
			eval "value=\${$name-}"
			if [ -n "$value" ]; then set -- "$@" "$name=$value"; fi
		done
		exec env -i "$@" sh "$SELF" --clean "$spec"
	fi
	LC_ALL=C
	export LC_ALL
	umask 022
	IFS= read -r BOOT </proc/sys/kernel/random/boot_id
	if [ "$1" = --upload ]; then
		B_LOCK=${2%/attempts/*}/lock/owner
		upload "$2"
	fi
	ME=$(id -un)
	read_spec "${2:-}"
	pick_row
	need_tools
	B=${DROVER_ROOT:-}/opt/drover/$D_APP
	A=$B/attempts/$N
	mkdir -p "$B/releases" "$B/attempts" 2>/dev/null || cannot "make $B" "disk full, or not permitted to $ME"
	while :; do
		alone decide_and_take
		if [ "$D_KIND" = stop ]; then stop_attempt; fi
		case $VERDICT in
		follow) follow ;;
		replay) replay ;;
		refused)
			say "attempt $N is older than $highest, which this host has seen"
			reply refused 70
			;;
		late)
			say "this command came too late: it was good until $(clock "$D_NOT_AFTER"), it is $(clock "$(now)") here; is this host's clock right?"
			reply refused 70
			;;
		busy)
			say "attempt $BUSY is at work"
			reply busy 75
			;;
		*) run_attempt ;;
		esac
	done
}

main "$@"
exit
