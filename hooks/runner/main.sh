# ---- the start: spec, row, verdict, attempt

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
	D_BUNDLE_FORM='' D_BUNDLE_WRAPPED='' D_PATH='' D_SECRETS='' D_FORMER_SHA='' D_FORMER_HOOKS='' D_FORMER_APPSPEC='' D_BUILD='' D_STOP_FROM='' D_STOP_FAILURE=''
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
	N=${2:-} FIRST=${3:-} NONCE=${4:-} TOKEN=${5:-} GOOD=${6:--} ZONE=${7:-}
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
	# drover was told what runs here, and has not put it here
	ADOPTED=
	if [ -n "$D_FORMER_APPSPEC" ] && [ "$GOOD" = "$D_FORMER_SHA" ] && [ ! -L "$B/current" ]; then ADOPTED=1; fi
	get_secrets
	PREVIOUS=$(readlink "$B/current" 2>/dev/null)
	PREVIOUS=${PREVIOUS##*/}
	# a later attempt finds the new release there
	if [ "$PREVIOUS" = "$D_SHA" ] && [ "$GOOD" != - ]; then PREVIOUS=$GOOD; fi
	if [ "$D_KIND" = run ] && ! is_here; then
		case " $D_EVENTS" in
		*" DownloadBundle"*) ;;
		*)
			EVENT=DownloadBundle
			run_event
			;;
		esac
	fi
	if [ "$D_KIND" = run ]; then show_archive; fi
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
			reply late 76
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
