-- Sets a goal's status from its tasks.
-- ARGV: now, controller, leader_epoch, goal, generation, status, reason, then the
--       counts it follows from: blocked, ready, running, done, failed
-- Reply: changed | already | stale (the counts or the plan changed, or there is no plan) | fenced
if not leads(ARGV[2], ARGV[3]) then return {'fenced'} end
local now = clock(ARGV[1])
local goal, status = ARGV[4], ARGV[6]
local key = 'goal:' .. goal
local g = fields(key, 'status', 'generation', 'title')
if g.generation ~= ARGV[5] or g.generation == '0' then return {'stale'} end
local by_role, counts = call('HGETALL', 'dag:' .. goal .. ':counts'), {}
for i = 1, #by_role, 2 do
  local state = string.match(by_role[i], '^(%a+):')
  if state then counts[state] = (counts[state] or 0) + (tonumber(by_role[i + 1]) or 0) end
end
for i, state in ipairs({'blocked', 'ready', 'running', 'done', 'failed'}) do
  if (counts[state] or 0) ~= tonumber(ARGV[7 + i]) then return {'stale'} end
end
if g.status == status then return {'already'} end
call('HSET', key, 'status', status)
if status == 'active' then
  call('HDEL', key, 'finished', 'reason')
else
  call('HSET', key, 'finished', iso(now), 'reason', ARGV[7])
  alert('goal-' .. status, goal, ARGV[7])
end
emit('goal-' .. status, 'goal', goal, 'from', g.status, 'generation', ARGV[5],
  'reason', ARGV[7])
return {'changed'}
