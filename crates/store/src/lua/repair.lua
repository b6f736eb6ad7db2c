-- Puts every task of a goal where its state says and recounts them. It runs only when
-- the controller found that the goal's figures cannot be right.
-- ARGV: now, controller, leader_epoch, goal, changes, then ids
--   with ids: looks at the records of these tasks; changes is ''
--   without: the last step, after all ids; sets the queues and the counts right.
--   changes is how many the steps before made
-- Reply: repaired changes | fenced
-- Cost: the records of a chunk; then a few fields of every task. A large goal must not
--   keep Redis busy for longer than others wait for an answer.
-- Again: nothing is left to mend.
if not leads(ARGV[2], ARGV[3]) then return {'fenced'} end
local now = clock(ARGV[1])
local goal = ARGV[4]
local dag = 'dag:' .. goal
local generation = call('HGET', 'goal:' .. goal, 'generation') or '0'
local changes = 0

local NUMBERS = {'priority', 'seq', 'max_attempts', 'waiting', 'attempt', 'failures', 'losses',
  'generation'}

-- What a task's record must hold for the other scripts to work on it.
local function defaults(spec)
  return {role = type(spec.role) == 'string' and spec.role or '', priority = spec.priority or 0,
    seq = 0, max_attempts = spec.max_attempts or DEFAULT_MAX_ATTEMPTS, waiting = 1, attempt = 0,
    failures = 0, losses = 0, generation = generation, llm = spec.run and '' or '1'}
end

-- The task's own record is gone, as after a deletion by hand: it starts anew, above
-- every epoch that somebody may still hold.
local function begin_anew(t, right, held)
  local key = 'task:' .. t.id
  local epoch = math.max(tonumber(t.epoch) or 0, epoch_floor(),
    tonumber(held and string.match(held, '^(%d+):') or '0'))
  emit('task-repair', 'goal', goal, 'task', t.id, 'from', t.status, 'to', 'blocked',
    'generation', tonumber(t.generation) and t.generation or generation, 'epoch', int(epoch))
  call('HSET', key, 'goal', goal, 'status', 'blocked', 'epoch', int(epoch))
  call('HDEL', key, 'owner', 'lease_expires', 'settled', 'stale', 'not_before')
  call('HDEL', 'leases', t.id)
  for name, value in pairs(right) do
    if t[name] == '' then call('HSET', key, name, value) end
  end
end

-- Whether something had to be mended.
local function mend(t, spec_json, held)
  local broken = t.goal ~= goal or not string.find(STATES, ' ' .. t.status .. ' ', 1, true)
    or (t.status == 'running' and (t.owner == '' or not tonumber(t.epoch)))
  local incomplete = false
  for _, name in ipairs(NUMBERS) do incomplete = incomplete or not tonumber(t[name]) end
  if broken or incomplete then
    local readable, spec = pcall(cjson.decode, spec_json)
    local right = defaults(readable and type(spec) == 'table' and spec or {})
    if broken then begin_anew(t, right, held) end
    for _, name in ipairs(NUMBERS) do
      if not tonumber(t[name]) then call('HSET', 'task:' .. t.id, name, right[name]) end
    end
  elseif t.status == 'running' and not held then
    call('HSET', 'leases', t.id, t.epoch .. ':0')
    return true
  end
  return broken or incomplete
end

for i = 6, #ARGV do
  local id = ARGV[i]
  local spec_json = call('HGET', dag .. ':nodes', id)
  if spec_json then
    if mend(task_of(id), spec_json, call('HGET', 'leases', id)) then changes = changes + 1 end
    changes = changes + relink(id, now)
  end
end
if #ARGV > 5 then return {'repaired', changes} end

local tasks, counts, roles = {}, {}, {}
for _, id in ipairs(call('HKEYS', dag .. ':nodes')) do
  local t = fields('task:' .. id, 'status', 'role')
  t.goal = goal
  tasks[id] = t
  local name = t.status .. ':' .. t.role
  counts[name] = (counts[name] or 0) + 1
  if t.role ~= '' then roles[t.role] = true end
end
for role in pairs(roles) do changes = changes + call('SADD', dag .. ':roles', role) end

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
for id, t in pairs(tasks) do
  if t.status == 'ready' and not queued[id] then
    queue(task_of(id), now, 0)
    changes = changes + 1
  end
end
local found = call('HGETALL', dag .. ':counts')
for i = 1, #found, 2 do
  counts[found[i]] = counts[found[i]] or 0
  if tonumber(found[i + 1]) == counts[found[i]] then counts[found[i]] = nil end
end
for name, right in pairs(counts) do
  call('HSET', dag .. ':counts', name, right)
  changes = changes + 1
end
changes = changes + tonumber(ARGV[5])
emit('goal-repair', 'goal', goal, 'changes', changes)
return {'repaired', changes}
