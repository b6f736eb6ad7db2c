# A lexer for as much of Rust as tells code, strings and comments apart: line and
# nested block comments, strings, raw strings, characters and lifetimes. Input:
# crates.tsv, then a list of files. See scan.sh for the output.
BEGIN { FS = "\t"; OFS = "\t" }

FNR == NR { folder[$1] = $2; test_crate[$1] = $5; next }

{
    file = $0
    crate = owner(file)
    test_file = test_crate[crate] || file ~ /(^|\/)(tests|benches)\// || file ~ /(^|\/)tests\.rs$/
    comment_depth = 0; string_end = ""; depth = 0; test_depth = 0; pending = 0
    number = 0
    while ((getline line < (project "/" file)) > 0) scan(line)
    close(project "/" file)
}

# The crate whose folder is the longest prefix of the path.
function owner(path,   name, best, length_of_best) {
    length_of_best = -1
    for (name in folder)
        if (folder[name] == "." && length_of_best < 0) { best = name; length_of_best = 0 }
        else if (index(path, folder[name] "/") == 1 && length(folder[name]) > length_of_best) {
            best = name; length_of_best = length(folder[name])
        }
    return best
}

function scan(line,   rest, kind, in_test) {
    number++
    gsub(/[\t\r]/, " ", line)
    rest = line; code = ""; comment = ""
    while (rest != "") rest = step(rest)
    if (line ~ /^ *\/\/[\/!]/ && line !~ /^ *\/\/\/\//) kind = "doc"
    else if (code ~ /[^ ]/) kind = "code"
    else if (comment != "") kind = "comment"
    else kind = line ~ /[^ ]/ ? "code" : "blank"
    in_test = test_file || test_depth > 0 || pending
    follow_blocks()
    print crate, file, number, kind, (in_test || test_depth > 0) + 0, code, comment
}

# Consumes the next piece of `rest` into `code` or `comment`; returns what is left.
function step(rest,   at) {
    if (comment_depth > 0) return in_comment(rest)
    if (string_end != "") return in_string(rest)
    at = match(rest, /\/\/|\/\*|"|'/)
    if (at == 0) { code = code rest; return "" }
    code = code substr(rest, 1, at - 1)
    rest = substr(rest, at)
    if (rest ~ /^\/\//) { comment = comment rest; return "" }
    if (rest ~ /^\/\*/) { comment_depth = 1; comment = comment "/*"; return substr(rest, 3) }
    if (rest ~ /^"/) {
        string_end = "\""
        if (match(code, /(^|[^A-Za-z0-9_])b?c?r#*$/)) {
            string_end = substr(code, RSTART)
            gsub(/[^#]/, "", string_end)
            string_end = "\"" string_end "r"
        }
        code = code "\""
        return substr(rest, 2)
    }
    # A character; anything else behind a quote is a lifetime.
    if (match(rest, /^'(\\[^u]|\\u\{[^}]*\}|\\x..|[^'\\])'/)) {
        code = code "' '"
        return substr(rest, RLENGTH + 1)
    }
    if (match(rest, /^'[^ -~]+'/)) { code = code "' '"; return substr(rest, RLENGTH + 1) }
    code = code "'"
    return substr(rest, 2)
}

function in_comment(rest,   at) {
    at = match(rest, /\/\*|\*\//)
    if (at == 0) { comment = comment rest; return "" }
    comment_depth += substr(rest, at, 2) == "/*" ? 1 : -1
    comment = comment substr(rest, 1, at + 1)
    return substr(rest, at + 2)
}

# `string_end` is what closes the string; a trailing `r` marks a raw one, in
# which a backslash is just a backslash.
function in_string(rest,   at, close_mark) {
    if (string_end ~ /r$/) {
        close_mark = substr(string_end, 1, length(string_end) - 1)
        at = index(rest, close_mark)
        if (at == 0) return ""
        code = code "\""
        string_end = ""
        return substr(rest, at + length(close_mark))
    }
    at = match(rest, /["\\]/)
    if (at == 0) return ""
    if (substr(rest, at, 1) == "\\") return substr(rest, at + 2)
    code = code "\""
    string_end = ""
    return substr(rest, at + 1)
}

# Keeps the depth of braces, and with it where a `#[cfg(test)]` block ends.
function follow_blocks(   i, c) {
    if (code ~ /#\[cfg\((all\()?test/) pending = 1
    if (code !~ /[{};]/) return
    for (i = 1; i <= length(code); i++) {
        c = substr(code, i, 1)
        if (c == "{") {
            depth++
            if (pending && test_depth == 0) { test_depth = depth; pending = 0 }
        } else if (c == "}") {
            if (depth == test_depth) test_depth = 0
            depth--
        } else if (c == ";" && pending) pending = 0
    }
}
