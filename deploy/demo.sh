#!/bin/sh
# The demo: starts this project under systemg, lets it write the health report of
# its own repository (goal-001), shows each task as it finishes, and stops it all.
#
# It has a supervisor, a Redis, a port and data of its own, so that it runs beside
# whatever else this user keeps under systemg and always does the whole job again.
# With ORCH_LLM_PROVIDER=offline in .env no model is asked; with claude there, claude
# plans the goal and does the tasks.
# Needs no terminal. Called by `make demo`, which sets up and builds before.
set -eu
cd "$(dirname "$0")/.."

goal="goal-001"
work=.orch/work/$goal
state=.orch/demo
orch=./target/release/orch

say() { printf '%s\n' "$@"; }
fail() {
    printf 'demo: %s\n' "$@" >&2
    exit 1
}

[ -x $orch ] || fail "there is no $orch: run \`make build\`, or \`make demo\` which does"
if sh deploy/fleet.sh running; then
    fail "this project is running already, and two fleets would share its files:" \
        "stop it with \`make down\`, or look at it with \`$orch status\`"
fi
mkdir -p "$state"
. ./deploy/env.sh
choose_provider
check_provider || fail "there is nobody to ask"
case $provider in
offline) limit_secs=${ORCH_DEMO_LIMIT_SECS:-300} ;;
*) limit_secs=${ORCH_DEMO_LIMIT_SECS:-3600} ;;
esac

# --- what the demo owns --------------------------------------------------------

# Cargo, rustup and git keep their settings in the real home; the tasks use them.
if [ -z "${CARGO_HOME:-}" ] && [ -d "$HOME/.cargo" ]; then export CARGO_HOME="$HOME/.cargo"; fi
if [ -z "${RUSTUP_HOME:-}" ] && [ -d "$HOME/.rustup" ]; then export RUSTUP_HOME="$HOME/.rustup"; fi
if [ -z "${GIT_CONFIG_GLOBAL:-}" ] && [ -f "$HOME/.gitconfig" ]; then export GIT_CONFIG_GLOBAL="$HOME/.gitconfig"; fi
# The same for the logins of claude and codex, whose programs agents start.
if [ -z "${CLAUDE_CONFIG_DIR:-}" ] && [ -d "$HOME/.claude" ]; then export CLAUDE_CONFIG_DIR="$HOME/.claude"; fi
if [ -z "${CODEX_HOME:-}" ] && [ -d "$HOME/.codex" ]; then export CODEX_HOME="$HOME/.codex"; fi
ORCH_SYSG=$(command -v sysg) || fail "sysg is missing: run \`make setup\`"
export ORCH_SYSG

# stop_fleet HOME: what a supervisor in that home runs, and the supervisor.
stop_fleet() { HOME=$1 sysg stop --supervisor < /dev/null > /dev/null 2>&1 || true; }

# One demo at a time: the lock is the folder, the pid in it tells a stale one.
if ! mkdir "$state/lock" 2> /dev/null; then
    holder=$(cat "$state/lock/pid" 2> /dev/null || true)
    if [ -n "$holder" ] && kill -0 "$holder" 2> /dev/null; then
        fail "another demo is running here (pid $holder)"
    fi
fi
echo $$ > "$state/lock/pid"

# What a killed demo left is stopped before its data is taken away. Where its
# supervisor was killed too, starting it again adopts what it had running.
if [ -s "$state/left" ]; then
    read -r old_port old_home < "$state/left"
    if [ -d "$old_home/.local/share/systemg" ]; then
        say "Stopping what an earlier demo left."
        HOME=$old_home ORCH_REDIS_PORT=$old_port REDIS_URL="redis://127.0.0.1:$old_port" \
            ORCH_REDIS_DIR="$state/redis" sysg start --daemonize < /dev/null > /dev/null 2>&1 || true
        stop_fleet "$old_home"
        rm -rf "$old_home"
    fi
    rm -f "$state/left"
fi

# Prints the first port from $1 on that nothing on this machine listens at.
free_port() {
    port=$1
    while awk -v port="$(printf '%04X' "$port")" '
        $4 == "0A" && substr($2, length($2) - 3) == port { found = 1 }
        END { exit !found }' /proc/net/tcp /proc/net/tcp6 2> /dev/null; do
        port=$((port + 1))
    done
    echo "$port"
}

ORCH_REDIS_PORT=$(free_port 6379)
REDIS_URL="redis://127.0.0.1:$ORCH_REDIS_PORT"
ORCH_REDIS_DIR="$state/redis"
export ORCH_REDIS_PORT REDIS_URL ORCH_REDIS_DIR
# The home is short and elsewhere, because the path of systemg's socket lies in it
# and must not be longer than 107 bytes.
fleet_home=$(mktemp -d "${TMPDIR:-/tmp}/orch-demo.XXXXXX")
printf '%s %s\n' "$ORCH_REDIS_PORT" "$fleet_home" > "$state/left"
rm -rf "${state:?}/redis" "$state/logs"
# What an earlier run made must not pass for the work of this one.
if [ -d "$work" ]; then
    rm -rf "${state:?}/before"
    mv "$work" "$state/before"
fi
touch "$state/started"

redis() { redis-cli -p "$ORCH_REDIS_PORT" "$@" 2> /dev/null; }
# "pid start-time" of process $1: a pid alone may be another's by tomorrow.
identity() { awk '{ sub(/^.*\) /, ""); print $20 }' "/proc/$1/stat" 2> /dev/null | sed "s/^/$1 /"; }

# Every process of the fleet: the supervisor's services, Redis and the agents.
fleet_pids() {
    HOME=$fleet_home sysg status --format json 2> /dev/null | sed -n 's/^ *"pid": \([0-9]*\),\{0,1\}$/\1/p'
    redis INFO server | tr -d '\r' | sed -n 's/^process_id://p'
    redis --scan --pattern 'agent:*:registered' | while IFS= read -r key; do redis HGET "$key" pid; done
}

finish() {
    status=$?
    trap - EXIT INT TERM HUP
    if [ -d "$fleet_home" ]; then
        say "" "Stopping."
        fleet_pids | grep '^[0-9][0-9]*$' | sort -u | while IFS= read -r pid; do identity "$pid"; done > "$state/processes" || true
        stop_fleet "$fleet_home"
        left=$(still_running 100)
        if [ -n "$left" ]; then
            say "demo: still there 10 s after \`sysg stop\`, and ended now: $left" >&2
            # shellcheck disable=SC2086 # one word for each pid is meant
            kill -9 $left 2> /dev/null || true
            if [ $status = 0 ]; then status=1; fi
        fi
        mkdir -p "$state/logs"
        cp -R "$fleet_home/.local/share/systemg/logs/." "$state/logs/" 2> /dev/null || true
        rm -rf "$fleet_home"
    fi
    for name in left lock processes started start.log ids shown task reason; do rm -rf "${state:?}/$name"; done
    if [ $status != 0 ]; then say "The logs are in $state/logs." >&2; fi
    exit $status
}

# Prints the pids of $state/processes that are alive after $1 tenths of a second.
still_running() {
    tenths=0
    while :; do
        left=
        while read -r pid start; do
            if [ "$(identity "$pid")" = "$pid $start" ]; then left="$left $pid"; fi
        done < "$state/processes"
        if [ -z "$left" ] || [ $tenths -ge "$1" ]; then break; fi
        tenths=$((tenths + 1))
        sleep 0.1
    done
    echo "${left# }"
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# --- the run -------------------------------------------------------------------

case $provider in
offline) say "No model is asked: the plan and the work of $goal are those of INSTRUCTIONS.md." ;;
*) say "$provider plans $goal and does its tasks (ORCH_LLM_PROVIDER). This takes minutes, and may cost money." ;;
esac
say "Starting Redis (port $ORCH_REDIS_PORT), the orchestrator and its agents: sysg start"
HOME=$fleet_home sysg start --daemonize < /dev/null > "$state/start.log" 2>&1 || {
    cat "$state/start.log" >&2
    fail "sysg start failed"
}

# The title of task $1, from its plan.
title() { redis HGET "dag:$goal:nodes" "$1" | sh deploy/demo/json.sh | sed -n "s/^title$(printf '\t')//p"; }

# Shows why there is no plan yet, each time that changes; fails where only a person can
# help: nobody is logged in, or the budget is spent. A usage limit ends by itself.
show_planning() {
    redis HMGET "goal:$goal" reason plan_held > "$state/reason" || return 0
    reason=$(sed -n 1p "$state/reason")
    held=$(sed -n 2p "$state/reason")
    if [ -n "$reason" ] && [ "$reason" != "$shown_reason" ]; then say "  $goal: $reason"; fi
    shown_reason=$reason
    if [ -n "$held" ] && [ "$(redis HLEN llm:holds)" = 0 ]; then fail "$goal cannot be planned: $held"; fi
}

# Prints a line for each task whose state changed to an end since the last call.
show_progress() {
    redis HKEYS "dag:$goal:nodes" | sort > "$state/ids" || return 0
    while IFS= read -r id; do
        if grep -q "^$id " "$state/shown"; then continue; fi
        redis HMGET "task:$id" status owner last_error > "$state/task" || return 0
        word=$(sed -n 1p "$state/task")
        case $word in
        done) printf '  %s  %-6s %s\n' "$id" "done" "$(title "$id")" ;;
        failed) printf '  %s  %-6s %s: %s\n' "$id" "FAILED" "$(title "$id")" "$(sed -n 3p "$state/task")" ;;
        *) continue ;;
        esac
        echo "$id $word" >> "$state/shown"
    done < "$state/ids"
}

: > "$state/shown"
shown_reason=
began=$(date +%s)
goal_status=
while :; do
    # Asked before the tasks are shown, so that the last of them is shown too.
    goal_status=$(redis HGET "goal:$goal" status || true)
    if [ "$goal_status" = draft ]; then show_planning; fi
    show_progress
    case $goal_status in complete | failed) break ;; esac
    if [ $(($(date +%s) - began)) -ge "$limit_secs" ]; then
        $orch status >&2 || true
        fail "$goal was not complete after $limit_secs s"
    fi
    sleep 0.3
done
say ""
$orch status || true
if [ "$goal_status" != complete ]; then fail "$goal is $goal_status"; fi

report=$work/report.md
[ -n "$(find "$report" -newer "$state/started" 2> /dev/null)" ] ||
    fail "$goal is complete, but $report was not written by this run"
say "" "$goal is complete: $(grep -c . "$state/ids") tasks in $(($(date +%s) - began)) s."
calls=$(redis HGET "goal:$goal:cost" calls || true)
if [ -n "$calls" ]; then
    say "" "What it cost:" ""
    $orch cost "$goal" || true
fi
say "" "The report:     $report" "Its chart:      $work/lines.svg"
cat << 'END'

What to try next. Start it to stay, and watch it in a second terminal:

  make up                                  start, and leave running
  ./target/release/orch status --watch

then

  echo PAUSE >> heartbeat/research.md      research_agent stops taking tasks; RESUME ends it
  kill -9 $(redis-cli HGET agent:research_agent:registered pid)
                                           a new one takes over in an instant
  edit .env                                ORCH_LLM_PROVIDER=claude has a model do it
  edit INSTRUCTIONS.md                     add a task or an agent: it takes effect when you save
  make down                                stop
END
