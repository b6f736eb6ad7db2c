-- Among which tasks an agent may choose: those that share the highest priority.
-- ARGV: now, agent, incarnation, most
-- Reply: tasks, then an id and a spec (JSON) for each, best first
--      | empty                nothing to do; the agent is in the idle set now
--      | held reason until_us as claim.lua replies it
--      | holding              it runs a task already
--      | fenced               a newer incarnation exists, or none
-- Grants nothing. Cost: the first 64 entries of two queues.
local agent = ARGV[2]
local now = clock(ARGV[1])
local r = registration(agent)
if r.incarnation ~= ARGV[3] then return {'fenced'} end
if running_of(agent, r) then return {'holding'} end
local goal, role = r.goal, r['cap:role']
if control_of(agent, r).is_paused then
  pass_wake(goal, role)
  return {'held', 'paused', ''}
end
if call('HGET', 'goal:' .. goal, 'status') ~= 'active' then return nothing_for(agent, r) end

-- For what it is going to take itself nobody else is woken.
deferred = {}
promote(goal, now, PROMOTED_PER_CLAIM)
local held = held_for(agent, r, now)
local most = tonumber(ARGV[4])
local found = heads('dag:' .. goal .. ':ready', held, most)
for _, t in ipairs(heads('dag:' .. goal .. ':ready:' .. role, held, most)) do
  found[#found + 1] = t
end
table.sort(found, function(a, b)
  if a.score ~= b.score then return a.score < b.score end
  return a.id < b.id
end)
wake_deferred(found[1] and found[1].id)
if not found[1] then return nothing_for(agent, r, held) end
unset_idle(agent, goal, role)
local reply = {'tasks'}
for i, t in ipairs(found) do
  if i > most or t.priority ~= found[1].priority then break end
  reply[#reply + 1] = t.id
  reply[#reply + 1] = call('HGET', 'dag:' .. goal .. ':nodes', t.id) or ''
end
return reply
