# shellcheck shell=sh
# Sourced by demo.sh and fleet.sh in the project's folder, for the programs that both use
# and the settings in .env.

# The tools of the project come first; claude and codex from `make llm-clis` only where the
# user has none.
PATH="$PWD/.tools/bin:$PATH:$PWD/.tools/llm/bin"
SYSTEMG_AGENT=1 # plain output, nothing followed
export PATH SYSTEMG_AGENT

# Prints the value of $1, from the environment, else from .env, which is read and not run:
# it is data.
setting() {
    eval "value=\${$1:-}"
    if [ -z "$value" ] && [ -r .env ]; then
        value=$(sed -n "s/^[[:space:]]*\(export[[:space:]][[:space:]]*\)\{0,1\}$1[[:space:]]*=[[:space:]]*//p" .env | tail -n 1 |
            sed "s/[[:space:]]#.*\$//; s/[[:space:]]*\$//; s/^\"\(.*\)\"\$/\1/; s/^'\(.*\)'\$/\1/")
    fi
    printf '%s' "$value"
}

# Makes .env where there is none, and sets `provider`: who is asked where neither agent
# nor goal says.
choose_provider() {
    if [ ! -e .env ] && [ ! -L .env ]; then
        # A key may be written into it.
        (umask 077 && cp deploy/env.example .env)
        echo "Wrote .env from deploy/env.example: ORCH_LLM_PROVIDER=offline, so no model is asked."
    fi
    provider=$(setting ORCH_LLM_PROVIDER | tr '[:upper:]' '[:lower:]')
    provider=${provider:-claude}
}

# Fails where the provider's program is missing, and says what to do.
check_provider() {
    case $provider in
    claude) program=$(setting ORCH_CLAUDE_CLI) ;;
    codex) program=$(setting ORCH_CODEX_CLI) ;;
    command) program=$(setting ORCH_COMMAND_CLI) ;;
    *) return 0 ;; # orch itself says what is wrong with other words
    esac
    if [ -z "$program" ]; then program=$(setting ORCH_LLM_CLI); fi
    if [ -z "$program" ] && [ "$provider" = command ]; then
        echo "ORCH_LLM_PROVIDER is command: say in .env which program, with ORCH_COMMAND_CLI" >&2
        return 1
    fi
    program=${program:-$provider}
    if ! command -v "$program" > /dev/null; then
        echo "$provider is to be asked, and $program is not there: install it and log in, name it in .env" \
            "(ORCH_LLM_CLI), or write ORCH_LLM_PROVIDER=offline there to do without a model" >&2
        return 1
    fi
}
