-- Settles under which ids a goal's tasks are stored: their own, or
-- <goal>.<id> where another goal has the short one already.
-- ARGV: controller, leader_epoch, goal, then the ids
-- Reply: reserved, then a stored id for each | fenced | taken id (both forms are)
-- Again: the same answer. A reservation is a task:<id> hash with nothing but its goal.
if not leads(ARGV[1], ARGV[2]) then return {'fenced'} end
local goal = ARGV[3]
local function owner_of(id) return call('HGET', 'task:' .. id, 'goal') end
local reply, new = {'reserved'}, {}
for i = 4, #ARGV do
  local id, owner = ARGV[i], owner_of(ARGV[i])
  if owner ~= goal then
    -- One that is stored long stays so, also when the short form has become free:
    -- otherwise it would be another task, and run again.
    local scoped = goal .. '.' .. id
    local long = owner_of(scoped)
    if owner or long == goal then id, owner = scoped, long end
  end
  if not owner then
    new[#new + 1] = id
  elseif owner ~= goal then
    return {'taken', ARGV[i]}
  end
  reply[#reply + 1] = id
end
for _, id in ipairs(new) do call('HSET', 'task:' .. id, 'goal', goal) end
return reply
