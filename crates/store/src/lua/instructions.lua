-- Records what an agent is told for a goal, where it is not what it was told before.
-- ARGV: now, agent, incarnation, goal, hash, bytes, text (may be only its beginning)
-- Reply: noted version | already version | fenced
local agent, key = ARGV[2], 'inst:' .. ARGV[2] .. ':' .. ARGV[4]
if registration(agent).incarnation ~= ARGV[3] then return {'fenced'} end
local now = clock(ARGV[1])
local newest = call('LINDEX', key, 0)
newest = newest and cjson.decode(newest) or {version = 0}
if newest.hash == ARGV[5] then return {'already', int(newest.version)} end
local version = int(newest.version + 1)
call('LPUSH', key, cjson.encode({version = tonumber(version), hash = ARGV[5], time = iso(now),
  bytes = tonumber(ARGV[6]), text = ARGV[7]}))
call('LTRIM', key, 0, INSTRUCTIONS_KEPT - 1)
emit('agent-instructions', 'agent', agent, 'goal', ARGV[4], 'version', version, 'hash', ARGV[5])
return {'noted', version}
