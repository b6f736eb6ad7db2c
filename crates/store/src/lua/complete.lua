-- Accepts a completion, unblocks what waited for it, and grants the next task.
-- ARGV: now, agent, incarnation, task, epoch, artifacts (JSON), progress,
--       wants_next ('1' or ''), ttl_ms, flushes, memory (JSON list; '' is as before)
-- Reply: done ..        accepted; then, if asked, what claim.lua replies
--      | superseded ..  the plan changed while it ran: the task is READY again
--      | already ..     this epoch was settled before
--      | fenced         another incarnation or epoch: stop that work
-- Cost: the out-degree of the task.
local agent, incarnation, id, epoch = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = clock(ARGV[1])
local ttl_ms = ARGV[9]
-- What a completion needs of the task; where the plan changed it needs all.
local function read(task)
  local v = call('HMGET', 'task:' .. task, 'goal', 'status', 'owner', 'incarnation', 'epoch',
    'attempt', 'role', 'generation', 'settled', 'stale', 'session')
  return {id = task, goal = v[1] or '', status = v[2] or '', owner = v[3] or '',
    incarnation = v[4] or '', epoch = v[5] or '', attempt = v[6] or '', role = v[7] or '',
    generation = v[8] or '', settled = v[9] or '', stale = v[10] or '', session = v[11] or ''}
end
local t, state, r = held_task(agent, incarnation, id, epoch, read)
if state ~= 'hold' then return and_next(state, agent, r, now, ttl_ms, ARGV[8]) end

if ARGV[11] ~= '' then keep_memory(agent, r, ARGV[10], ARGV[11]) end
-- What it grants itself needs no other agent's wake.
if ARGV[8] == '1' then deferred = {} end
forget_session(t)
if t.stale == '1' then
  call('HSET', 'task:' .. id, 'settled', epoch)
  t = task_of(id)
  hand_back(t, now, 'release', 'the plan changed while it ran', 0, r)
  return and_next('superseded', agent, r, now, ttl_ms, ARGV[8])
end
end_lease(t, r)
move(t, 'complete', 'settled', epoch, 'artifacts', ARGV[6], 'progress', ARGV[7],
  'finished', iso(now))
emit_task(t, 'complete', 'agent', agent, 'incarnation', incarnation, 'epoch', epoch,
  'attempt', t.attempt, 'artifacts', ARGV[6])
for _, dependent in ipairs(dependents_of(t)) do
  if call('HINCRBY', 'task:' .. dependent, 'waiting', -1) <= 0 then unblock(dependent, now) end
end
return and_next('done', agent, r, now, ttl_ms, ARGV[8])
