-- Shared by the scripts that grant a lease. `ttl_ms` is a text: one that is only handed
-- on is not worth writing out anew.

-- The most delayed tasks that one claim looks at; the rest is the DAG
-- controller's.
local PROMOTED_PER_CLAIM = 16
-- The most queue entries that one claim may find out of date.
local STALE_PER_CLAIM = 16
-- The most entries of one queue among which tasks are chosen.
local CHOICE = 64
-- The most errors that a holder is told.
local ERRORS_TOLD = 5

local function errors_of(t)
  local errors = {}
  if tonumber(t.attempt) > 1 then
    for i, text in ipairs(call('LRANGE', 'task:' .. t.id .. ':errors', 0, ERRORS_TOLD - 1)) do
      errors[i] = cjson.decode(text).error
    end
  end
  return json_list(errors)
end

local function grant_reply(t)
  local spec = call('HGET', 'dag:' .. t.goal .. ':nodes', t.id) or ''
  -- All of this comes of attempts before.
  if t.attempt == '1' and t.session == '' then
    return {'granted', t.id, t.epoch, t.attempt, t.generation, t.goal, spec, '', '', '', '', '',
      '[]', '0', '0'}
  end
  local k = fields('task:' .. t.id, 'last_error', 'session', 'session_provider', 'session_host',
    'session_log', 'detours_review', 'detours_recovery')
  return {'granted', t.id, t.epoch, t.attempt, t.generation, t.goal, spec, k.last_error,
    k.session, k.session_provider, k.session_host, k.session_log, errors_of(t),
    int(tonumber(k.detours_review) or 0), int(tonumber(k.detours_recovery) or 0)}
end

-- The epoch outgrows the old one and the clock, so that neither a clock that
-- jumps back nor a Redis restored from an older file grants one twice.
local function grant(t, now, agent, incarnation, ttl_ms)
  if not t.is_taken then call('ZREM', ready_key(t), t.id) end
  t.epoch = int(math.max((tonumber(t.epoch) or 0) + 1, now))
  raise_epoch_floor(t.epoch)
  t.attempt = int(tonumber(t.attempt) + 1)
  t.owner = agent
  t.incarnation = incarnation
  local key = 'task:' .. t.id
  move(t, 'claim', 'owner', agent, 'incarnation', incarnation, 'epoch', t.epoch,
    'attempt', t.attempt, 'started', iso(now), 'lease_expires', iso(now + ttl_ms * 1000))
  if t.reason .. t.progress .. t.not_before .. t.stale ~= '' then
    call('HDEL', key, 'reason', 'progress', 'not_before', 'stale')
  end
  call('SET', key .. ':lock', agent, 'PX', ttl_ms)
  call('HSET', 'leases', t.id, t.epoch .. ':0')
  call('HSET', 'agent:' .. agent .. ':registered', 'task', t.id, 'epoch', t.epoch)
  emit_task(t, 'claim', 'agent', agent, 'incarnation', incarnation, 'epoch', t.epoch,
    'attempt', t.attempt)
  return grant_reply(t)
end

-- Takes the best entry that is really READY out of the queue of a goal and role ('' is any);
-- entries that are not are leftovers. nil where there is none.
local function take_first(key, goal, role)
  for _ = 1, STALE_PER_CLAIM do
    local id = call('ZPOPMIN', key)[1]
    if not id then return nil end
    -- All that a grant needs.
    local v = call('HMGET', 'task:' .. id, 'status', 'epoch', 'attempt', 'generation',
      'session', 'reason', 'progress', 'not_before', 'stale')
    if v[1] == 'ready' then
      return {id = id, goal = goal, role = role, status = v[1], epoch = v[2] or '',
        attempt = v[3] or '', generation = v[4] or '', session = v[5] or '', reason = v[6] or '',
        progress = v[7] or '', not_before = v[8] or '', stale = v[9] or '', is_taken = true}
    end
  end
  return nil
end

-- The first entries of one queue that are really READY, at most `most`; with `shell_only`
-- those that need no model.
local function heads(key, shell_only, most)
  local found = {}
  local entries = call('ZRANGE', key, 0, CHOICE - 1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local t = task_of(entries[i])
    if t.status ~= 'ready' then
      call('ZREM', key, t.id)
    elseif not (shell_only and t.llm == '1') then
      t.score = tonumber(entries[i + 1])
      found[#found + 1] = t
      if #found == most then break end
    end
  end
  return found
end

local function pick(goal, role, shell_only)
  local any_key, own_key = 'dag:' .. goal .. ':ready', 'dag:' .. goal .. ':ready:' .. role
  if shell_only then
    local any, own = heads(any_key, true, 1)[1], heads(own_key, true, 1)[1]
    if any and own then return own.score < any.score and own or any end
    return any or own
  end
  if call('EXISTS', own_key) == 0 then return take_first(any_key, goal, '') end
  if call('EXISTS', any_key) == 0 then return take_first(own_key, goal, role) end
  local any = call('ZRANGE', any_key, '0', '0', 'WITHSCORES')
  local own = call('ZRANGE', own_key, '0', '0', 'WITHSCORES')
  -- A leftover can only mislead about where to look first.
  if tonumber(own[2]) < tonumber(any[2]) then
    return take_first(own_key, goal, role) or take_first(any_key, goal, '')
  end
  return take_first(any_key, goal, '') or take_first(own_key, goal, role)
end

-- The task that its registration says the agent runs, where it does.
local function running_of(agent, r)
  if r.task == '' then return nil end
  local t = task_of(r.task)
  return t.status == 'running' and t.epoch == r.epoch and t.owner == agent and t or nil
end

-- Nothing that this agent may claim now: it is idle, for tasks that need no model where
-- it is `held`. A wake that it got for another task goes on.
local function nothing_for(agent, r, held)
  set_idle(agent, r.goal, r['cap:role'], held)
  if not held then return {'empty'} end
  pass_wake(r.goal, r['cap:role'], '1')
  return {'held', held.reason, held.until_us}
end

local function choose(agent, r, now, ttl_ms, wanted)
  local running = running_of(agent, r)
  if running then return grant_reply(running) end
  local goal, role = r.goal, r['cap:role']
  if control_of(agent, r).is_paused then
    pass_wake(goal, role)
    return {'held', 'paused', ''}
  end
  local held
  if call('HGET', 'goal:' .. goal, 'status') == 'active' then
    promote(goal, now, PROMOTED_PER_CLAIM)
    held = held_for(agent, r, now)
    local t
    if wanted == '' then
      t = pick(goal, role, held)
    else
      t = task_of(wanted)
      if held and t.llm == '1' then return nothing_for(agent, r, held) end
      local mine = t.goal == goal and (t.role == '' or t.role == role)
      if not (mine and t.status == 'ready' and call('ZSCORE', ready_key(t), wanted)) then
        return {'taken', wanted}
      end
    end
    if t then
      -- Who held a task a moment ago is not idle.
      if not r.has_ended then unset_idle(agent, goal, role) end
      return grant(t, now, agent, r.incarnation, ttl_ms)
    end
  end
  return nothing_for(agent, r, held)
end

-- Grants `agent` a task: the one it already holds, else `wanted`, else the best
-- of its goal and role. `r` is its registration.
local function claim_for(agent, r, now, ttl_ms, wanted)
  deferred = deferred or {}
  local reply = choose(agent, r, now, ttl_ms, wanted)
  wake_deferred(reply[1] == 'granted' and reply[2])
  return reply
end

-- The tail of complete and fail: what came of it, then the next grant, if asked and not
-- fenced. `r` is the agent's registration, as end_lease() left it.
local function and_next(result, agent, r, now, ttl_ms, wants_next)
  local reply, granted = {}, false
  if wants_next == '1' and result ~= 'fenced' then
    reply = claim_for(agent, r, now, ttl_ms, '')
    granted = reply[1] == 'granted'
  end
  if r and r.has_ended and not granted then
    call('HDEL', 'agent:' .. agent .. ':registered', 'task', 'epoch')
  end
  return {result, unpack(reply)}
end
