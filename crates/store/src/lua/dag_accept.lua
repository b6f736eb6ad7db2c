-- Switches a goal to the staged plan: one decision, however large the plan.
-- ARGV: now, controller, leader_epoch, goal, generation, spec_hash, title, total,
--       fresh: JSON list of [role, state, how many], tasks that no plan had before,
--       how many those are together,
--       revised: JSON list of [id, role, priority, seq, max_attempts, llm], tasks whose content changed,
--       removed: JSON list of ids,
--       relinked: JSON list of ids whose dependencies must be counted anew,
--       token: the one that the plan was staged with,
--       inserted: how many tasks detours had inserted when the plan in force was read
-- Reply: accepted | already (that generation is in force) | stale (another one came between)
--      | missing (nothing of that size is staged) | fenced
-- Cost: what changed against the plan in force; a first plan is a few renames.
if not leads(ARGV[2], ARGV[3]) then return {'fenced'} end
local now = clock(ARGV[1])
local goal, generation = ARGV[4], ARGV[5]
local key, dag = 'goal:' .. goal, 'dag:' .. goal
local g = fields(key, 'generation', 'spec_hash', 'created', 'inserted')
if g.generation == generation then
  return {g.spec_hash == ARGV[6] and 'already' or 'stale'}
end
if (tonumber(g.generation) or 0) + 1 ~= tonumber(generation) then return {'stale'} end
if (tonumber(g.inserted) or 0) ~= tonumber(ARGV[15]) then return {'stale'} end
local stage = dag .. ':stage:'
if call('GET', stage .. 'token') ~= ARGV[14] then return {'stale'} end
if call('HLEN', stage .. 'nodes') ~= tonumber(ARGV[8]) then return {'missing'} end

-- What is running and no longer wanted, or READY or DONE as something else,
-- leaves first, while the old structure stands.
local removed = cjson.decode(ARGV[12])
for _, id in ipairs(removed) do
  local t = task_of(id)
  if t.status == 'running' then
    local agent = t.owner
    end_lease(t)
    push_inbox(agent, 'fenced')
  end
  if t.status ~= '' then count(goal, t.status, t.role, -1) end
  unqueue(t)
  raise_epoch_floor(t.epoch)
  t.from, t.status = t.status, 'removed'
  emit_task(t, 'remove')
  call('UNLINK', 'task:' .. id, 'task:' .. id .. ':errors', 'task:' .. id .. ':lock')
end
local revised = cjson.decode(ARGV[11])
for _, change in ipairs(revised) do
  local t = task_of(change[1])
  unqueue(t)
  if t.status ~= '' and t.role ~= change[2] then
    count(goal, t.status, t.role, -1)
    count(goal, t.status, change[2], 1)
  end
  t.role = change[2]
  call('HSET', 'task:' .. t.id, 'role', change[2], 'priority', change[3], 'seq', change[4],
    'max_attempts', change[5], 'generation', generation, 'failures', 0, 'losses', 0,
    'llm', change[6])
  call('HDEL', 'task:' .. t.id, 'detours_review', 'detours_recovery')
  forget_session(t)
  if t.status == 'running' then
    -- It finishes; its result is then not taken for the new task's.
    call('HSET', 'task:' .. t.id, 'stale', '1')
  else
    call('HDEL', 'task:' .. t.id, 'reason', 'last_error', 'artifacts', 'progress', 'finished',
      'stale', 'settled', 'not_before')
    t.generation = generation
    -- One whose record was deleted by hand has no state: that is a repair's work.
    if move(t, 'revise') then emit_task(t, 'revise') end
  end
end

local roles = call('SMEMBERS', stage .. 'roles')
for _, part in ipairs({'nodes', 'deps', 'dependents'}) do
  call('UNLINK', dag .. ':' .. part)
  if call('EXISTS', stage .. part) == 1 then call('RENAME', stage .. part, dag .. ':' .. part) end
end
for _, role in ipairs(roles) do
  local from, to = stage .. 'ready:' .. role, ready_key({goal = goal, role = role})
  if call('EXISTS', from) == 1 then
    if call('EXISTS', to) == 1 then
      call('ZUNIONSTORE', to, 2, to, from)
      call('UNLINK', from)
    else
      call('RENAME', from, to)
    end
  end
  if role ~= '' then call('SADD', dag .. ':roles', role) end
end
call('UNLINK', stage .. 'roles', stage .. 'token')
for _, fresh in ipairs(cjson.decode(ARGV[9])) do count(goal, fresh[2], fresh[1], fresh[3]) end

call('HSET', key, 'status', 'active', 'generation', generation, 'spec_hash', ARGV[6],
  'title', ARGV[7], 'tasks', ARGV[8])
if g.created == '' then call('HSET', key, 'created', iso(now)) end
call('HDEL', key, 'finished', 'reason')
call('SADD', 'goals', goal)
emit('goal-accept', 'goal', goal, 'generation', generation, 'tasks', ARGV[8],
  'fresh', ARGV[10], 'revised', #revised, 'removed', #removed)

for _, id in ipairs(cjson.decode(ARGV[13])) do relink(id, now) end
for _, change in ipairs(revised) do
  local t = task_of(change[1])
  if t.status == 'ready' then queue(t, now, 0) end
end
-- Fresh tasks wake who waits for them, one agent a task.
for _, role in ipairs(roles) do
  local waiting = call('ZCARD', ready_key({goal = goal, role = role}))
  while waiting > 0 and wake_one(goal, role) do waiting = waiting - 1 end
end
return {'accepted'}
