-- Grants an agent the lease of one task.
-- ARGV: now, agent, incarnation, ttl_ms, task ('' is the best one)
-- Reply: granted id epoch attempt generation goal spec last_error
--          session session_provider session_host session_log
--          errors (JSON list) detours_review detours_recovery
--      | empty          nothing to do; the agent is in the idle set now
--      | held reason until_us ('' is unknown)  it may claim nothing now; unless it is
--                       paused it is idle for tasks that need no model
--      | taken id       the wanted task is not claimable by this agent
--      | fenced         a newer incarnation exists, or none
-- Again: an agent that holds a task gets the same grant.
local now = clock(ARGV[1])
local r = registration(ARGV[2])
if r.incarnation ~= ARGV[3] then return {'fenced'} end
return claim_for(ARGV[2], r, now, ARGV[4], ARGV[5])
