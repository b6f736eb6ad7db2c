-- Snapshots an agent's memory.
-- ARGV: agent, incarnation, flushes, memory (JSON list)
-- Reply: saved | flushed (a person flushed it since: start empty) | fenced
local agent = ARGV[1]
if call('HGET', 'agent:' .. agent .. ':registered', 'incarnation') ~= ARGV[2] then
  return {'fenced'}
end
return {keep_memory(agent, {}, ARGV[3], ARGV[4]) and 'saved' or 'flushed'}
