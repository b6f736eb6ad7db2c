-- Records a failed attempt: another try after a delay, or FAILED for good.
-- ARGV: now, agent, incarnation, task, epoch, error, permanent ('1' or ''),
--       jitter (0 to 1), wants_next ('1' or ''), ttl_ms
-- Reply: retry ..   it will be READY again after 1 s, doubling to 60 s, less jitter
--      | failed ..  that was the last allowed attempt
--      | already .. this epoch was settled before
--      | fenced     another incarnation or epoch: stop that work
--      each followed, if asked, by what claim.lua replies
local agent, incarnation, id, epoch, error = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local now = clock(ARGV[1])
local ttl_ms = tonumber(ARGV[10])
if registration(agent).incarnation ~= incarnation then return {'fenced'} end
local t = task_of(id)
local state = standing(t, agent, incarnation, epoch)
if state == 'fenced' then return {'fenced'} end
if state == 'already' then return and_next('already', agent, now, ttl_ms, ARGV[9]) end

local key = 'task:' .. id
-- A plan that changed meanwhile starts the count anew.
local changed = t.stale == '1'
local failures = changed and 0 or tonumber(t.failures) + 1
end_lease(t)
call('HSET', key, 'settled', epoch, 'failures', failures, 'last_error', error)
call('HDEL', key, 'stale')
call('LPUSH', key .. ':errors', cjson.encode({
  agent = agent, attempt = tonumber(t.attempt), time = iso(now), error = error}))
call('LTRIM', key .. ':errors', 0, ERRORS_KEPT - 1)
if not changed and (ARGV[7] == '1' or failures >= tonumber(t.max_attempts)) then
  give_up(t, now, agent, error)
  return and_next('failed', agent, now, ttl_ms, ARGV[9])
end
move(t, 'retry')
local delay = doubling(1, math.max(failures - 1, 0)) * (1 - 0.5 * tonumber(ARGV[8]))
call('HSET', key, 'reason', 'attempt ' .. t.attempt .. ' failed; it is tried again')
emit_task(t, 'retry', 'agent', agent, 'incarnation', incarnation, 'epoch', epoch,
  'attempt', t.attempt, 'reason', error)
settle_ready(t, now, math.floor(delay))
return and_next('retry', agent, now, ttl_ms, ARGV[9])
