-- Snapshots an agent's memory.
-- ARGV: agent, incarnation, flushes, memory (JSON list)
-- Reply: saved | flushed (a person flushed it since: start empty) | fenced
local agent = ARGV[1]
if call('HGET', 'agent:' .. agent .. ':registered', 'incarnation') ~= ARGV[2] then
  return {'fenced'}
end
if (call('HGET', 'agent:' .. agent .. ':control', 'flushes') or '') ~= ARGV[3] then
  return {'flushed'}
end
call('SET', 'agent:' .. agent .. ':memory', ARGV[4])
return {'saved'}
