-- Records what is declared of a goal, and how planning it goes, before and
-- beside its plan.
-- ARGV: now, controller, leader_epoch, goal, kind (of the event; '' is none),
--       then field and value pairs ('' removes the field)
-- Reply: noted | fenced
-- A goal that does not exist yet becomes a draft.
if not leads(ARGV[2], ARGV[3]) then return {'fenced'} end
local now = clock(ARGV[1])
local goal, kind = ARGV[4], ARGV[5]
local key = 'goal:' .. goal
if call('HSETNX', key, 'status', 'draft') == 1 then
  call('HSET', key, 'created', iso(now), 'generation', 0)
  call('SADD', 'goals', goal)
  emit('goal-declare', 'goal', goal)
end
local told = note(key, 6)
if kind == 'goal-plan-failed' then
  alert(kind, goal, call('HGET', key, 'plan_error') or '')
end
if kind ~= '' then emit(kind, 'goal', goal, unpack(told)) end
return {'noted'}
