-- Records a failed attempt: another try after a delay, or FAILED for good.
-- ARGV: now, agent, incarnation, task, epoch, error, permanent ('1' or ''),
--       jitter (0 to 1), wants_next ('1' or ''), ttl_ms, flushes,
--       memory (JSON list; '' is as before)
-- Reply: retry ..   it will be READY again after 1 s, doubling to 60 s, less jitter
--      | failed ..  that was the last allowed attempt
--      | already .. this epoch was settled before
--      | fenced     another incarnation or epoch: stop that work
--      each followed, if asked, by what claim.lua replies
local agent, incarnation, id, epoch, error = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local now = clock(ARGV[1])
local ttl_ms = ARGV[10]
local t, state, r = held_task(agent, incarnation, id, epoch)
if state ~= 'hold' then return and_next(state, agent, r, now, ttl_ms, ARGV[9]) end

if ARGV[12] ~= '' then keep_memory(agent, r, ARGV[11], ARGV[12]) end
local key = 'task:' .. id
-- A plan that changed meanwhile starts the count anew.
local changed = t.stale == '1'
local failures = changed and 0 or tonumber(t.failures) + 1
end_lease(t, r)
call('HSET', key, 'settled', epoch, 'failures', failures)
call('HDEL', key, 'stale')
forget_session(t)
note_error(t, now, agent, error)
if not changed and (ARGV[7] == '1' or failures >= tonumber(t.max_attempts)) then
  give_up(t, now, agent, error)
  return and_next('failed', agent, r, now, ttl_ms, ARGV[9])
end
move(t, 'retry', 'reason', 'attempt ' .. t.attempt .. ' failed; it is tried again')
local delay = doubling(1, math.max(failures - 1, 0)) * (1 - 0.5 * tonumber(ARGV[8]))
emit_task(t, 'retry', 'agent', agent, 'incarnation', incarnation, 'epoch', epoch,
  'attempt', t.attempt, 'reason', error)
settle_ready(t, now, math.floor(delay))
return and_next('retry', agent, r, now, ttl_ms, ARGV[9])
