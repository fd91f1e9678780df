#!/bin/sh
# The AWS CLI of a simulated instance, as far as `aws ssm get-parameter … --output text` goes.
root="${DROVER_ROOT:-}"
[ -n "$root" ] || case "$0" in */usr/local/bin/aws) root="${0%/usr/local/bin/aws}" ;; esac
name=
case "$1 $2" in "ssm get-parameter") shift 2 ;; *) echo "aws: only ssm get-parameter is simulated" >&2 && exit 252 ;; esac
while [ $# -gt 0 ]; do
    case $1 in --name) name=$2 && shift 2 ;; *) shift ;; esac
done
{ read -r url && read -r token; } 2>/dev/null <"$root/etc/drover-sim-role" || {
    echo "Unable to locate credentials. You can configure credentials by running \"aws configure\"." >&2
    exit 253
}
answer=$(mktemp) || exit 255
status=$(curl -sS -G -o "$answer" -w '%{http_code}' -H "Authorization: Bearer $token" --data-urlencode "name=$name" "$url/_agent/v1/parameter")
case $status in
200) cat "$answer" && echo ;;
*) echo >&2 && cat "$answer" >&2 && echo >&2 ;;
esac
rm -f "$answer"
[ "$status" = 200 ] || exit 254
