# Sourced by every hook: where things are, and how to speak.
set -eu
release="$DROVER_RELEASE"
# Empty on a real instance; a folder where the instance is simulated without privileges.
root="${release%%/opt/drover/*}"
if [ -f "$root/etc/drover-sim.env" ]; then
    . "$root/etc/drover-sim.env"
    export AWS_SSM_INSTANCE_ID
fi
PATH="$root/usr/local/bin:$PATH"
export PATH
instance="${AWS_SSM_INSTANCE_ID:-this instance}"
port="${PORT:-80}"
address="${ADDRESS:-0.0.0.0}"
url="http://${ADDRESS:-127.0.0.1}:$port"
pid_file="$root/run/sample.pid"
log="$root/var/log/sample.log"
version="$(cat "$release/VERSION")"

say() {
    printf '%s: %s\n' "${LIFECYCLE_EVENT:-hook}" "$*"
}

# What the service says of itself; fails while it does not answer.
health() {
    if command -v curl >/dev/null 2>&1; then
        curl -fsS --max-time 2 "$url/health"
    else
        wget -q -T 2 -O - "$url/health"
    fi
}

# Is it that process still, not another one with its number, nor a dead one?
running() {
    [ -s "$pid_file" ] && grep -q sample-service "/proc/$(cat "$pid_file")/cmdline" 2>/dev/null
}

# TERM, ten seconds to finish what is in flight, then KILL.
stop() {
    if running; then
        kill -TERM "$(cat "$pid_file")" 2>/dev/null || true
    fi
    deadline=$(($(date +%s) + 10))
    while running; do
        if [ "$(date +%s)" -ge "$deadline" ]; then
            say "not ended after 10 s: killing it"
            kill -KILL "$(cat "$pid_file")" 2>/dev/null || true
            deadline=$((deadline + 10))
        fi
        sleep 0.1
    done
    rm -f "$pid_file"
}

# In the simulated cloud a failure can be ordered.
if command -v sim-fault >/dev/null 2>&1; then
    sim-fault "$LIFECYCLE_EVENT" || exit $?
fi
