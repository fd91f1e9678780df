# ---- secrets: values from Parameter Store, in the hooks' environment and nowhere else
#
# D_SECRETS names them, NAME=PARAMETER a line. The host gets the values itself, by its role and the aws command, at staging
# too: where it can't, that is known before it leaves the balancer. They are kept in shell variables; what hooks print of them
# is masked before it is written to the log. $A/.masks holds them for that meanwhile, the longest first, a line each.

# each_secret FUNCTION: calls it with each NAME and PARAMETER; stops at the first that fails
each_secret() {
	IFS=$NL
	for entry in $D_SECRETS; do
		unset IFS
		"$1" "${entry%%=*}" "${entry#*=}" || return 1
	done
	unset IFS
}

# get_secret NAME PARAMETER: into the variable SECRET_NAME; a throttled call is made again
get_secret() {
	tries=0
	while ! value=$(timeout 60 aws ssm get-parameter --name "$2" --with-decryption --query Parameter.Value --output text \
		${AWS_SSM_REGION_NAME:+--region "$AWS_SSM_REGION_NAME"} </dev/null 2>"$A/.said" && printf x); do
		tries=$((tries + 1))
		if [ "$tries" -lt 5 ] && grep -q -i -e throttl -e 'rate exceeded' "$A/.said"; then
			sleep "$tries"
			continue
		fi
		remark "the secret $1 can't be had: $(tr '\n' ' ' <"$A/.said" | sed 's/^ *//')(parameter $2; the role of this instance needs ssm:GetParameter on it)"
		return 1
	done
	# the command ends its answer with a newline
	value=${value%x}
	eval "SECRET_$1=\${value%\"\$NL\"}"
	eval "printf '%s\\n' \"\$SECRET_$1\"" >>"$A/.values" || no_space
	if [ ${#value} -lt 5 ]; then remark "the secret $1 is too short to be masked in the log"; fi
}

# get_secrets: all of them, or the attempt ends
get_secrets() {
	if [ -z "$D_SECRETS" ]; then return; fi
	if ! have aws; then
		remark "secrets can't be had: the aws command is missing on this host; install it (AWS CLI)"
		finish failed "$FIRST" - 73 73
	fi
	(umask 077 && : >"$A/.values") || no_space
	each_secret get_secret || finish failed "$FIRST" - 73 73
	awk 'length($0) > 3 { print length($0) " " $0 }' "$A/.values" | sort -rn | sed 's/^[0-9]* //' >"$A/.masks" || no_space
	rm -f "$A/.values" "$A/.said"
	# every line becomes a replacement; a value's own characters mean themselves
	sed 's/[][\\.*^$/]/\\&/g; s/.*/s\/&\/***\/g/' "$A/.masks" >"$A/.masks.sed" || no_space
}

export_secret() { eval "$1=\$SECRET_$1; export $1"; }

# masked: what comes, a line at a time, without the values; without secrets as it comes
masked() {
	if [ ! -s "$A/.masks" ]; then exec setsid cat; fi
	if sed -u -n '' </dev/null 2>/dev/null; then exec setsid sed -u -f "$A/.masks.sed"; fi
	# busybox's sed waits for more; its awk doesn't
	exec setsid awk -v masks="$A/.masks" 'BEGIN { while ((getline line <masks) > 0) mask[++count] = line }
		{
			for (i = 1; i <= count; i++) {
				out = ""
				while ((at = index($0, mask[i])) > 0) { out = out substr($0, 1, at - 1) "***"; $0 = substr($0, at + length(mask[i])) }
				$0 = out $0
			}
			print
			fflush()
		}'
}

