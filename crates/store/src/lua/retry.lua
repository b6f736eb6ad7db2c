-- A person asks for another try of a failed or parked task (`orch retry`): its failures,
-- detours and costs are counted anew.
-- ARGV: now, task
-- Reply: ready | blocked (its dependencies are not done) | refused state | unknown
local now = clock(ARGV[1])
local t = task_of(ARGV[2])
if t.status == '' then return {'unknown'} end
local key = 'task:' .. t.id
local due = call('ZSCORE', 'dag:' .. t.goal .. ':delayed', t.id)
local parked = t.status == 'ready' and due and tonumber(due) >= PARKED
if t.status ~= 'failed' and not parked then return {'refused', t.status} end
call('HSET', key, 'failures', 0, 'losses', 0, 'cost', 0)
call('HDEL', key, 'reason', 'finished', 'stale', 'detours_review', 'detours_recovery')
if parked then
  unqueue(t)
  emit('task-unpark', 'goal', t.goal, 'task', t.id, 'generation', t.generation)
  settle_ready(t, now, 0)
  return {t.status}
end
move(t, 'reset')
emit_task(t, 'reset')
note_dependents(t)
local goal = 'goal:' .. t.goal
if call('HGET', goal, 'status') == 'failed' then
  call('HSET', goal, 'status', 'active')
  call('HDEL', goal, 'finished', 'reason')
  emit('goal-active', 'goal', t.goal, 'from', 'failed', 'generation', t.generation,
    'reason', 'retry of ' .. t.id)
end
settle_ready(t, now, 0)
return {t.status}
