-- A person asks for another try of a failed task (`orch retry`).
-- ARGV: now, task
-- Reply: ready | blocked (its dependencies are not done) | refused state | unknown
local now = clock(ARGV[1])
local t = task_of(ARGV[2])
if t.status == '' then return {'unknown'} end
if t.status ~= 'failed' then return {'refused', t.status} end
local key = 'task:' .. t.id
call('HSET', key, 'failures', 0, 'losses', 0)
call('HDEL', key, 'reason', 'finished', 'stale')
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
