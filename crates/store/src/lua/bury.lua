-- The agent controller saw an incarnation dead: its lease ends now, not after
-- the TTL, and its name is free.
-- ARGV: now, controller, leader_epoch, agent, incarnation, reason,
--       beat ('' is any; else as it was seen, where only silence tells of the death)
-- Reply: buried task ('' is none) | already (another incarnation, none, or it beats) | fenced
local agent = ARGV[4]
if not leads(ARGV[2], ARGV[3]) then return {'fenced'} end
local now = clock(ARGV[1])
local r = registration(agent)
if r.incarnation ~= ARGV[5] then return {'already'} end
if ARGV[7] ~= '' and call('HGET', 'agent:' .. agent .. ':registered', 'beat') ~= ARGV[7] then
  return {'already'}
end
local task = lose_task_of(agent, now, ARGV[6])
unset_idle(agent, r.goal, r['cap:role'])
leave_llm(agent, now)
call('DEL', 'agent:' .. agent .. ':registered', 'agent:' .. agent .. ':heartbeat')
-- One that ran nothing may have died with a wake.
if task == '' then pass_wake(r.goal, r['cap:role']) end
emit('agent-death', 'agent', agent, 'incarnation', ARGV[5], 'task', task, 'reason', ARGV[6])
return {'buried', task}
