# ---- the attempt's log and its result
#
# An attempt is a folder, $A: its log, its journal of hooks begun and ended, and, once it is over, its result. A result is
# recorded once and repeated word for word whenever the attempt is asked for again.

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
	printf '%sdrover: %s\n' "$FRESH" "$*" 2>/dev/null >>"$A/log" || [ -n "$FULL" ] || no_space
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
	rm -f "$A/reserve" "$A/.masks" "$A/.masks.sed" "$A/.values" "$A/.said"
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
	if [ -d "$A/install" ]; then undo_files "$A/install"; fi
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

