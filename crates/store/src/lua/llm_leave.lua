-- A caller gives up a call before it is made: its place in the queue, or the slot that it
-- was granted and never heard of.
-- ARGV: now, the caller (five words; see caller_of), goal, call
-- Reply: left | already (neither is there, or it is another call's or process')
local c = caller_of(2, ARGV[7])
local now = clock(ARGV[1])
local use = slots_in_use(now)
local function is_its(entry)
  return entry and entry.call == ARGV[8] and entry.number == c.number
end
local granted = is_its(use.held[c.holder])
local waits = is_its(waiter(call('HGET', WAITERS, c.holder)))
if not granted and not waits then return {'already'} end
if granted then free_slot(use, c.holder) end
if waits then
  call('HDEL', WAITERS, c.holder)
  call('DEL', 'llm:wake:' .. c.holder)
end
if c.task ~= '' and c.current then call('HDEL', 'task:' .. c.task, 'reason') end
-- The wake that it may have had goes on.
wake_waiters(use, now)
return {'left'}
