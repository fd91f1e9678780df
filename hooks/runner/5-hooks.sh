# ---- hooks: in a process group of their own, with a time-out, as their user
#
# Reads $RELEASE, $EVENT and the tables of hooks; leaves the exit code in CODE.

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
	(ulimit -f $((D_LOG_MAX / 512)) && masked) <&4 >>"$A/log" 2>/dev/null 3>&- 4<&- &
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

# login USER: the environment that a login of this user has
login() {
	IFS=: read -r _ _ _ _ _ HOME SHELL <<-EOF
		$( (getent passwd "$1" || grep "^$1:" /etc/passwd) 2>/dev/null | head -n 1)
	EOF
	HOME=${HOME:-/} SHELL=${SHELL:-/bin/sh} USER=$1 LOGNAME=$1
	export HOME SHELL USER LOGNAME
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
	login "${user:-$ME}"
	if [ -n "$user" ] && [ "$user" != "$ME" ]; then
		if setpriv --help 2>&1 | grep -q -e --init-groups; then
			set -- setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --init-groups -- "$@"
		else
			# su makes SHELL the one that runs this
			how=-c
			if su --help 2>&1 | grep -q -e --session-command; then how=--session-command; fi
			set -- su -s /bin/sh "$user" "$how" "SHELL=$(quoted "$SHELL"); exec $(quoted "$script")"
		fi
	fi
	APPLICATION_NAME=$D_APP DEPLOYMENT_ID=$D_DEPLOYMENT DEPLOYMENT_GROUP_NAME=$D_GROUP DEPLOYMENT_GROUP_ID=$D_GROUP
	LIFECYCLE_EVENT=$EVENT BUNDLE_COMMIT=$D_SHA DROVER_ATTEMPT=$N DROVER_RELEASE=$RELEASE DROVER_APP_DIR=$B
	DROVER_APP=$D_APP DROVER_GROUP=$D_GROUP DROVER_SHA=$D_SHA DROVER_PREVIOUS_SHA=$PREVIOUS
	DROVER_INSTANCE_ID=${AWS_SSM_INSTANCE_ID:-} DROVER_ZONE=$ZONE
	export APPLICATION_NAME DEPLOYMENT_ID DEPLOYMENT_GROUP_NAME DEPLOYMENT_GROUP_ID LIFECYCLE_EVENT BUNDLE_COMMIT \
		DROVER_ATTEMPT DROVER_RELEASE DROVER_APP_DIR DROVER_APP DROVER_GROUP DROVER_SHA DROVER_PREVIOUS_SHA \
		DROVER_INSTANCE_ID DROVER_ZONE
	IFS=$NL
	for line in $D_ENV; do
		case ${line%%=*} in
		'' | [0-9]* | *[!A-Za-z0-9_]* | UID | EUID | PPID | BASHOPTS | SHELLOPTS) ;;
		*) case $line in *=*) export "${line%%=*}=${line#*=}" ;; esac ;;
		esac
	done
	unset IFS
	each_secret export_secret
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
	rm -f "$A/.masks" "$A/.masks.sed"
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

# run_twice WHAT TABLE: the hooks of a release that is to go; where they fail, once more
run_twice() {
	run_hooks old "$2"
	if [ "$CODE" -eq 0 ]; then return; fi
	halt_if_asked "$EVENT" "$HOOK" "$CODE" hooks
	remark "$EVENT of $1 failed with $CODE, once more"
	run_hooks old "$2"
}

# run_former: an event of the release that runs now: its hooks, where they fail once more, then those of the new one;
# D_STOP_FROM and D_STOP_FAILURE say otherwise
run_former() {
	if [ "$D_STOP_FROM" = new ]; then
		RELEASE=$NEW
		run_hooks new "$D_HOOKS"
	elif [ ! -L "$B/current" ] && [ -n "$ADOPTED" ] && codedeploys_archive; then
		remark "no release is current: the hooks of what CodeDeploy has installed"
		run_twice "what CodeDeploy has installed" "$D_FORMER_HOOKS"
	elif [ ! -L "$B/current" ]; then
		control "begin event=$EVENT hook=-"
		remark "no release is current, nothing to do"
		control "end event=$EVENT hook=- exit=0"
	elif [ ! -f "$B/current/.drover-hooks" ]; then
		remark "the release that is current, $(readlink "$B/current"), is gone: the hooks of $D_SHA stand in"
		CODE=127 RELEASE=$NEW
		if [ "$D_STOP_FAILURE" != fail ]; then run_hooks new "$D_HOOKS"; fi
	else
		RELEASE=$B/$(readlink "$B/current")
		run_twice "the running release" "$(cat "$RELEASE/.drover-hooks")"
	fi
	if [ "$CODE" -eq 0 ]; then return; fi
	halt_if_asked "$EVENT" "$HOOK" "$CODE" hooks
	case $D_STOP_FAILURE/$NL$D_HOOKS in
	ignore/*)
		remark "$EVENT failed with $CODE, which counts for nothing here (stop_failure = \"ignore\")"
		CODE=0
		;;
	fail/*) ;;
	*"$NL$EVENT|"*)
		if [ "$RELEASE" != "$NEW" ]; then
			remark "$EVENT of the running release failed with $CODE, trying the hooks of $D_SHA"
			RELEASE=$NEW
			run_hooks new "$D_HOOKS"
		fi
		;;
	esac
}

run_event() {
	HOOK=- TO=
	case $EVENT in
	DownloadBundle) download ;;
	Install) install ;;
	ApplicationStop | BeforeBlockTraffic | AfterBlockTraffic) run_former ;;
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

