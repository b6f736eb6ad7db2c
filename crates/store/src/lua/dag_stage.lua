-- Writes one chunk of a plan beside the one in force. Nothing can be claimed
-- from it before dag_accept.lua switches.
-- ARGV: controller, leader_epoch, goal, generation, token (one for each plan that is
--       written), first ('1' or ''), then per task:
--       id, spec (JSON), deps (JSON), dependents (JSON), fresh ('1': not in the
--       plan in force), role, priority, seq, max_attempts, waiting,
--       llm ('1': needs a model)
-- Reply: staged | stale (that generation is in force already, or another plan is
--         being written: a plan is never made of chunks of two) | fenced
-- Again: the same chunk leaves the same state.
if not leads(ARGV[1], ARGV[2]) then return {'fenced'} end
local goal, generation, token = ARGV[3], ARGV[4], ARGV[5]
local dag = 'dag:' .. goal
if (tonumber(call('HGET', 'goal:' .. goal, 'generation') or '0')) >= tonumber(generation) then
  return {'stale'}
end
local stage = dag .. ':stage:'
if ARGV[6] == '1' then
  for _, role in ipairs(call('SMEMBERS', stage .. 'roles')) do
    call('UNLINK', stage .. 'ready:' .. role)
  end
  call('UNLINK', stage .. 'nodes', stage .. 'deps', stage .. 'dependents', stage .. 'roles')
  call('SET', stage .. 'token', token)
elseif call('GET', stage .. 'token') ~= token then
  return {'stale'}
end
local epoch = int(epoch_floor())
-- A task that a detour put into the plan since it was read is not fresh: its record is
-- not to be written over. dag_accept.lua would refuse this plan as well.
if call('HEXISTS', 'goal:' .. goal, 'inserted') == 1 then
  for i = 7, #ARGV, 11 do
    if ARGV[i + 4] == '1' and call('HEXISTS', dag .. ':nodes', ARGV[i]) == 1 then
      return {'stale'}
    end
  end
end
-- Fields and values, or scores and members, by key: written in one call each. Numbers
-- are texts here: Redis would write each out anew.
local structure, queues, roles = {nodes = {}, deps = {}, dependents = {}}, {}, {}
local function add(list, name, value)
  local n = #list
  list[n + 1], list[n + 2] = name, value
end
for i = 7, #ARGV, 11 do
  local id, role, waiting = ARGV[i], ARGV[i + 5], ARGV[i + 9]
  add(structure.nodes, id, ARGV[i + 1])
  if ARGV[i + 2] ~= '[]' then add(structure.deps, id, ARGV[i + 2]) end
  if ARGV[i + 3] ~= '[]' then add(structure.dependents, id, ARGV[i + 3]) end
  -- '' is any role; the set holds it as '' too.
  roles[role] = true
  if ARGV[i + 4] == '1' then
    call('HSET', 'task:' .. id, 'goal', goal, 'status', waiting == '0' and 'ready' or 'blocked',
      'role', role, 'priority', ARGV[i + 6], 'seq', ARGV[i + 7], 'max_attempts', ARGV[i + 8],
      'waiting', waiting, 'generation', generation, 'attempt', '0', 'failures', '0',
      'losses', '0', 'llm', ARGV[i + 10], 'epoch', epoch)
    if waiting == '0' then
      local t = {priority = ARGV[i + 6], seq = ARGV[i + 7]}
      queues[role] = queues[role] or {}
      add(queues[role], score(t), id)
    end
  end
end
for part, pairs_of in pairs(structure) do
  if pairs_of[1] then call('HSET', stage .. part, unpack(pairs_of)) end
end
for role, entries in pairs(queues) do call('ZADD', stage .. 'ready:' .. role, unpack(entries)) end
for role in pairs(roles) do call('SADD', stage .. 'roles', role) end
return {'staged'}
