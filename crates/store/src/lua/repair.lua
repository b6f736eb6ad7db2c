-- Recounts one goal and puts every task where its state says. It runs only when
-- the controller found that the goal's figures cannot be right.
-- ARGV: now, controller, leader_epoch, goal
-- Reply: repaired changes | fenced
-- Cost: the whole DAG; everything else waits meanwhile.
if not leads(ARGV[2], ARGV[3]) then return {'fenced'} end
local now = clock(ARGV[1])
local goal = ARGV[4]
local dag = 'dag:' .. goal
local changes = 0
local ids = call('HKEYS', dag .. ':nodes')
for _, id in ipairs(ids) do
  local t = task_of(id)
  if t.goal ~= goal or not LEGAL.known[t.status] then
    -- The task's own record is gone, as after a deletion by hand: it starts anew.
    local spec = cjson.decode(call('HGET', dag .. ':nodes', id))
    call('HSET', 'task:' .. id, 'goal', goal, 'status', 'blocked', 'role', spec.role or '',
      'priority', spec.priority or 0, 'seq', changes, 'waiting', 1, 'attempt', 0,
      'max_attempts', spec.max_attempts or DEFAULT_MAX_ATTEMPTS, 'failures', 0, 'losses', 0,
      'generation', call('HGET', 'goal:' .. goal, 'generation'))
    call('HDEL', 'task:' .. id, 'not_before')
    changes = changes + 1
  elseif t.status == 'running' and call('HEXISTS', 'leases', id) == 0 then
    call('HSET', 'leases', id, t.epoch .. ':0')
    changes = changes + 1
  end
end
for _, id in ipairs(ids) do changes = changes + relink(id, now) end
local counts = {}
for _, id in ipairs(ids) do
  local t = task_of(id)
  counts[t.status] = (counts[t.status] or 0) + 1
  if t.status == 'ready' and not call('ZSCORE', ready_key(t), id)
    and not call('ZSCORE', dag .. ':delayed', id) then
    queue(t, now, 0)
    changes = changes + 1
  end
end
for _, state in ipairs({'blocked', 'ready', 'running', 'done', 'failed'}) do
  local right = counts[state] or 0
  if (tonumber(call('HGET', dag .. ':counts', state)) or 0) ~= right then
    call('HSET', dag .. ':counts', state, right)
    changes = changes + 1
  end
end
emit('goal-repair', 'goal', goal, 'changes', changes)
return {'repaired', changes}
