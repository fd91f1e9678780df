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

