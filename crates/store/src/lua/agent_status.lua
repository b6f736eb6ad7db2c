-- What the controllers say of an agent, for people.
-- ARGV: controller, leader_epoch, agent, kind (of the event; '' is none), then field
--       and value pairs ('' removes the field)
-- Reply: noted | fenced
if not leads(ARGV[1], ARGV[2]) then return {'fenced'} end
local agent = ARGV[3]
local key = 'agent:' .. agent .. ':status'
local told = note(key, 5)
call('SADD', 'agents', agent)
if ARGV[4] ~= '' then emit(ARGV[4], 'agent', agent, unpack(told)) end
return {'noted'}
