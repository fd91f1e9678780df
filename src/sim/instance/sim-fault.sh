#!/bin/sh
# sim-fault LIFECYCLE_EVENT: fails as the simulated cloud was told to for this event, else does nothing.
[ -n "$1" ] || exit 0
root="${DROVER_ROOT:-}"
[ -n "$root" ] || case "$0" in */usr/local/bin/sim-fault) root="${0%/usr/local/bin/sim-fault}" ;; esac
fault="$root/run/drover-sim/faults/$1"
[ -f "$fault" ] || exit 0
{ read -r exit; read -r times; read -r message; } <"$fault" || exit 0
if [ "$times" -gt 1 ] 2>/dev/null; then
    printf '%s\n' "$exit" "$((times - 1))" "$message" >"$fault.next" && mv "$fault.next" "$fault"
else
    rm -f "$fault"
fi
[ -z "$message" ] || printf '%s\n' "$message" >&2
exit "$exit"
