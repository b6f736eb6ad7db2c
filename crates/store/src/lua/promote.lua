-- Makes delayed tasks claimable whose time has come, and wakes an agent for each.
-- ARGV: now, goal, limit
-- Reply: promoted, when the next is due (microseconds, '' is never), now
local now = clock(ARGV[1])
return {'promoted', promote(ARGV[2], now, ARGV[3]), int(now)}
