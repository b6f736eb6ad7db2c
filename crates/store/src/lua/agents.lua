-- What there is of some agents, all of one agent as of one moment.
-- ARGV: their names
-- Reply: for each a list: the hashes registered, status and control, each a list of fields
--        and values; the heartbeat, nil where it has expired; the version of what was
--        consumed of its heartbeat file, nil where nothing was
local reply = {}
for i, name in ipairs(ARGV) do
  local key = 'agent:' .. name
  reply[i] = {
    call('HGETALL', key .. ':registered'), call('HGETALL', key .. ':status'),
    call('HGETALL', key .. ':control'), call('GET', key .. ':heartbeat'),
    call('HGET', key .. ':directives', 'version')}
end
return reply
