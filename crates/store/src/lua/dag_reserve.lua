-- Settles under which ids a goal's tasks are stored: their own, or
-- <goal>.<id> where another goal has the short one already.
-- ARGV: controller, leader_epoch, goal, then the ids
-- Reply: reserved, then a stored id for each | fenced | taken id (both forms are)
-- Again: the same answer. A reservation is a task:<id> hash with nothing but its goal.
if not leads(ARGV[1], ARGV[2]) then return {'fenced'} end
local goal = ARGV[3]
local function owner_of(id) return call('HGET', 'task:' .. id, 'goal') end
local reply = {'reserved'}
for i = 4, #ARGV do
  local id, scoped = ARGV[i], goal .. '.' .. ARGV[i]
  local short, long = owner_of(id), owner_of(scoped)
  -- One that is stored long stays so, also when the short form has become free:
  -- otherwise it would be another task, and run again.
  if short ~= goal and (short or long == goal) then id, short = scoped, long end
  if short and short ~= goal then return {'taken', ARGV[i]} end
  reply[#reply + 1] = id
end
for i = 2, #reply do call('HSET', 'task:' .. reply[i], 'goal', goal) end
return reply
