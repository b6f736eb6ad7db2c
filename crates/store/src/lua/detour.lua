-- The holder cannot go on before another task is done: that one is put into the plan in
-- front of the held one, which waits for it. No failure is counted.
-- ARGV: now, agent, incarnation, task, epoch, kind (review | recovery), limit, error,
--       id, spec (JSON), role, priority, max_attempts, llm ('1': needs a model)
-- Reply: inserted round id
--      | exhausted   the task took `limit` detours of this kind; it is still held
--      | taken       the id is in a plan already; nothing changed
--      | superseded  the plan changed while it ran: the task is READY again
--      | already     this epoch was settled before
--      | fenced      another incarnation or epoch: stop that work
local agent, incarnation, epoch, kind = ARGV[2], ARGV[3], ARGV[5], ARGV[6]
local error, id = ARGV[8], ARGV[9]
local now = clock(ARGV[1])
local t, state = held_task(agent, incarnation, ARGV[4], epoch)
if state ~= 'hold' then return {state} end
local key, dag = 'task:' .. t.id, 'dag:' .. t.goal
if t.stale == '1' then
  call('HSET', key, 'settled', epoch)
  forget_session(t)
  hand_back(t, now, 'release', 'the plan changed while it ran')
  return {'superseded'}
end
local counter = 'detours_' .. kind
local taken = tonumber(call('HGET', key, counter) or '0')
if taken >= tonumber(ARGV[7]) then
  alert('task-exhausted', t.id, 'took ' .. taken .. ' detours (' .. kind .. ') already; last: '
    .. error)
  return {'exhausted'}
end
local owner = call('HGET', 'task:' .. id, 'goal')
if (owner and owner ~= t.goal) or call('HEXISTS', dag .. ':nodes', id) == 1 then
  return {'taken'}
end

-- The new task, with the place of the one that waits for it.
local priority = math.max(tonumber(ARGV[12]), tonumber(t.priority))
call('DEL', 'task:' .. id, 'task:' .. id .. ':errors')
call('HSET', 'task:' .. id, 'goal', t.goal, 'status', 'ready', 'role', ARGV[11],
  'priority', int(priority), 'seq', t.seq, 'max_attempts', ARGV[13], 'waiting', 0,
  'generation', t.generation, 'attempt', 0, 'failures', 0, 'losses', 0, 'llm', ARGV[14],
  'epoch', int(epoch_floor()))
call('HSET', dag .. ':nodes', id, ARGV[10])
call('HSET', dag .. ':dependents', id, json_list({t.id}))
local deps = call('HGET', dag .. ':deps', t.id)
deps = deps and cjson.decode(deps) or {}
deps[#deps + 1] = id
table.sort(deps)
call('HSET', dag .. ':deps', t.id, json_list(deps))
count(t.goal, 'ready', ARGV[11], 1)
if ARGV[11] ~= '' then call('SADD', dag .. ':roles', ARGV[11]) end
call('HINCRBY', 'goal:' .. t.goal, 'tasks', 1)
call('HINCRBY', 'goal:' .. t.goal, 'inserted', 1)

-- The held one waits.
local round = int(call('HINCRBY', key, counter, 1))
t.waiting = int(call('HINCRBY', key, 'waiting', 1))
local reason = 'waits for ' .. id .. ' (' .. kind .. ' ' .. round .. ' of ' .. ARGV[7] .. ')'
call('HSET', key, 'settled', epoch)
forget_session(t)
note_error(t, now, agent, error)
hand_back(t, now, 'detour', reason)
emit('task-insert', 'goal', t.goal, 'task', id, 'to', 'ready', 'generation', t.generation,
  'before', t.id, 'reason', error)
queue(task_of(id), now, 0)
return {'inserted', round, id}
