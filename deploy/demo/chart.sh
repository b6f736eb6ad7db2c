#!/bin/sh
# lines.tsv -> lines.svg: a bar for each crate, of its code, tests and comments. The
# drawing brings its own ground and both colour schemes, so that it can be read
# on any page.
. "$(dirname "$0")/lib.sh"

awk -F '\t' '{ print $3 + $4 + $5 "\t" $0 }' lines.tsv | sort -t "$tab" -k1,1nr -k2,2 | cut -f 2- \
    > "$scratch/sorted.tsv"
awk -F '\t' '
    function round(x) { return int(x + 0.5) }
    # The next of 1, 2 and 5 times a power of ten that gives at most six steps.
    function step_for(most,   step) {
        for (step = 10; ; step *= 10) {
            if (most / step <= 6) return step
            if (most / (2 * step) <= 6) return 2 * step
            if (most / (5 * step) <= 6) return 5 * step
        }
    }
    function thousands(n,   text) {
        text = sprintf("%d", n)
        while (match(text, /^[0-9]+[0-9][0-9][0-9]/) && text ~ /^[0-9][0-9][0-9][0-9]/)
            text = substr(text, 1, RLENGTH - 3) "," substr(text, RLENGTH - 2)
        return text
    }
    function bar(class, x, y, width, value, crate, what) {
        if (width < 1) return
        printf "  <rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"18\"><title>%s: %s lines of %s</title></rect>\n", class, x, y, width, crate, thousands(value), what
    }
    { name[NR] = $1; code[NR] = $3; tests[NR] = $4; comments[NR] = $5; total = $3 + $4 + $5
      all[NR] = total; sum += total; if (total > most) most = total
      if (length($1) > longest) longest = length($1) }
    END {
        left = 40 + longest * 7.6; right = 90; width = 860; top = 104; row = 30
        height = top + NR * row + 52
        step = step_for(most < 10 ? 10 : most)
        scale = (width - left - right) / (most < 10 ? 10 : most)
        bottom = top + NR * row
        print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " width " " height "\" width=\"" width "\" height=\"" height "\" role=\"img\" aria-labelledby=\"title\">"
        print "  <title id=\"title\">Lines per crate: " thousands(sum) " lines in " NR " crates</title>"
        print "  <style>"
        print "    text { font-family: system-ui, -apple-system, \"Segoe UI\", \"DejaVu Sans\", sans-serif; font-size: 13px; fill: #1f2933 }"
        print "    .ground { fill: #ffffff; stroke: #d9dfe7 } .head { font-size: 19px; font-weight: 600 }"
        print "    .quiet { fill: #5c6b7d; font-size: 12px } .grid { stroke: #e4e9ef; stroke-width: 1 }"
        print "    .name { text-anchor: end } .axis { text-anchor: middle }"
        print "    .code { fill: #2563c9 } .tests { fill: #169b82 } .comments { fill: #b9c3d0 }"
        print "    @media (prefers-color-scheme: dark) {"
        print "      text { fill: #e6ebf1 } .ground { fill: #12181f; stroke: #2c3641 } .quiet { fill: #9aa8b8 }"
        print "      .grid { stroke: #26303a } .code { fill: #5b9bff } .tests { fill: #35c4a6 } .comments { fill: #536171 }"
        print "    }"
        print "  </style>"
        print "  <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"" width - 1 "\" height=\"" height - 1 "\" rx=\"10\"/>"
        print "  <text class=\"head\" x=\"24\" y=\"38\">Lines per crate</text>"
        print "  <text class=\"quiet\" x=\"24\" y=\"60\">" thousands(sum) " lines in " NR " crates, blank lines left out</text>"
        x = width - 292
        print "  <rect class=\"code\" x=\"" x "\" y=\"28\" width=\"12\" height=\"12\" rx=\"2\"/><text x=\"" x + 18 "\" y=\"39\">code</text>"
        print "  <rect class=\"tests\" x=\"" x + 74 "\" y=\"28\" width=\"12\" height=\"12\" rx=\"2\"/><text x=\"" x + 92 "\" y=\"39\">tests</text>"
        print "  <rect class=\"comments\" x=\"" x + 150 "\" y=\"28\" width=\"12\" height=\"12\" rx=\"2\"/><text x=\"" x + 168 "\" y=\"39\">comments</text>"
        for (value = 0; value <= most; value += step) {
            x = round(left + value * scale) + 0.5
            print "  <line class=\"grid\" x1=\"" x "\" y1=\"" top - 14 "\" x2=\"" x "\" y2=\"" bottom + 2 "\"/>"
            print "  <text class=\"quiet axis\" x=\"" x "\" y=\"" bottom + 22 "\">" thousands(value) "</text>"
        }
        for (i = 1; i <= NR; i++) {
            y = top + (i - 1) * row
            print "  <text class=\"name\" x=\"" left - 12 "\" y=\"" y + 10 "\">" name[i] "</text>"
            x = left
            bar("code", x, y - 4, code[i] * scale, code[i], name[i], "code"); x += code[i] * scale
            bar("tests", x, y - 4, tests[i] * scale, tests[i], name[i], "tests"); x += tests[i] * scale
            bar("comments", x, y - 4, comments[i] * scale, comments[i], name[i], "comments"); x += comments[i] * scale
            print "  <text class=\"quiet\" x=\"" sprintf("%.1f", x + 8) "\" y=\"" y + 10 "\">" thousands(all[i]) "</text>"
        }
        print "</svg>"
    }' "$scratch/sorted.tsv" > "$scratch/lines.svg"
put lines.svg < "$scratch/lines.svg"
echo "drawn: lines.svg"
