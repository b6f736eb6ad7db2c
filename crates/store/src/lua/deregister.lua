-- An agent leaves in order: its task goes back to READY, its name is free.
-- ARGV: now, agent, incarnation, reason
-- Reply: gone | fenced
local agent = ARGV[2]
local now = clock(ARGV[1])
local r = registration(agent)
if r.incarnation ~= ARGV[3] then return {'fenced'} end
if r.task ~= '' then
  local t = task_of(r.task)
  if standing(t, agent, ARGV[3], r.epoch) == 'hold' then
    call('HSET', 'task:' .. r.task, 'settled', r.epoch)
    hand_back(t, now, 'release', ARGV[4])
  end
end
unset_idle(agent, r.goal, r['cap:role'])
call('DEL', 'agent:' .. agent .. ':registered', 'agent:' .. agent .. ':heartbeat',
  'agent:' .. agent .. ':inbox')
-- A wake may have reached it after its last look.
if call('EXISTS', 'dag:' .. r.goal .. ':ready:' .. r['cap:role']) == 1 then
  wake_one(r.goal, r['cap:role'])
elseif call('EXISTS', 'dag:' .. r.goal .. ':ready') == 1 then
  wake_one(r.goal, '')
end
emit('agent-deregister', 'agent', agent, 'incarnation', ARGV[3], 'reason', ARGV[4])
return {'gone'}
