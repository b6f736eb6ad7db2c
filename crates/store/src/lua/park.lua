-- The holder hands back a task whose budget is spent. No attempt is used up, and nobody
-- can claim it until its plan changes or a person retries it.
-- ARGV: now, agent, incarnation, task, epoch, reason
-- Reply: parked | superseded (the plan changed while it ran: the task is READY) | already
--      | fenced
local epoch = ARGV[5]
local now = clock(ARGV[1])
local t, state = held_task(ARGV[2], ARGV[3], ARGV[4], epoch)
if state ~= 'hold' then return {state} end
call('HSET', 'task:' .. t.id, 'settled', epoch)
if t.stale == '1' then
  hand_back(t, now, 'release', 'the plan changed while it ran')
  return {'superseded'}
end
-- Beyond the mark, whatever is lost to rounding.
hand_back(t, now, 'release', ARGV[6], PARKED + 3600000000 - now)
return {'parked'}
