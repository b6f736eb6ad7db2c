-- A caller gives up waiting for a slot.
-- ARGV: now, the caller (five words; see caller_of), goal
-- Reply: left | already (it does not wait, or another process of its name does)
local c = caller_of(2, ARGV[7])
local w = waiter(call('HGET', WAITERS, c.holder))
if not w or w.number ~= c.number then return {'already'} end
local now = clock(ARGV[1])
call('HDEL', WAITERS, c.holder)
call('DEL', 'llm:wake:' .. c.holder)
if c.task ~= '' and c.current then call('HDEL', 'task:' .. c.task, 'reason') end
-- The wake that it may have had goes on.
wake_waiters(slots_in_use(now), now)
return {'left'}
