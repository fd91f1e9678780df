# ---- releases: downloaded, unpacked beside, switched to, cleared away
#
# $B/releases/SHA is complete once .complete is in it, and never written to again by us; $B/current points to one.

curl_bundle() {
	auth=
	if [ -n "$D_BUNDLE_AUTH" ]; then auth="header = \"Authorization: $D_BUNDLE_AUTH\""; fi
	exec setsid curl -K /proc/self/fd/8 -fsSL --connect-timeout 15 --speed-limit 1 --speed-time 60 -C - -o "$1" \
		-w '%{http_code}\n' --stderr - >"$1.said" 8<<-EOF
		url = "$D_BUNDLE_URL"
		$auth
	EOF
}

wget_bundle() {
	if gnu_wget; then
		wgetrc .wgetrc-bundle "$D_BUNDLE_AUTH" || exit 73
		exec setsid wget -q -c -t 1 -T 60 -O "$1" "$D_BUNDLE_URL"
	fi
	exec setsid wget -q -c ${D_BUNDLE_AUTH:+--header "Authorization: $D_BUNDLE_AUTH"} -O "$1" "$D_BUNDLE_URL"
}

# wgetrc FILE AUTHORIZATION: GNU wget reads it from a file that only we can read; busybox's has nothing but its arguments
wgetrc() {
	WGETRC=$A/$1
	export WGETRC
	umask 077
	put "$WGETRC" "${2:+header = Authorization: $2}"
}

gnu_wget() { wget --version 2>/dev/null | grep -q 'GNU Wget'; }

# unpack ARCHIVE FOLDER
unpack() {
	case $D_BUNDLE_FORM in
	# 1 is a warning
	zip) exec setsid sh -c 'unzip -q -o "$1" -d "$2"; [ $? -le 1 ]' sh "$1" "$2" ;;
	tar) exec setsid tar -xof "$1" -C "$2" --strip-components="${D_BUNDLE_WRAPPED:-0}" ;;
	*) exec setsid tar -xzof "$1" -C "$2" --strip-components="${D_BUNDLE_WRAPPED:-0}" ;;
	esac
}

# bundle_is_whole FILE
bundle_is_whole() {
	sum=$(sha256sum <"$1")
	[ -z "$D_BUNDLE_SHA256" ] || [ "${sum%% *}" = "$D_BUNDLE_SHA256" ]
}

# hopeless FILE: another try would be answered the same way (404, say)
hopeless() {
	[ -f "$1.said" ] || return 1
	case $(tail -n 1 "$1.said") in
	408 | 416 | 429) return 1 ;;
	4??) return 0 ;;
	esac
	return 1
}

# get_bundle FILE: tried four times within ten minutes, each time from where the last one ended; CODE 0 or not
get_bundle() {
	get=wget_bundle pause=1 get_until=$(($(now) + 600))
	if have curl; then get=curl_bundle; fi
	while :; do
		had=0
		if [ -f "$1" ]; then had=$(size_of "$1"); fi
		guarded $((get_until - $(now))) $get "$1"
		why="$get ended with $CODE"
		if [ -s "$1.said" ]; then why="$why: $(tail -n 2 "$1.said" | tr '\n' ' ')"; fi
		if [ "$CODE" -eq 0 ]; then
			if bundle_is_whole "$1"; then break; fi
			CODE=74 why="the checksum is ${sum%% *}, expected $D_BUNDLE_SHA256"
			if [ "$had" -eq 0 ]; then pause=5; fi
			rm -f "$1"
		elif [ -f "$1" ] && [ "$(size_of "$1")" -eq "$had" ]; then
			# curl says whether it can be gone on with there
			case $get/$CODE/$(tail -n 1 "$1.said" 2>/dev/null) in
			wget*/* | */33/* | */416) rm -f "$1" ;;
			esac
		fi
		stop_asked
		if [ -n "$SIGNAL$LINE" ] || [ "$pause" -gt 4 ] || hopeless "$1" || [ $(($(now) + pause)) -ge "$get_until" ]; then break; fi
		remark "downloading the bundle of $D_SHA: $why; again in $pause s"
		sleep $pause
		pause=$((pause * 2))
	done
	rm -f "$1.said"
}

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
	if [ "$D_BUNDLE_FORM" = zip ] && ! have unzip; then
		remark "the bundle is a zip archive, and unzip is missing: install it, or have CI build a tar.gz"
		return
	fi
	get_bundle "$staging.bundle"
	if [ "$CODE" -ne 0 ]; then
		remark "the bundle of $D_SHA could not be downloaded ($why)"
		CODE=74
	else
		guarded 600 unpack "$staging.bundle" "$staging"
		if [ "$CODE" -ne 0 ]; then
			remark "the bundle of $D_SHA could not be unpacked ($D_BUNDLE_FORM, code $CODE)"
			CODE=74
		elif [ -n "$D_PATH" ] && ! { [ -d "$staging/$D_PATH" ] && mv -T "$staging/$D_PATH" "$staging.part" &&
			rm -rf "$staging" && mv -T "$staging.part" "$staging"; }; then
			remark "the bundle of $D_SHA has no folder $D_PATH, or it can't be moved"
			CODE=74
		elif ! { put "$staging/.drover-hooks" "$D_HOOKS" && { sync -f "$staging" 2>/dev/null || :; } &&
			put "$staging/.complete" "$D_DEPLOYMENT$NL$D_BUILD" &&
			{ [ ! -e "$NEW" ] || mv -T "$NEW" "$B/releases/.gone-$D_SHA-$$"; } && mv -T "$staging" "$NEW"; }; then
			CODE=74
		fi
	fi
	if [ "$CODE" -ne 0 ] && ! head -c 65536 /dev/zero 2>/dev/null >"$B/releases/.staging-probe"; then CODE=73; fi
	rm -rf "$staging" "$staging.bundle" "$B/releases/.staging-probe" "$A/.wgetrc-bundle"
	if [ "$CODE" -eq 73 ]; then remark "no space left in $B/releases"; fi
}

download() {
	control "begin event=DownloadBundle hook=-"
	FROM=$(size_of "$A/log")
	CODE=0
	if is_here; then
		remark "$D_SHA is already here"
	elif runs_here && case " $D_EVENTS " in *' Install '*) false ;; esac; then
		remark "another build of $D_SHA runs here: this one is downloaded once it is out of service"
	else
		fetch
	fi
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
	[ -f "$B/manifest" ] || take_over || CODE=73
	undo_left || CODE=73
	if [ "$CODE" -ne 0 ]; then
		remark "what a former install left can't be put in order, or $B/manifest can't be written: no space left, or no permission"
	elif [ -z "$D_FILES$D_PERMISSIONS" ] && [ ! -s "$B/manifest" ]; then
		switch
	elif ! { prepare_files && switch_files && switch && settle_files; }; then
		if [ "$CODE" -eq 0 ]; then CODE=73; fi
		undo_files "$A/install"
	fi
	TO=$(size_of "$A/log")
	control "end event=Install hook=- exit=$CODE"
	case $CODE in
	0) ;;
	73) finish failed Install - 73 73 ;;
	*) finish failed Install - "$CODE" 1 ;;
	esac
}

# show_archive: the release where CodeDeploy's agent would have it: scripts look for their files there, by their variables
show_archive() {
	root=${DROVER_ROOT:-}/opt/codedeploy-agent/deployment-root/$D_GROUP
	mkdir -p "$root/$D_DEPLOYMENT" 2>/dev/null && rm -rf "$root/$D_DEPLOYMENT/deployment-archive" &&
		ln -s "$NEW" "$root/$D_DEPLOYMENT/deployment-archive" 2>/dev/null || return 0
	# what runs may have been started from there: a link goes with its release
	for old in $(ls -1 "$root"); do
		if is_number "$old" && [ ! -e "$root/$old/deployment-archive" ]; then rm -rf "${root:?}/$old"; fi
	done
}

# is_here: the release in hand is on this host, and is this build of the commit
is_here() {
	[ -f "$NEW/.complete" ] && { IFS= read -r _ && IFS= read -r build || :; } <"$NEW/.complete" && [ "${build:-}" = "$D_BUILD" ]
}

# runs_here: another build of the same commit is the current release
runs_here() { [ -f "$NEW/.complete" ] && [ "$(readlink "$B/current")" = "releases/$D_SHA" ]; }

# switch: the release becomes the current one
switch() {
	rm -f "$B/.current"
	if ln -s "releases/$D_SHA" "$B/.current" 2>/dev/null && mv -fT "$B/.current" "$B/current" 2>/dev/null; then
		remark "current is $D_SHA"
	else
		remark "can't switch $B/current: no space left, or no permission"
		CODE=73
		return 1
	fi
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

