# ---- permissions of the files that were copied
#
# Files get theirs while they lie beside their places (7-files.sh), folders once all are there.

# permit file|directory: their owner, mode, lists and label
permit() {
	[ -n "$D_PERMISSIONS" ] || return 0
	# every object: where it goes, where it lies now, and whether it is a file
	case $1 in
	file) awk -F '\t' '{ print $2 "\t" $4 "\tfile" }' "$I/plan" | keep "$I/objects" && : >"$I/meant" ;;
	*) awk '{ print $0 "\t" $0 "\tdirectory" }' "$I/folders" | keep "$I/objects" ;;
	esac || return 1
	pass=$1 number=0 object=
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
	number=$((number + 1))
	chosen | keep "$I/chosen" || return 1
	if [ -s "$I/chosen" ]; then
		printf '%s\n' "$number" >>"$I/meant" || return 1
	else
		if [ "$pass" = directory ] && ! grep -qx "$number" "$I/meant"; then
			remark "permissions of $object: no copied file or folder is meant by it"
		fi
		return 0
	fi
	if [ -n "$user$group" ]; then each chown -h "$user${group:+:$group}" || return 1; fi
	if [ -n "$mode" ]; then each chmod "$mode" || return 1; fi
	if [ -n "$acls" ]; then each setfacl -m "${acls#,}" || return 1; fi
	if [ -n "$label" ]; then each chcon $label || return 1; fi
}

