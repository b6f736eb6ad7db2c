-- Recounts one goal and puts every task where its state says. It runs only when
-- the controller found that the goal's figures cannot be right.
-- ARGV: now, controller, leader_epoch, goal
-- Reply: repaired changes | fenced
-- Cost: the whole DAG; everything else waits meanwhile.
if not leads(ARGV[2], ARGV[3]) then return {'fenced'} end
local now = clock(ARGV[1])
local goal = ARGV[4]
local dag = 'dag:' .. goal
local generation = call('HGET', 'goal:' .. goal, 'generation') or '0'
local changes = 0

-- What a task's record must hold for the other scripts to work on it.
local function defaults(spec)
  return {role = type(spec.role) == 'string' and spec.role or '', priority = spec.priority or 0,
    seq = 0, max_attempts = spec.max_attempts or DEFAULT_MAX_ATTEMPTS, waiting = 1, attempt = 0,
    failures = 0, losses = 0, generation = generation}
end

local function mend(id)
  local t, key = task_of(id), 'task:' .. id
  local readable, spec = pcall(cjson.decode, call('HGET', dag .. ':nodes', id))
  local right = defaults(readable and type(spec) == 'table' and spec or {})
  local held = call('HGET', 'leases', id)
  if t.goal ~= goal or not LEGAL.known[t.status]
    or (t.status == 'running' and (t.owner == '' or not tonumber(t.epoch))) then
    -- The task's own record is gone, as after a deletion by hand: it starts anew,
    -- above every epoch that somebody may still hold.
    local epoch = math.max(tonumber(t.epoch) or 0, epoch_floor(),
      tonumber(held and string.match(held, '^(%d+):') or '0'))
    call('HSET', key, 'goal', goal, 'status', 'blocked', 'epoch', int(epoch))
    call('HDEL', key, 'owner', 'lease_expires', 'settled', 'stale', 'not_before')
    call('HDEL', 'leases', id)
    for name, value in pairs(right) do
      if t[name] == '' then call('HSET', key, name, value) end
    end
    return changes + 1
  end
  for name, value in pairs(right) do
    if name ~= 'role' and not tonumber(t[name]) then
      call('HSET', key, name, value)
      changes = changes + 1
    end
  end
  if t.status == 'running' and not held then
    call('HSET', 'leases', id, t.epoch .. ':0')
    changes = changes + 1
  end
  return changes
end

local ids = call('HKEYS', dag .. ':nodes')
for _, id in ipairs(ids) do changes = mend(id) end
for _, id in ipairs(ids) do changes = changes + relink(id, now) end

local counts, tasks = {}, {}
for _, id in ipairs(ids) do
  local t = task_of(id)
  tasks[id] = t
  counts[t.status] = (counts[t.status] or 0) + 1
  if t.role ~= '' then changes = changes + call('SADD', dag .. ':roles', t.role) end
end

-- A READY task stands in one queue, and nothing else in any; the delayed come
-- last, so that what stands in two is claimable.
local queued = {}
local queues = {dag .. ':ready'}
for _, role in ipairs(call('SMEMBERS', dag .. ':roles')) do
  queues[#queues + 1] = dag .. ':ready:' .. role
end
queues[#queues + 1] = dag .. ':delayed'
for n, key in ipairs(queues) do
  for _, id in ipairs(call('ZRANGE', key, 0, -1)) do
    local t = tasks[id]
    local belongs = t and t.status == 'ready' and not queued[id]
      and (n == #queues or key == ready_key(t))
    if belongs then
      queued[id] = true
    else
      call('ZREM', key, id)
      changes = changes + 1
    end
  end
end
for _, id in ipairs(ids) do
  if tasks[id].status == 'ready' and not queued[id] then
    queue(tasks[id], now, 0)
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
