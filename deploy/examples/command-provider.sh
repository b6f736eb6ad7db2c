#!/bin/sh
# A model on a server of your own as a provider: any server with the "chat completions"
# interface will do (llama.cpp, Ollama, vLLM, LM Studio).
#
#   LLM_MODEL=qwen3 orch run --llm-provider command --llm-cli deploy/examples/command-provider.sh
#
# Reads one JSON request on stdin and prints one JSON reply; what the fields mean stands in
# the documentation of the provider `command`. Needs curl and jq. Settings:
#
#   LLM_URL      where the server is; default http://127.0.0.1:11434/v1
#   LLM_MODEL    the model, where the agent or goal declares none
#   LLM_API_KEY  sent as a bearer token where set
#
# Such a server has no tools: it plans, selects, reviews and summarises, but writes no files.
set -eu
umask 077

fail() { # KIND MESSAGE [SECONDS UNTIL A LIMIT IS RESET]
    jq -cn --arg kind "$1" --arg message "$2" --arg wait "${3:-}" '
        {error: ({kind: $kind, message: $message}
                 + ($wait | if test("^[0-9]+$") then {until: (now + tonumber | todate)} else {} end))}'
    exit 0
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

cat >"$work/request"
url=${LLM_URL:-http://127.0.0.1:11434/v1}
model=$(jq -r --arg default "${LLM_MODEL:-}" '.model // $default' "$work/request")
[ -n "$model" ] || fail refused "no model: set LLM_MODEL, or declare a model for the agent"

jq -c --arg model "$model" '
    {model: $model, stream: false, messages: [{role: "user", content: .prompt}]}
    + if .schema == null then {} else
        {response_format: {type: "json_schema", json_schema: {name: "answer", schema: .schema}}}
      end' "$work/request" >"$work/question"

# In a file: an argument would show in the list of processes.
printf 'content-type: application/json\n' >"$work/headers"
[ -z "${LLM_API_KEY:-}" ] || printf 'authorization: Bearer %s\n' "$LLM_API_KEY" >>"$work/headers"

status=$(curl -sS --max-time "$(jq -r .timeout_seconds "$work/request")" \
    -H "@$work/headers" --data-binary "@$work/question" \
    -D "$work/answered" -o "$work/answer" -w '%{http_code}' \
    "$url/chat/completions" 2>"$work/error") ||
    fail failed "asking $url: $(cat "$work/error")"

said=$(head -c 500 "$work/answer" | tr '\n' ' ')
case $status in
    200) ;;
    429) fail limit "$said" "$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]*\).*/\1/p' "$work/answered")" ;;
    401 | 403 | 404) fail refused "$url answers $status: $said" ;;
    *) fail failed "$url answers $status: $said" ;;
esac

jq -ce '{
        text: (.choices[0].message.content // error("no answer")),
        model: .model,
        usage: {input_tokens: .usage.prompt_tokens, output_tokens: .usage.completion_tokens}
    }' "$work/answer" 2>"$work/error" || fail failed "$url answers something else: $said"
