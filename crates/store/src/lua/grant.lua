-- Shared by the scripts that grant a lease.

-- The most delayed tasks that one claim looks at; the rest is the DAG
-- controller's.
local PROMOTED_PER_CLAIM = 16
-- The most queue entries that one claim may find out of date.
local STALE_PER_CLAIM = 16

local function grant_reply(t)
  local spec = call('HGET', 'dag:' .. t.goal .. ':nodes', t.id) or ''
  local error = call('HGET', 'task:' .. t.id, 'last_error') or ''
  return {'granted', t.id, t.epoch, t.attempt, t.generation, t.goal, spec, error}
end

-- The epoch outgrows the old one and the clock, so that neither a clock that
-- jumps back nor a Redis restored from an older file grants one twice.
local function grant(t, now, agent, incarnation, ttl_ms)
  call('ZREM', ready_key(t), t.id)
  move(t, 'claim')
  t.epoch = int(math.max((tonumber(t.epoch) or 0) + 1, now))
  t.attempt = int(tonumber(t.attempt) + 1)
  t.owner = agent
  t.incarnation = incarnation
  local key = 'task:' .. t.id
  call('HSET', key, 'owner', agent, 'incarnation', incarnation, 'epoch', t.epoch,
    'attempt', t.attempt, 'lease_expires', iso(now + ttl_ms * 1000), 'started', iso(now))
  call('HDEL', key, 'reason', 'progress', 'not_before', 'stale')
  call('SET', key .. ':lock', agent, 'PX', ttl_ms)
  call('HSET', 'leases', t.id, t.epoch .. ':0')
  call('HSET', 'agent:' .. agent .. ':registered', 'task', t.id, 'epoch', t.epoch)
  emit_task(t, 'claim', 'agent', agent, 'incarnation', incarnation, 'epoch', t.epoch,
    'attempt', t.attempt)
  return grant_reply(t)
end

-- The best entry of one queue that is really READY; entries that are not are
-- leftovers and are removed.
local function head(key)
  for _ = 1, STALE_PER_CLAIM do
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if not first[1] then return nil end
    local t = task_of(first[1])
    if t.status == 'ready' then return t, tonumber(first[2]) end
    call('ZREM', key, first[1])
  end
  return nil
end

local function pick(goal, role)
  local any, any_score = head('dag:' .. goal .. ':ready')
  local own, own_score = head('dag:' .. goal .. ':ready:' .. role)
  if any and own then return own_score < any_score and own or any end
  return any or own
end

local function choose(agent, r, now, ttl_ms, wanted)
  if r.task ~= '' then
    local t = task_of(r.task)
    if t.status == 'running' and t.epoch == r.epoch and t.owner == agent then
      return grant_reply(t)
    end
  end
  local goal, role = r.goal, r['cap:role']
  if call('HGET', 'agent:' .. agent .. ':control', 'paused') == '1' then
    pass_wake(goal, role)
    return {'held', 'paused'}
  end
  if call('HGET', 'goal:' .. goal, 'status') == 'active' then
    promote(goal, now, PROMOTED_PER_CLAIM)
    local t
    if wanted == '' then
      t = pick(goal, role)
    else
      t = task_of(wanted)
      local mine = t.goal == goal and (t.role == '' or t.role == role)
      if not (mine and t.status == 'ready' and call('ZSCORE', ready_key(t), wanted)) then
        return {'taken', wanted}
      end
    end
    if t then
      unset_idle(agent, goal, role)
      return grant(t, now, agent, r.incarnation, ttl_ms)
    end
  end
  set_idle(agent, goal, role)
  return {'empty'}
end

-- Grants `agent` a task: the one it already holds, else `wanted`, else the best
-- of its goal and role. `r` is its registration.
local function claim_for(agent, r, now, ttl_ms, wanted)
  deferred = deferred or {}
  local reply = choose(agent, r, now, ttl_ms, wanted)
  wake_deferred(reply[1] == 'granted' and reply[2])
  return reply
end

local function registration(agent)
  return fields('agent:' .. agent .. ':registered', 'incarnation', 'goal', 'cap:role', 'task',
    'epoch')
end

-- What a holder may do with `t`: 'hold' it, 'already' settled it under this
-- very epoch, or it is 'fenced'.
local function standing(t, agent, incarnation, epoch)
  if t.settled == epoch then return 'already' end
  local holds = t.status == 'running' and t.owner == agent and t.epoch == epoch
    and t.incarnation == incarnation
  return holds and 'hold' or 'fenced'
end

-- The tail of complete and fail: what came of it, then the next grant, if asked.
local function and_next(result, agent, now, ttl_ms, wants_next)
  local reply = {result}
  if wants_next == '1' then
    for _, value in ipairs(claim_for(agent, registration(agent), now, ttl_ms, '')) do
      reply[#reply + 1] = value
    end
  end
  return reply
end
