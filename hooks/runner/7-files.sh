# ---- files of the revision, copied to their places
#
# They are put beside their places first, under names of their own, with owner and mode; then they are renamed into place one
# by one. What was there before lies beside it until all is done: an install that fails, or loses its runner, is undone.
# $A/install holds, a line each
#   plan      a file: what is in its place now (O our file, T theirs, D our folder, - nothing), its place, its source, the
#             names of the new one and of the old one beside
#   gone      a file of the former revision that this one lacks: B if it is in the way of a folder, else -; its place, its
#             name beside
#   late      a folder that can be made only once such a file is out of its way
#   unmade    a folder of the former revision in whose place a file comes: its mode, its owner, its path
#   modes     the same of folders whose permissions change
#   made      a folder that was made for it
#   before    what was current; manifest-before, the manifest
#   phase     `switching` while renames are under way, `done` at the end
# $B/manifest lists the files and folders that are ours, folders with a slash at the end.

# keep FILE: standard input into it; cat says so where the disk is full, which not every awk does
keep() { cat >"$1"; }

# move FROM TO: busybox's mv takes a link to a folder for that folder
move() { mv -fT "$1" "$2" 2>/dev/null || { [ -L "$2" ] && rm -f "$2" && mv -fT "$1" "$2" 2>/dev/null; }; }

# wanted: all files that the appspec names, `destination TAB source` a line; the last source of a destination counts
wanted() {
	IFS=$NL
	for entry in $D_FILES; do
		unset IFS
		src=${entry%%"$TAB"*} dst=${entry#*"$TAB"}
		if [ -d "$NEW/$src" ]; then
			(cd "$NEW/$src" && find . ! -type d) | SRC=$src DST=${dst%/} awk '
				{ sub(/^\.\//, "") }
				ENVIRON["SRC"] == "" && ($0 == ".complete" || $0 == ".drover-hooks") { next }
				{ print ENVIRON["DST"] "/" $0 "\t" (ENVIRON["SRC"] == "" ? "" : ENVIRON["SRC"] "/") $0 }'
		else
			printf '%s/%s\t%s\n' "${dst%/}" "${src##*/}" "$src"
		fi
	done | awk -F '\t' '{ from[$1] = $2 } END { for (to in from) print to "\t" from[to] }' | sort
}

# folders: all folders that the appspec names, those above first
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
}

# make_folder PATH: with those above it; what was made is noted first
make_folder() {
	if [ -z "$1" ] || [ -d "$1" ]; then return; fi
	make_folder "${1%/*}" && printf '%s\n' "$1" >>"$I/made" && mkdir "$1" 2>/dev/null || {
		remark "can't make the folder $1: no permission, no space, or a file is in its place"
		return 1
	}
}

# codedeploys FILES: the one of that name where CodeDeploy's agent keeps its books, into FOUND; several applications of one
# host can't be told apart
codedeploys() {
	books=${DROVER_ROOT:-}/opt/codedeploy-agent/deployment-root/deployment-instructions
	FOUND=$(ls -1 "$books" 2>/dev/null | sed -n "/$1\$/p")
	case $FOUND in
	'') return 1 ;;
	*"$NL"*)
		remark "several deployment groups of CodeDeploy were at this host ($books): nothing of theirs is taken over"
		return 1
		;;
	esac
	FOUND=$books/$FOUND
}

# codedeploys_archive: the revision that CodeDeploy installed last, into RELEASE; by its appspec it is the adopted one
codedeploys_archive() {
	codedeploys _last_successful_install || return 1
	first_line "$FOUND"
	RELEASE=${LINE%/}/deployment-archive
	for name in appspec.yml appspec.yaml; do
		[ -f "$RELEASE/$name" ] || continue
		sum=$(sha256sum <"$RELEASE/$name")
		if [ "${sum%% *}" = "$D_FORMER_APPSPEC" ]; then return 0; fi
	done
	remark "what CodeDeploy installed last ($RELEASE) has not the appspec of $D_FORMER_SHA: nothing of it is taken over"
	return 1
}

# take_over: without a manifest of ours; what CodeDeploy would clean up is ours now
take_over() {
	if [ -z "$ADOPTED" ] || ! codedeploys_archive || ! codedeploys -cleanup; then
		: >"$B/manifest"
		return
	fi
	while IFS= read -r ours; do
		case $ours in
		/*) if [ -d "$ours" ] && [ ! -L "$ours" ]; then printf '%s/\n' "${ours%/}"; else printf '%s\n' "$ours"; fi ;;
		esac
	done <"$FOUND" | sort -u | keep "$B/.manifest" && mv -fT "$B/.manifest" "$B/manifest" || return 1
	remark "$(grep -c '' "$B/manifest") files and folders that CodeDeploy has installed are taken over"
}

# prepare_files: everything beside its place; nothing is changed yet
prepare_files() {
	I=$A/install
	rm -rf "$I"
	mkdir "$I" && : >"$I/made" && : >"$I/plan" && : >"$I/unmade" && : >"$I/modes" && cp "$B/manifest" "$I/manifest-before" &&
		{ readlink "$B/current" || :; } | keep "$I/before" &&
		wanted | keep "$I/wanted" && folders | keep "$I/folders" && list_gone && list_late || return 1
	awk -F '\t' 'FILENAME == ARGV[1] { late[$1] = 1; next } !late[$1]' "$I/late" "$I/folders" | keep "$I/early" || return 1
	while IFS= read -r folder; do make_folder "$folder" || return 1; done <"$I/early"
	plan_files && copy_files && permit file || return 1
	if [ -n "$D_PERMISSIONS" ]; then note_folders "$I/folders" modes || return 1; fi
	{ cut -f 2 "$I/plan" && awk '{ print $0 "/" }' "$I/made" "$I/late"; } | sort -u | keep "$I/manifest" || return 1
	# folders of former revisions are ours until they are empty
	awk 'FILENAME == ARGV[1] { new[$0] = 1; next } FILENAME == ARGV[2] { sub(/^[^ ]* [^ ]* /, ""); new[$0 "/"] = 1; next }
		/\/$/ && !new[$0]' "$I/manifest" "$I/unmade" "$B/manifest" | keep "$I/folders-kept" && cat "$I/folders-kept" >>"$I/manifest"
}

# list_gone: files of the former revision that are there, and that this one lacks
list_gone() {
	awk -F '\t' 'FILENAME == ARGV[1] { new[$1] = 1; next } $0 !~ /\/$/ && !new[$0]' "$I/wanted" "$B/manifest" | keep "$I/lacking" || return 1
	while IFS= read -r dst; do
		if [ ! -L "$dst" ] && { [ ! -e "$dst" ] || [ -d "$dst" ]; }; then continue; fi
		printf '%s\n' "$dst"
	done <"$I/lacking" | keep "$I/leaving" || return 1
	# where a file comes in the place of its folder, it lies outside of that meanwhile
	awk -F '\t' '
		FILENAME == ARGV[1] { n = split($1, part, "/"); path = ""; for (i = 2; i <= n; i++) { path = path "/" part[i]; above[path] = 1 }; next }
		FILENAME == ARGV[2] { file[$1] = 1; next }
		{
			n = split($0, part, "/"); path = ""
			for (i = 2; i < n; i++) { if ((path "/" part[i]) in file) break; path = path "/" part[i] }
			print (above[$0] || i < n ? "B" : "-") "\t" $0 "\t" path "/.drover-gone-" NUMBER "-" FNR
		}' "$I/folders" "$I/wanted" NUMBER="$N" "$I/leaving" | keep "$I/gone"
}

# list_late: folders in whose place, or above it, lies a file that goes
list_late() {
	awk -F '\t' '
		FILENAME == ARGV[1] { if ($1 == "B") gone[$2] = 1; next }
		{ n = split($0, part, "/"); path = ""; for (i = 2; i <= n; i++) { path = path "/" part[i]; if (path in gone) { print; next } } }' \
		"$I/gone" "$I/folders" | keep "$I/late"
}

# plan_files: what is in each place now, and whether it may be replaced; where the new and the old file lie meanwhile: beside
# the place, or where its folder can't be made yet, beside the file that goes
plan_files() {
	awk -F '\t' '
		FILENAME == ARGV[1] { ours[$1] = 1; next }
		FILENAME == ARGV[2] { if ($1 == "B") gone[$2] = 1; next }
		{
			n = split($1, part, "/"); path = ""; kind = ours[$1] ? "O" : ours[$1 "/"] ? "D" : "T"
			for (i = 2; i < n; i++) { if ((path "/" part[i]) in gone) { kind = "-"; break } path = path "/" part[i] }
			print kind "\t" $0 "\t" path "/.drover-new-" NUMBER "-" FNR "\t" path "/.drover-old-" NUMBER "-" FNR
		}' "$B/manifest" "$I/gone" NUMBER="$N" "$I/wanted" | keep "$I/known" || return 1
	while IFS=$TAB read -r owner dst src new old; do
		if [ "$owner" != - ] && [ ! -e "$dst" ] && [ ! -L "$dst" ]; then
			owner=-
		elif [ "$owner" != - ] && [ -d "$dst" ] && [ ! -L "$dst" ]; then
			if [ "$owner" != D ]; then
				remark "$dst is a folder that no former revision brought, and the revision has a file of that name"
				CODE=1
				return 1
			fi
		elif [ "$owner" = T ] || [ "$owner" = D ]; then
			owner=T
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
		printf '%s\t%s\t%s\t%s\t%s\n' "$owner" "$dst" "$src" "$new" "$old" >>"$I/plan" || return 1
	done <"$I/known"
	awk -F '\t' '
		FILENAME == ARGV[1] { if ($1 == "D") file[$2] = 1; next }
		/\/$/ { sub(/\/$/, ""); n = split($0, part, "/"); path = ""
			for (i = 2; i <= n; i++) { path = path "/" part[i]; if (path in file) { print; next } } }' \
		"$I/plan" "$B/manifest" | sort | keep "$I/replaced" && note_folders "$I/replaced" unmade
}

# note_folders LIST NAME: mode and owner of the folders of a list that are there, into $I/NAME
note_folders() {
	while IFS= read -r folder; do
		if [ ! -d "$folder" ] || [ -L "$folder" ]; then continue; fi
		owner=$(stat -c '%a %u:%g' "$folder") && printf '%s %s\n' "$owner" "$folder" >>"$I/$2" || return 1
	done <"$1"
}

copy_files() {
	while IFS=$TAB read -r owner dst src new old; do
		rm -f "$new"
		cp -pP "$NEW/$src" "$new" 2>/dev/null || {
			remark "can't copy $src to $dst: no space left, or no permission"
			return 1
		}
		case $owner in - | D) continue ;; esac
		rm -f "$old"
		{ [ ! -L "$dst" ] && ln "$dst" "$old" 2>/dev/null; } || cp -pP "$dst" "$old" 2>/dev/null || {
			remark "can't keep $dst beside its place: no space left, or no permission"
			return 1
		}
	done <"$I/plan"
}

# switch_files: renames, one by one
switch_files() {
	put "$I/phase" switching && take_away B || return 1
	# the deepest first
	sort -r -k 3 "$I/unmade" | keep "$I/going" || return 1
	while read -r _ _ folder; do
		rmdir "$folder" 2>/dev/null || {
			remark "a file comes in the place of the folder $folder, which has something in it that no former revision brought"
			CODE=1
			return 1
		}
	done <"$I/going"
	while IFS= read -r folder; do make_folder "$folder" || return 1; done <"$I/late"
	while IFS=$TAB read -r owner dst src new old; do
		move "$new" "$dst" || {
			remark "can't put $dst in its place: no space left, or no permission"
			return 1
		}
	done <"$I/plan"
	permit directory && take_away -
}

# take_away KIND: files of the former revision
take_away() {
	while IFS=$TAB read -r kind dst beside; do
		if [ "$kind" != "$1" ]; then continue; fi
		move "$dst" "$beside" || {
			remark "can't remove $dst, which the former revision brought: no permission"
			return 1
		}
	done <"$I/gone"
}

# settle_files: all is in place; what lay beside it goes, and folders of the former revision that are empty now
settle_files() {
	cp "$I/manifest" "$B/.manifest" && mv -fT "$B/.manifest" "$B/manifest" && put "$I/phase" "done" || return 1
	remark "$(grep -c -v '/$' "$B/manifest") files are in their places, $(grep -c '' "$I/gone") of the former revision are gone"
	settle_rest
}

# settle_rest: may be repeated
settle_rest() {
	clear_beside
	sort -r "$B/manifest" | while IFS= read -r folder; do
		case $folder in */) rmdir "$folder" 2>/dev/null ;; esac
	done
	while IFS= read -r ours; do
		case $ours in */) if [ ! -d "$ours" ]; then continue; fi ;; esac
		printf '%s\n' "$ours"
	done <"$B/manifest" | keep "$B/.manifest" && mv -fT "$B/.manifest" "$B/manifest"
	forget_install
}

# forget_install: without its phase an install asks for nothing any more
forget_install() {
	rm -f "$I/phase"
	rm -rf "$I"
}

# clear_beside: what lies beside the places
clear_beside() {
	if [ -f "$I/plan" ]; then
		while IFS=$TAB read -r owner dst src new old; do rm -f "$new" "$old"; done <"$I/plan"
	fi
	if [ -f "$I/gone" ]; then
		while IFS=$TAB read -r kind dst beside; do rm -f "$beside"; done <"$I/gone"
	fi
}

# undo_files FOLDER: as it was before that install; may be repeated. Fails where something can't be put back.
undo_files() {
	I=$1
	[ -d "$I" ] || return 0
	first_line "$I/phase"
	case $LINE in
	done)
		settle_rest
		return 0
		;;
	switching)
		if ! put_back; then
			remark "an install could not be undone in full: what was there before lies beside its place, as .drover-old-… or .drover-gone-… ($I)"
			return 1
		fi
		remark "the install was undone: the files are as they were"
		;;
	esac
	clear_beside
	remove_made
	forget_install
}

# undo_left: what a former attempt could not undo, its disk being full; nothing new before it is
undo_left() {
	for left in $(ls -1 "$B/attempts" | sort -rn); do
		if [ "$left" = "$N" ]; then continue; fi
		undo_files "$B/attempts/$left/install" || return 1
	done
}

remove_made() {
	if [ -f "$I/made" ]; then sort -r "$I/made" | while IFS= read -r folder; do rmdir "$folder" 2>/dev/null; done; fi
}

# put_back: fails where something could not be
put_back() {
	failed=
	while IFS=$TAB read -r owner dst src new old; do
		case $owner in
		- | D) if [ -L "$dst" ] || [ ! -d "$dst" ]; then rm -f "$dst" || failed=1; fi ;;
		*)
			# the new one is beside still: it has not come
			if [ -e "$new" ] || [ -L "$new" ]; then continue; fi
			if [ -e "$old" ] || [ -L "$old" ]; then move "$old" "$dst" || failed=1; fi
			;;
		esac
	done <"$I/plan"
	remove_made
	while read -r mode owner folder; do
		if [ -L "$folder" ]; then rm -f "$folder"; fi
		[ -d "$folder" ] || mkdir "$folder" || failed=1
		chown "$owner" "$folder" && chmod "$mode" "$folder" || failed=1
	done <"$I/unmade"
	while IFS=$TAB read -r kind dst beside; do
		if [ -e "$beside" ] || [ -L "$beside" ]; then move "$beside" "$dst" || failed=1; fi
	done <"$I/gone"
	while read -r mode owner folder; do
		if [ -d "$folder" ]; then chown "$owner" "$folder" && chmod "$mode" "$folder" || failed=1; fi
	done <"$I/modes"
	# renamed, which wants no space
	if [ -f "$I/manifest-before" ]; then mv -fT "$I/manifest-before" "$B/manifest" || failed=1; fi
	first_line "$I/before"
	rm -f "$B/.current"
	if [ -n "$LINE" ]; then
		ln -s "$LINE" "$B/.current" && mv -fT "$B/.current" "$B/current" || failed=1
	elif [ -f "$I/before" ]; then
		rm -f "$B/current" || failed=1
	fi
	[ -z "$failed" ]
}

