#!/bin/sh
# This project as one of those that systemg keeps for this user.
#
#   fleet.sh up       start it in the background and leave it running
#   fleet.sh down     stop it, and the supervisor too when it has nothing left to do
#   fleet.sh running  exit 0 where it runs
#
# There is one supervisor for each home folder, with any number of projects. A bare
# `sysg stop` ends them all, so `down` names this project: systemg calls it after
# the path of its manifest, and its status tells the name.
set -eu
cd "$(dirname "$0")/.."

. ./deploy/env.sh

# Prints systemg's name of this project; nothing where it does not run.
project_id() {
    sysg status --format json 2> /dev/null | awk -F '"' -v manifest="$PWD/systemg.yaml" '
        $2 == "id" { id = $4 }
        $2 == "config_path" && $4 == manifest { print id; exit }'
}

up() {
    choose_provider
    # Work without a model goes on where its program is missing, so this only tells.
    check_provider || true
    # The orchestrator spawns its agents with the same sysg.
    ORCH_SYSG=$(command -v sysg)
    export ORCH_SYSG
    sysg start --daemonize < /dev/null
    echo
    echo "Running; who is asked: $provider (.env)."
    echo "Look:           ./target/release/orch status --watch"
    echo "Stop:           make down"
}

down() {
    id=$(project_id)
    if [ -n "$id" ]; then
        # On a loaded machine it can fail to read the process table; again, then.
        sysg stop --project "$id" || { sleep 1 && sysg stop --project "$id"; }
    else
        echo "This project is not running."
    fi
    if sysg status --format json 2> /dev/null | grep -q '"units": \[\]'; then
        sysg stop --supervisor
    fi
}

case ${1:-} in
up) up ;;
down) down ;;
running) [ -n "$(project_id)" ] ;;
*) echo "usage: fleet.sh up | down | running" >&2; exit 2 ;;
esac
