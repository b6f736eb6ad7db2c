-- One sign of life: the agent's heartbeat, the renewal of the lease it holds,
-- and back what it should know.
-- ARGV: now, agent, incarnation, ttl_ms, task ('' is none), epoch, progress ('' is as before),
--       waits ('1': it has nothing to do until it is woken)
-- Reply: ok lease paused flushes reparses task epoch should_claim
--        lease: '' (none named) | ok | fenced (stop that work)
--        task, epoch: what Redis says that it holds
--        should_claim: '1' where one that waits had better claim: a wake was lost
--      | fenced  a newer incarnation exists, or none: exit
local agent, ttl_ms, id = ARGV[2], ARGV[4], ARGV[5]
local now = clock(ARGV[1])
local registered = 'agent:' .. agent .. ':registered'
local r = fields(registered, 'incarnation', 'task', 'epoch', 'beat', 'goal', 'cap:role')
if r.incarnation ~= ARGV[3] then return {'fenced'} end
call('SET', 'agent:' .. agent .. ':heartbeat', iso(now), 'PX', ttl_ms)
local beat = next_beat(r.beat, now)
call('HSET', registered, 'beat', beat)
local lease = ''
if id ~= '' then
  local t = record_of(id, 'status', 'owner', 'incarnation', 'epoch', 'settled')
  lease = standing(t, agent, ARGV[3], ARGV[6]) == 'hold' and 'ok' or 'fenced'
  if lease == 'ok' then
    local key = 'task:' .. id
    call('HSET', 'leases', id, t.epoch .. ':' .. beat)
    call('SET', key .. ':lock', agent, 'PX', ttl_ms)
    call('HSET', key, 'lease_expires', iso(now + tonumber(ttl_ms) * 1000))
    if ARGV[7] ~= '' then call('HSET', key, 'progress', ARGV[7]) end
  end
end
local control = fields('agent:' .. agent .. ':control', 'paused', 'flushes', 'reparses')
local should_claim = ''
if ARGV[8] == '1' and control.paused ~= '1' and misses_work(agent, r.goal, r['cap:role'], now) then
  should_claim = '1'
end
return {'ok', lease, control.paused, control.flushes, control.reparses, r.task, r.epoch,
  should_claim}
