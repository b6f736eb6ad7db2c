-- Settles under which ids a goal's tasks are stored: their own, or
-- <goal>.<id> where another goal has the short one already.
-- ARGV: controller, leader_epoch, goal, then the ids
-- Reply: reserved, then a stored id for each | fenced | taken id (both forms are)
-- Again: the same answer. A reservation is a task:<id> hash with nothing but its goal.
if not leads(ARGV[1], ARGV[2]) then return {'fenced'} end
local goal = ARGV[3]
local function available(id)
  local owner = call('HGET', 'task:' .. id, 'goal')
  return not owner or owner == goal
end
local reply = {'reserved'}
for i = 4, #ARGV do
  local id, scoped = ARGV[i], goal .. '.' .. ARGV[i]
  -- One that is stored long stays so, also when the short form has become free:
  -- otherwise it would be another task, and run again.
  local short_is_ours = call('HGET', 'task:' .. id, 'goal') == goal
  local long_is_ours = call('HGET', 'task:' .. scoped, 'goal') == goal
  if not available(id) or (long_is_ours and not short_is_ours) then id = scoped end
  if not available(id) then return {'taken', ARGV[i]} end
  reply[#reply + 1] = id
end
for i = 2, #reply do call('HSET', 'task:' .. reply[i], 'goal', goal) end
return reply
