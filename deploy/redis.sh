#!/bin/sh
# The project's Redis, as a systemg service.
#
#   redis.sh serve   run it in the foreground, on 127.0.0.1:$ORCH_REDIS_PORT (6379),
#                    every write on disk before it is answered; where REDIS_URL names
#                    another server, or one answers at that port already, run none
#   redis.sh wait    return when Redis answers, or after 20 s: then it is for the
#                    orchestrator to say what is wrong, and to keep trying
#
# Settings come from the environment, else from .env. Redis's data is in
# $ORCH_REDIS_DIR, else in .orch/redis.
set -eu
cd "$(dirname "$0")/.."

# Prints the value of $1. `.env` is read, not run: it is data.
setting() {
    eval "value=\${$1:-}"
    if [ -z "$value" ] && [ -r .env ]; then
        value=$(sed -n "s/^[[:space:]]*\(export[[:space:]][[:space:]]*\)\{0,1\}$1[[:space:]]*=[[:space:]]*//p" .env | tail -n 1 |
            sed "s/[[:space:]]*\$//; s/^\"\(.*\)\"\$/\1/; s/^'\(.*\)'\$/\1/")
    fi
    printf '%s' "$value"
}

port=$(setting ORCH_REDIS_PORT)
port=${port:-6379}
folder=$(setting ORCH_REDIS_DIR)
folder=${folder:-.orch/redis}
url=$(setting REDIS_URL)

case $port in
*[!0-9]*) echo "ORCH_REDIS_PORT is \"$port\": it must be a port number" >&2; exit 1 ;;
esac

# Whether REDIS_URL, with or without a database number, means the server that
# this script runs.
case $url in
"" | redis://127.0.0.1:"$port" | redis://127.0.0.1:"$port"/* | redis://localhost:"$port" | redis://localhost:"$port"/*) ours=yes ;;
redis://127.0.0.1 | redis://127.0.0.1/* | redis://localhost | redis://localhost/*)
    if [ "$port" = 6379 ]; then ours=yes; else ours=no; fi ;;
*) ours=no ;;
esac

# Any reply will do, also one that asks for a password.
answers() { redis-cli -h 127.0.0.1 -p "$port" ping > /dev/null 2>&1; }

serve() {
    if [ $ours = no ]; then
        # The URL may hold a password, so it is not shown.
        echo "REDIS_URL names another Redis: running none here"
        exec sleep infinity
    fi
    if ! command -v redis-server > /dev/null; then
        echo "redis-server is not installed: run \`make setup\`, or set REDIS_URL in .env" >&2
        exit 1
    fi
    if answers; then
        echo "a Redis already answers at 127.0.0.1:$port: using that one while it lasts"
        while answers; do sleep 1; done
        echo "the Redis at 127.0.0.1:$port is gone: starting one" >&2
    fi
    mkdir -p "$folder"
    # `always` costs about a millisecond for a write, and means that a task once
    # accepted as done stays done, whatever crashes.
    exec redis-server --bind 127.0.0.1 --port "$port" --dir "$folder" \
        --appendonly yes --appendfsync always --save "" --daemonize no
}

wait_for_it() {
    if [ $ours = no ]; then exit 0; fi
    tries=0
    until answers; do
        tries=$((tries + 1))
        if [ $tries -ge 200 ]; then
            echo "no Redis answers at 127.0.0.1:$port after 20 s: see \`sysg logs --service redis\`" >&2
            exit 0
        fi
        sleep 0.1
    done
}

case ${1:-} in
serve) serve ;;
wait) wait_for_it ;;
*) echo "usage: redis.sh serve | wait" >&2; exit 2 ;;
esac
