-- The holder hands its task back, as on shutdown. No attempt is used up.
-- ARGV: now, agent, incarnation, task, epoch, reason
-- Reply: released | already | fenced
local agent, incarnation, id, epoch = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = clock(ARGV[1])
local t, state = held_task(agent, incarnation, id, epoch)
if state ~= 'hold' then return {state} end
call('HSET', 'task:' .. id, 'settled', epoch)
hand_back(t, now, 'release', ARGV[6])
return {'released'}
