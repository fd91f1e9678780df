# ---- who may run: only one runner at a time decides
#
# What is known here decides, not what the command says: an attempt runs once, none after a later one, one at a time. Into
# VERDICT: run, resume, replay, follow, new, busy, refused or late.

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
	undo_files "$A/install"
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

