-- Keeps the slot of a call under way.
-- ARGV: now, the caller (five words; see caller_of), goal, call, ttl_ms
-- Reply: renewed | lost (another call has it, or the call ended) | fenced
-- One that expired is given again while there is room and nobody waits.
local goal, id = ARGV[7], ARGV[8]
local c = caller_of(2, goal)
if not c.current then return {'fenced'} end
local now = clock(ARGV[1])
local use = slots_in_use(now)
local own = use.held[c.holder]
if own then
  if own.call ~= id or own.number ~= c.number then return {'lost'} end
elseif call('EXISTS', 'llm:call:' .. id) == 1
  or use.count >= (tonumber(call('GET', MOST)) or 1)
  or #waiters_in_order(use, now) > 0 then
  wake_waiters(use, now)
  return {'lost'}
end
keep_slot(c, goal, id, own and own.step or '', now + ARGV[9] * 1000)
return {'renewed'}
