-- The reaper saw a lease unchanged for one TTL on its own clock.
-- ARGV: now, controller, leader_epoch, task, pulse (epoch:beat as seen), reason
-- Reply: reaped | stale (it changed since, or ended) | fenced
if not leads(ARGV[2], ARGV[3]) then return {'fenced'} end
local id = ARGV[4]
if call('HGET', 'leases', id) ~= ARGV[5] then return {'stale'} end
local now = clock(ARGV[1])
local t = task_of(id)
if t.status ~= 'running' or t.epoch .. ':' ~= string.match(ARGV[5], '^%d+:') then
  -- A lease without its task is litter, as after a restore by hand.
  call('HDEL', 'leases', id)
  return {'stale'}
end
local agent = t.owner
lose(t, now, ARGV[6])
-- The holder may only be slow: it should look up, find itself fenced and stop.
if agent ~= '' then push_inbox(agent, 'fenced') end
return {'reaped'}
