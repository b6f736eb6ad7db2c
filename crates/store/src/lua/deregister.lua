-- An agent leaves in order: its task goes back to READY, its name is free.
-- ARGV: now, agent, incarnation, reason
-- Reply: gone | fenced
-- Again: gone, as long as nobody took the name since.
local agent = ARGV[2]
local now = clock(ARGV[1])
local r = registration(agent)
if r.incarnation == '' and call('HGET', 'agent:' .. agent .. ':status', 'incarnation') == ARGV[3] then
  return {'gone'}
end
if r.incarnation ~= ARGV[3] then return {'fenced'} end
if r.task ~= '' then
  local t = task_of(r.task)
  if standing(t, agent, ARGV[3], r.epoch) == 'hold' then
    call('HSET', 'task:' .. r.task, 'settled', r.epoch)
    hand_back(t, now, 'release', ARGV[4])
  end
end
unset_idle(agent, r.goal, r['cap:role'])
leave_llm(agent, now)
call('DEL', 'agent:' .. agent .. ':registered', 'agent:' .. agent .. ':heartbeat',
  'agent:' .. agent .. ':inbox')
-- A wake may have reached it after its last look.
if r.task == '' then pass_wake(r.goal, r['cap:role']) end
emit('agent-deregister', 'agent', agent, 'incarnation', ARGV[3], 'reason', ARGV[4])
return {'gone'}
