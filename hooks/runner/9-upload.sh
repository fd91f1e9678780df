# ---- the log on its way to the daemon: pushed by a process that outlives the runner, or printed in frames

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

