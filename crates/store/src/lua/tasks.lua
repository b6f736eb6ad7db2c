-- Shared by the scripts that move tasks. Every change of a task's status goes
-- through move(), which refuses what the model's table does not list, and keeps
-- the goal's counts.

-- Some fields of a task's record.
local function record_of(id, ...)
  local t = fields('task:' .. id, ...)
  t.id = id
  return t
end

-- All that moving a task may need.
local function task_of(id)
  return record_of(id, 'goal', 'status', 'owner', 'incarnation', 'epoch', 'attempt', 'failures',
    'losses', 'role', 'priority', 'seq', 'max_attempts', 'waiting', 'generation', 'settled',
    'stale', 'not_before', 'llm', 'session', 'reason', 'progress')
end

local function ready_key(t)
  if t.role == '' then return 'dag:' .. t.goal .. ':ready' end
  return 'dag:' .. t.goal .. ':ready:' .. t.role
end

-- Higher priorities first, then the order of declaration. Both fit into the 53
-- bits of a score because the model bounds the priority to 20 of them.
local function score(t)
  return int(-tonumber(t.priority) * 4294967296 + tonumber(t.seq))
end

-- How the counts of goals change: added up, and written at the script's end, because a
-- task that ends and the next that begins often change the same ones.
local counted = {}

-- Counts `n` tasks more of a state and role ('' is any).
local function count(goal, state, role, n)
  local of_goal = counted[goal]
  if not of_goal then
    of_goal = {}
    counted[goal] = of_goal
  end
  local field = state .. ':' .. role
  of_goal[field] = (of_goal[field] or 0) + n
end

local function write_counts()
  for goal, of_goal in pairs(counted) do
    local key, changed = 'dag:' .. goal .. ':counts', {}
    for field, n in pairs(of_goal) do
      if n ~= 0 then changed[#changed + 1] = field end
    end
    if changed[1] then
      local kept, written = call('HMGET', key, unpack(changed)), {}
      for i, field in ipairs(changed) do
        -- What is no number is mended by a repair, which sees that the counts are wrong.
        written[2 * i - 1] = field
        written[2 * i] = int((tonumber(kept[i]) or 0) + of_goal[field])
      end
      call('HSET', key, unpack(written))
    end
  end
  counted = {}
end

-- What `cause` makes of a task in `status`; nil where it is not listed.
local function next_state(cause, status)
  return LEGAL[cause] and LEGAL[cause][status]
end

-- Moves a task, where that is legal, and sets the fields and values that follow. One that
-- does not run has no owner.
local function move(t, cause, ...)
  local from, to = t.status, next_state(cause, t.status)
  if not to then return false end
  t.from = from
  t.status = to
  if to ~= from then
    count(t.goal, from, t.role, -1)
    count(t.goal, to, t.role, 1)
    if from == 'running' then
      call('HSET', 'task:' .. t.id, 'status', to, 'owner', '', 'lease_expires', '', ...)
      return true
    end
  end
  call('HSET', 'task:' .. t.id, 'status', to, ...)
  return true
end

local function emit_task(t, cause, ...)
  emit('task-' .. cause, 'goal', t.goal, 'task', t.id, 'from', t.from, 'to', t.status,
    'generation', t.generation, ...)
end

-- One token is enough: whoever reads it looks at everything.
local function push_inbox(agent, token)
  local inbox = 'agent:' .. agent .. ':inbox'
  if call('LLEN', inbox) == 0 then call('RPUSH', inbox, token) end
end

-- Who is idle stands in one of two sets: `idle-shell` holds agents that may only
-- take tasks which need no model, as while their provider is held.
local function unset_idle(agent, goal, role)
  local member = agent .. '|' .. role
  for _, set in ipairs({':idle', ':idle-shell'}) do
    -- Who is in one of the two is in both.
    if call('SREM', 'dag:' .. goal .. set, member) == 1 then
      call('SREM', 'dag:' .. goal .. set .. ':' .. role, member)
    end
  end
end

local function set_idle(agent, goal, role, shell_only)
  unset_idle(agent, goal, role)
  local member = agent .. '|' .. role
  local all = 'dag:' .. goal .. (shell_only and ':idle-shell' or ':idle')
  call('SADD', all, member)
  call('SADD', all .. ':' .. role, member)
end

local function wake_from(all, role)
  local member = call('SPOP', role == '' and all or (all .. ':' .. role))
  if not member then return false end
  local agent, own = string.match(member, '^(.*)|(.*)$')
  call('SREM', all, member)
  call('SREM', all .. ':' .. own, member)
  push_inbox(agent, 'work')
  return true
end

-- Wakes one idle agent that may take a task of this role ('' is any); `llm` is '1'
-- where the task needs a model. Returns whether there was one.
local function wake_one(goal, role, llm)
  return wake_from('dag:' .. goal .. ':idle', role)
    or (llm ~= '1' and wake_from('dag:' .. goal .. ':idle-shell', role))
end

-- Wakes that wait until the script knows which task it grants itself: nobody
-- is woken for that one. nil where it grants none.
local deferred

local function wake_for(t)
  if deferred then deferred[#deferred + 1] = t else wake_one(t.goal, t.role, t.llm) end
end

local function wake_deferred(granted)
  local tasks = deferred or {}
  deferred = nil
  for _, t in ipairs(tasks) do
    if t.id ~= granted then wake_one(t.goal, t.role, t.llm) end
  end
end

-- A wake may have gone to an agent that cannot use it any more: it goes on to
-- another one while there is something to claim. With `llm` '1' only to one that may
-- ask a model: those that may not would pass it on for ever.
local function pass_wake(goal, role, llm)
  local dag = 'dag:' .. goal
  if call('EXISTS', dag .. ':ready:' .. role) == 1 and wake_one(goal, role, llm) then return end
  if call('EXISTS', dag .. ':ready') == 1 then wake_one(goal, '', llm) end
end

local function unqueue(t)
  call('ZREM', ready_key(t), t.id)
  call('ZREM', 'dag:' .. t.goal .. ':delayed', t.id)
  call('HDEL', 'task:' .. t.id, 'not_before')
end

-- Puts a READY task where claims find it, or where they will from
-- `delay` microseconds on.
local function queue(t, now, delay)
  local key = 'task:' .. t.id
  if delay > 0 then
    call('HSET', key, 'not_before', iso(now + delay))
    call('ZADD', 'dag:' .. t.goal .. ':delayed', int(now + delay), t.id)
    return
  end
  if t.not_before ~= '' then call('HDEL', key, 'not_before') end
  call('ZADD', ready_key(t), score(t), t.id)
  wake_for(t)
end

-- READY with open dependencies is BLOCKED; every way back to READY ends here.
local function settle_ready(t, now, delay)
  if tonumber(t.waiting) > 0 then
    move(t, 'block')
    unqueue(t)
    emit_task(t, 'block')
  else
    queue(t, now, delay)
  end
end

-- Ends the lease of a running task without saying what becomes of the task. `r` is the
-- holder's registration where it was read in this script: then the next grant writes over
-- what it says, or and_next() clears it.
local function end_lease(t, r)
  call('HDEL', 'leases', t.id)
  call('DEL', 'task:' .. t.id .. ':lock')
  local held = r or fields('agent:' .. t.owner .. ':registered', 'task', 'epoch')
  if held.task ~= t.id or held.epoch ~= t.epoch then return end
  if r then
    r.task, r.epoch, r.has_ended = '', '', true
  else
    call('HDEL', 'agent:' .. t.owner .. ':registered', 'task', 'epoch')
  end
end

local function dependents_of(t)
  local list = call('HGET', 'dag:' .. t.goal .. ':dependents', t.id)
  return list and cjson.decode(list) or {}
end

-- How many dependencies of a task are not done, and one that failed, if any.
local function open_dependencies(goal, id)
  local waiting, failed = 0, nil
  local deps = call('HGET', 'dag:' .. goal .. ':deps', id)
  for _, dep in ipairs(deps and cjson.decode(deps) or {}) do
    local status = call('HGET', 'task:' .. dep, 'status')
    if status ~= 'done' then waiting = waiting + 1 end
    if status == 'failed' and not failed then failed = dep end
  end
  return waiting, failed
end

-- A blocked task says why it waits for ever, and no longer than it does.
local function note_failed(id, failed)
  local key = 'task:' .. id
  local reason = call('HGET', key, 'reason') or ''
  if failed then
    call('HSET', key, 'reason', 'waits for ' .. failed .. ', which failed')
  elseif string.match(reason, '^waits for %S+, which failed$') then
    call('HDEL', key, 'reason')
  end
end

-- Direct dependents say so; those behind them are one `orch explain` away, and
-- the cost stays the out-degree.
local function note_dependents(t)
  for _, id in ipairs(dependents_of(t)) do
    if call('HGET', 'task:' .. id, 'status') == 'blocked' then
      if t.status == 'failed' then
        note_failed(id, t.id)
      else
        local _, failed = open_dependencies(t.goal, id)
        note_failed(id, failed)
      end
    end
  end
end

local function give_up(t, now, agent, reason)
  move(t, 'fail')
  call('HSET', 'task:' .. t.id, 'reason', reason, 'finished', iso(now))
  emit_task(t, 'fail', 'agent', agent, 'incarnation', t.incarnation, 'epoch', t.epoch,
    'attempt', t.attempt, 'reason', reason)
  note_dependents(t)
  alert('task-failed', t.id, reason)
end

-- No task that will be tried again is delayed for longer, in microseconds.
local LONGEST_DELAY = 60000000

-- From `first` seconds to LONGEST_DELAY, doubling; in microseconds.
local function doubling(first, times)
  return math.min(LONGEST_DELAY, first * 1000000 * 2 ^ math.min(times, 30))
end

-- The conversation that an attempt began: the next one begins its own.
local function forget_session(t)
  if t.session == '' then return end
  call('HDEL', 'task:' .. t.id, 'session', 'session_provider', 'session_host', 'session_log')
end

local function note_error(t, now, agent, error)
  local key = 'task:' .. t.id
  call('HSET', key, 'last_error', error)
  call('LPUSH', key .. ':errors', cjson.encode({
    agent = agent, attempt = tonumber(t.attempt), time = iso(now), error = error}))
  call('LTRIM', key .. ':errors', 0, ERRORS_KEPT - 1)
end

-- The holder is gone: back to READY, at once the first time, later and later
-- after that, and FAILED when the task has cost MAX_LOSSES agents.
local function lose(t, now, reason)
  local agent = t.owner
  local losses = tonumber(t.losses) + 1
  end_lease(t)
  call('HSET', 'task:' .. t.id, 'losses', losses, 'reason', reason)
  -- The next grant is of the plan as it is now.
  call('HDEL', 'task:' .. t.id, 'stale')
  if losses >= MAX_LOSSES then
    give_up(t, now, agent, 'lost its agent ' .. losses .. ' times; last: ' .. reason)
    return
  end
  move(t, 'lose')
  emit_task(t, 'lose', 'agent', agent, 'incarnation', t.incarnation, 'epoch', t.epoch,
    'attempt', t.attempt, 'reason', reason)
  settle_ready(t, now, losses == 1 and 0 or doubling(0.25, losses - 2))
end

-- The holder gives it back, or a person takes it away: no fault of the task. It is
-- claimable after `delay` microseconds.
local function hand_back(t, now, cause, reason, delay, r)
  local agent = t.owner
  end_lease(t, r)
  move(t, cause, 'reason', reason)
  call('HDEL', 'task:' .. t.id, 'stale')
  emit_task(t, cause, 'agent', agent, 'incarnation', t.incarnation, 'epoch', t.epoch,
    'attempt', t.attempt, 'reason', reason)
  settle_ready(t, now, delay or 0)
end

local function registration(agent)
  local v = call('HMGET', 'agent:' .. agent .. ':registered', 'incarnation', 'goal', 'cap:role',
    'task', 'epoch', 'provider')
  return {incarnation = v[1] or '', goal = v[2] or '', ['cap:role'] = v[3] or '',
    task = v[4] or '', epoch = v[5] or '', provider = v[6] or ''}
end

-- What people asked of an agent; read once, and kept with its registration.
local function control_of(agent, r)
  if not r.control then
    local v = call('HMGET', 'agent:' .. agent .. ':control', 'paused', 'flushes')
    r.control = {is_paused = v[1] == '1', flushes = v[2] or ''}
  end
  return r.control
end

-- Snapshots an agent's memory, unless a person flushed it since. Returns whether.
local function keep_memory(agent, r, flushes, memory)
  if control_of(agent, r).flushes ~= flushes then return false end
  call('SET', 'agent:' .. agent .. ':memory', memory)
  return true
end

-- What a holder may do with `t`: 'hold' it, 'already' settled it under this
-- very epoch, or it is 'fenced'.
local function standing(t, agent, incarnation, epoch)
  if t.settled == epoch then return 'already' end
  local holds = t.status == 'running' and t.owner == agent and t.epoch == epoch
    and t.incarnation == incarnation
  return holds and 'hold' or 'fenced'
end

-- The task that a holder settles, its standing (see above), and its registration. `read`
-- reads the task where not all of it is needed.
local function held_task(agent, incarnation, id, epoch, read)
  local r = registration(agent)
  if r.incarnation ~= incarnation then return nil, 'fenced' end
  local t = (read or task_of)(id)
  return t, standing(t, agent, incarnation, epoch), r
end

-- What an incarnation holds is lost when it is replaced or buried.
local function lose_task_of(agent, now, reason)
  local held = fields('agent:' .. agent .. ':registered', 'task', 'epoch')
  if held.task == '' then return '' end
  local t = task_of(held.task)
  if t.status == 'running' and t.epoch == held.epoch and t.owner == agent then
    lose(t, now, reason)
    return held.task
  end
  return ''
end

local function unblock(id, now)
  local v = call('HMGET', 'task:' .. id, 'goal', 'status', 'role', 'priority', 'seq',
    'generation', 'not_before', 'llm', 'reason')
  local t = {id = id, goal = v[1] or '', status = v[2] or '', role = v[3] or '',
    priority = v[4] or '', seq = v[5] or '', generation = v[6] or '', not_before = v[7] or '',
    llm = v[8] or '', reason = v[9] or ''}
  if t.status ~= 'blocked' then return end
  move(t, 'unblock')
  if t.reason ~= '' then call('HDEL', 'task:' .. id, 'reason') end
  emit_task(t, 'unblock')
  queue(t, now, 0)
end

-- Counts what a task still waits for, from its dependencies' states, and makes
-- its own state agree.
local function relink(id, now)
  local t = task_of(id)
  local waiting, failed = open_dependencies(t.goal, id)
  if t.waiting ~= tostring(waiting) then call('HSET', 'task:' .. id, 'waiting', waiting) end
  t.waiting = waiting
  if t.status == 'ready' and waiting > 0 then
    move(t, 'block')
    unqueue(t)
    emit_task(t, 'block')
    note_failed(id, failed)
    return 1
  elseif t.status == 'blocked' and waiting == 0 then
    unblock(id, now)
    return 1
  elseif t.status == 'blocked' then
    note_failed(id, failed)
  end
  return 0
end

-- Epochs must grow also for a task that is removed and comes back, or whose record was
-- deleted by hand, whatever the clock does meanwhile: the highest of all is kept here, and
-- a record that begins begins with it. Not a microsecond more, so as to write it seldom: an
-- epoch ahead of the clock is granted a second time by a Redis that is restored.
local FLOOR = 'orchestrator:epoch-floor'

local function epoch_floor() return tonumber(call('GET', FLOOR) or '0') end

local function raise_epoch_floor(epoch)
  local outgrown = tonumber(epoch)
  if not outgrown then return end
  local highest = call('SET', FLOOR, epoch, 'GET')
  if highest and tonumber(highest) > outgrown then call('SET', FLOOR, highest) end
end

-- When a parked task would be due: the year 9999. Only a person or another plan brings
-- it back.
local PARKED = 253370764800000000

-- Moves what has waited long enough to where claims find it. Returns when the
-- next one is due, in microseconds, or ''.
local function promote(goal, now, limit)
  local delayed = 'dag:' .. goal .. ':delayed'
  if call('EXISTS', delayed) == 0 then return '' end
  local function requeue(from, to)
    for _, id in ipairs(call('ZRANGEBYSCORE', delayed, from, to, 'LIMIT', 0, limit)) do
      call('ZREM', delayed, id)
      local t = task_of(id)
      if t.status == 'ready' then queue(t, now, 0) end
    end
  end
  requeue('-inf', int(now))
  -- Nothing is delayed for so long: the clock was set back since, and waiting until it
  -- is there again would take as long.
  requeue('(' .. int(now + LONGEST_DELAY), '(' .. int(PARKED))
  local next = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  local due = tonumber(next[2] or PARKED)
  return due < PARKED and int(due) or ''
end

-- Whether one that waits for work should look by itself: there is something to claim, or
-- will be as soon as somebody looks, or nobody would wake it.
local function misses_work(agent, goal, role, now)
  local dag, member = 'dag:' .. goal, agent .. '|' .. role
  if call('EXISTS', dag .. ':ready', dag .. ':ready:' .. role) > 0 then return true end
  local due = tonumber(call('ZRANGE', dag .. ':delayed', '0', '0', 'WITHSCORES')[2])
  if due and (due <= now or due > now + LONGEST_DELAY and due < PARKED) then return true end
  return call('SISMEMBER', dag .. ':idle', member) == 0
    and call('SISMEMBER', dag .. ':idle-shell', member) == 0
end

-- The goal in whose plan a stored id is; nil where it is only reserved or staged.
local function goal_of(id)
  local goal = call('HGET', 'task:' .. id, 'goal')
  return goal and call('HEXISTS', 'dag:' .. goal .. ':nodes', id) == 1 and goal or nil
end

-- The stored id of what a person calls `id`, seen from `goal` ('' is nowhere):
-- that goal's own task first, then the only one of that name. Else nil and why.
local function resolve(goal, id)
  if goal ~= '' and goal_of(goal .. '.' .. id) == goal then return goal .. '.' .. id end
  local owner = goal_of(id)
  if owner == goal then return id end
  local found = owner and {id} or {}
  for _, other in ipairs(call('SMEMBERS', 'goals')) do
    if goal_of(other .. '.' .. id) == other then found[#found + 1] = other .. '.' .. id end
  end
  if #found > 1 then
    return nil, 'several goals have a task ' .. id .. ': say which, as <goal>.' .. id
  elseif found[1] then
    return found[1]
  end
  local first, rest = string.match(id, '^(.-)%.(.+)$')
  while first do
    if goal_of(rest) == first then return rest end
    local more, tail = string.match(rest, '^(.-)%.(.+)$')
    first, rest = more and first .. '.' .. more, tail
  end
  return nil, 'there is no task ' .. id
end
