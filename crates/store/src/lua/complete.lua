-- Accepts a completion, unblocks what waited for it, and grants the next task.
-- ARGV: now, agent, incarnation, task, epoch, artifacts (JSON), progress,
--       wants_next ('1' or ''), ttl_ms
-- Reply: done ..        accepted; then, if asked, what claim.lua replies
--      | superseded ..  the plan changed while it ran: the task is READY again
--      | already ..     this epoch was settled before
--      | fenced         another incarnation or epoch: stop that work
-- Cost: the out-degree of the task.
local agent, incarnation, id, epoch = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = clock(ARGV[1])
local ttl_ms = tonumber(ARGV[9])
if registration(agent).incarnation ~= incarnation then return {'fenced'} end
local t = task_of(id)
local state = standing(t, agent, incarnation, epoch)
if state == 'fenced' then return {'fenced'} end
if state == 'already' then return and_next('already', agent, now, ttl_ms, ARGV[8]) end

-- What it grants itself needs no other agent's wake.
if ARGV[8] == '1' then deferred = {} end
local key = 'task:' .. id
call('HSET', key, 'settled', epoch)
if t.stale == '1' then
  hand_back(t, now, 'release', 'the plan changed while it ran')
  return and_next('superseded', agent, now, ttl_ms, ARGV[8])
end
end_lease(t)
move(t, 'complete')
call('HSET', key, 'artifacts', ARGV[6], 'progress', ARGV[7], 'finished', iso(now))
emit_task(t, 'complete', 'agent', agent, 'incarnation', incarnation, 'epoch', epoch,
  'attempt', t.attempt, 'artifacts', ARGV[6])
for _, dependent in ipairs(dependents_of(t)) do
  if call('HINCRBY', 'task:' .. dependent, 'waiting', -1) <= 0 then unblock(dependent, now) end
end
return and_next('done', agent, now, ttl_ms, ARGV[8])
