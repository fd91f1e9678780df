#!/bin/sh
# A simulated instance without privileges has one user id: the command runs, as that one.
# Understands: su [-] [-s SHELL] [USER] [-c COMMAND] [args], runuser -u USER [--] COMMAND…
shell=/bin/sh command= direct=
while [ $# -gt 0 ]; do
    case "$1" in
        -s | --shell) shell="$2"; shift 2 ;;
        -c | --command) command="$2"; shift 2 ;;
        -u | --user) direct=1; shift 2 ;;
        --) shift; break ;;
        -*) shift ;;
        *) [ -z "$direct" ] || break; shift ;;
    esac
done
[ -z "$direct" ] || exec "$@"
[ -n "$command" ] || exec "$shell" "$@"
exec "$shell" -c "$command" "$@"
